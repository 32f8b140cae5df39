//! What libraries ask an authority for before they ask it for a token: its endpoints, its keys, its names.

use actlog_http::oauth::Endpoint;
use actlog_http::{Response, json};
use hyper::StatusCode;
use serde_json::json;
use uuid::Uuid;

use super::keys::PublicKey;

/// The OpenID configuration (OpenID Connect Discovery 1.0, 3). `tenant` is as the client wrote it: the endpoints are to
/// have the same spelling.
pub(super) fn openid_configuration(endpoint: Endpoint, tenant: &str, id: Uuid, base: &str) -> Response {
    let (version, keys, issuer) = match endpoint {
        Endpoint::V1 => ("", "discovery/keys", format!("https://sts.windows.net/{id}/")),
        Endpoint::V2 => ("v2.0/", "discovery/v2.0/keys", format!("{base}/{id}/v2.0")),
    };
    let body = json!({
        "token_endpoint": format!("{base}/{tenant}/oauth2/{version}token"),
        "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic", "private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": ["RS256", "PS256", "ES256"],
        "jwks_uri": format!("{base}/{tenant}/{keys}"),
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": ["token"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "scopes_supported": ["openid"],
        "issuer": issuer,
        // Nobody signs in here as a person, but libraries refuse a configuration without this.
        "authorization_endpoint": format!("{base}/{tenant}/oauth2/{version}authorize"),
        "tenant_region_scope": null,
    });
    json(StatusCode::OK, &body)
}

/// The public keys (RFC 7517).
pub(super) fn keys(keys: &[PublicKey]) -> Response {
    json(StatusCode::OK, &json!({ "keys": keys }))
}

/// Which hosts are one authority: the one that was asked, and no other.
pub(super) fn instances(base: &str, tenant: Uuid) -> Response {
    let host = base.split_once("://").map_or(base, |(_, host)| host);
    let metadata = json!([{ "preferred_network": host, "preferred_cache": host, "aliases": [host] }]);
    let body = json!({
        "tenant_discovery_endpoint": format!("{base}/{tenant}/v2.0/.well-known/openid-configuration"),
        "api-version": "1.1",
        "metadata": metadata,
    });
    json(StatusCode::OK, &body)
}
