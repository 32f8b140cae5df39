//! Tokens: what is in them, and that nothing but a token of ours that is valid now opens anything.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails here fails the test")]

mod logged;
mod service;

use std::time::Duration;

use actlog_core::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use logged::Log;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _,
};
use serde_json::{Value, json};
use service::{CLIENT, FEED, LOGIN, SECRET, Service, TENANT, error, feed, json};

const OTHER_TENANT: &str = "99999999-9999-9999-9999-999999999999";
const HOUR: Duration = Duration::from_secs(3600);

/// Parts of a token, decoded.
fn parts(token: &str) -> (Value, Value, Vec<u8>) {
    let parts: Vec<Vec<u8>> = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
    let [header, claims, signature] = &parts[..] else { panic!("{} parts", parts.len()) };
    (serde_json::from_slice(header).unwrap(), serde_json::from_slice(claims).unwrap(), signature.clone())
}

/// Puts a token together out of texts.
fn token(header: &str, claims: &str, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = sign(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// The service's own private keys, the newest last.
fn private_keys(service: &Service) -> Vec<Vec<u8>> {
    let file: Value = serde_json::from_slice(&service.stored("sinks/office/keys.json")).unwrap();
    let keys = file["keys"].as_array().unwrap().iter();
    keys.map(|key| STANDARD.decode(key["private"].as_str().unwrap()).unwrap()).collect()
}

fn pair(pkcs8: &[u8], algorithm: &'static EcdsaSigningAlgorithm) -> EcdsaKeyPair {
    EcdsaKeyPair::from_pkcs8(algorithm, pkcs8, &SystemRandom::new()).unwrap()
}

fn sign(pair: &EcdsaKeyPair, message: &[u8]) -> Vec<u8> {
    pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
}

/// Asks for a listing of subscriptions with that `Authorization`.
async fn list(service: &Service, authorization: &str) -> u16 {
    let headers = [("Authorization", authorization)];
    let answer = service.send(FEED, "GET", &feed("subscriptions/list"), &headers, b"").await.unwrap();
    if answer.status == 401 {
        assert_eq!(json(&answer), json!({ "Message": "Authorization has been denied for this request." }));
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    answer.status
}

#[tokio::test]
async fn a_token_has_the_claims_of_microsofts() {
    let service = Service::start("").await;
    let (header, claims, signature) = parts(&service.token_of(TENANT, CLIENT).await);
    assert_eq!((&header["typ"], &header["alg"]), (&json!("JWT"), &json!("ES256")));
    assert_eq!(signature.len(), 64);
    let now = Timestamp::parse(service::NOW).unwrap().unix_milliseconds() / 1000;
    let issuer = format!("https://sts.windows.net/{TENANT}/");
    for (claim, value) in [
        ("aud", json!("https://manage.office.com")),
        ("iss", json!(issuer)),
        ("idp", json!(issuer)),
        ("iat", json!(now)),
        ("nbf", json!(now)),
        ("exp", json!(now + 3600)),
        ("tid", json!(TENANT)),
        ("appid", json!(CLIENT)),
        ("appidacr", json!("1")),
        ("roles", json!(["ActivityFeed.Read", "ActivityFeed.ReadDlp"])),
        ("ver", json!("1.0")),
    ] {
        assert_eq!(claims[claim], value, "{claim}");
    }
    assert_eq!(claims["sub"], claims["oid"]);
    // The public key that the service shows is the one that the token names.
    let keys = json(&service.send(LOGIN, "GET", "/common/discovery/v2.0/keys", &[], b"").await.unwrap());
    assert_eq!(keys["keys"][0]["kid"], header["kid"]);
    assert_eq!(keys["keys"][0]["crv"], "P-256");
    let text = keys.to_string();
    assert!(!text.contains("\"d\""), "the private half is shown: {text}");
}

#[tokio::test]
async fn a_token_that_was_tampered_with_opens_nothing_and_is_logged() {
    let service = Service::start("").await;
    let good = service.token_of(TENANT, CLIENT).await;
    let (header, claims, _) = parts(&good);
    let own = pair(private_keys(&service).last().unwrap(), &ECDSA_P256_SHA256_FIXED_SIGNING);
    let der = pair(private_keys(&service).last().unwrap(), &ECDSA_P256_SHA256_ASN1_SIGNING);
    let foreign = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    let foreign = pair(foreign.as_ref(), &ECDSA_P256_SHA256_FIXED_SIGNING);
    let now = claims["iat"].as_i64().unwrap();
    let with = |mut value: Value, key: &str, new: Value| {
        value[key] = new;
        value.to_string()
    };
    let claimed =
        |key: &str, new: Value| token(&header.to_string(), &with(claims.clone(), key, new), |m| sign(&own, m));
    let headed = |key: &str, new: Value| token(&with(header.clone(), key, new), &claims.to_string(), |m| sign(&own, m));
    let by_hmac = |key: &[u8]| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        token(&with(header.clone(), "alg", json!("HS256")), &claims.to_string(), |message| {
            hmac::sign(&key, message).as_ref().to_vec()
        })
    };
    let mut other_tenant = claims.clone();
    other_tenant["tid"] = json!(OTHER_TENANT);
    other_tenant["iss"] = json!(format!("https://sts.windows.net/{OTHER_TENANT}/"));
    let doubled = |json: &Value, extra: &str| json.to_string().replacen('{', &format!("{{{extra},"), 1);
    let signed_own = |header: &str, claims: &str| token(header, claims, |message| sign(&own, message));
    let (header_text, claims_text) = (header.to_string(), claims.to_string());
    let without_kid = {
        let mut header = header.clone();
        header.as_object_mut().unwrap().remove("kid");
        header.to_string()
    };
    let signature_of_good = &good[good.rfind('.').unwrap()..];
    let cases: Vec<(&str, String, &str)> = vec![
        ("alg none", token(&with(header.clone(), "alg", json!("none")), &claims_text, |_| Vec::new()), "algorithm"),
        ("alg none, signed", headed("alg", json!("none")), "algorithm"),
        ("alg None", headed("alg", json!("None")), "algorithm"),
        ("alg RS256", headed("alg", json!("RS256")), "algorithm"),
        ("HS256 with the public key", by_hmac(own.public_key().as_ref()), "algorithm"),
        ("HS256 with x and y", by_hmac(&own.public_key().as_ref()[1..]), "algorithm"),
        ("alg is no text", headed("alg", json!(["ES256"])), "header"),
        ("ES256, another's key", token(&header_text, &claims_text, |message| sign(&foreign, message)), "signature"),
        ("the signature in DER", token(&header_text, &claims_text, |message| sign(&der, message)), "signature"),
        ("a signature of zeros", token(&header_text, &claims_text, |_| vec![0; 64]), "signature"),
        ("no signature", token(&header_text, &claims_text, |_| Vec::new()), "signature"),
        (
            "another's signature",
            format!("{}{signature_of_good}", {
                let other = claimed("exp", json!(now + 999_999));
                other[..other.rfind('.').unwrap()].to_owned()
            }),
            "signature",
        ),
        ("kid of nobody", headed("kid", json!("AAAA")), "key"),
        ("kid that is a path", headed("kid", json!("../../../../dev/null")), "key"),
        ("no kid", signed_own(&without_kid, &claims_text), "header"),
        ("a key of its own", headed("jwk", json!({ "kty": "EC" })), "header"),
        ("an extension that must be known", headed("crit", json!(["exp"])), "header"),
        ("another audience", claimed("aud", json!("https://graph.microsoft.com")), "interface"),
        (
            "an audience that begins like ours",
            claimed("aud", json!("https://manage.office.com.evil.example")),
            "interface",
        ),
        ("several audiences", claimed("aud", json!(["https://manage.office.com"])), "claims"),
        ("expired", claimed("exp", json!(now)), "expired"),
        ("expired long ago", claimed("exp", json!(i64::MIN)), "expired"),
        ("an end that is no number", claimed("exp", json!("9999999999")), "claims"),
        (
            "an end beyond all numbers",
            signed_own(&header_text, &claims_text.replace(&(now + 3600).to_string(), "1e999")),
            "claims",
        ),
        ("not valid yet", claimed("nbf", json!(now + 3600)), "not valid yet"),
        ("another issuer", claimed("iss", json!(format!("https://sts.windows.net/{OTHER_TENANT}/"))), "issuer"),
        ("another tenant", signed_own(&header_text, &other_tenant.to_string()), "not registered"),
        ("another client", claimed("appid", json!(OTHER_TENANT)), "not registered"),
        ("another registration", claimed("oid", json!(OTHER_TENANT)), "not registered"),
        ("a role that doesn't exist", claimed("roles", json!(["ActivityFeed.ReadAll"])), "claims"),
        (
            "the tenant twice",
            signed_own(&header_text, &doubled(&claims, &format!("\"tid\":\"{OTHER_TENANT}\""))),
            "claims",
        ),
        ("the end twice", signed_own(&header_text, &doubled(&claims, "\"exp\":9999999999")), "claims"),
        ("the algorithm twice", signed_own(&doubled(&header, "\"alg\":\"none\""), &claims_text), "header"),
        ("a claim more", claimed("admin", json!(true)), "claims"),
        ("claims that are a list", signed_own(&header_text, "[]"), "claims"),
        ("claims that are nothing", signed_own(&header_text, ""), "claims"),
        ("no text", String::new(), "bearer"),
        ("dots", "..".to_owned(), "header"),
        ("padding", format!("{good}="), "three parts"),
        ("a part more", format!("{good}.e30"), "three parts"),
        ("huge", format!("{}.{}", "A".repeat(14_000), good), "three parts"),
    ];
    let log = Log::begin();
    assert_eq!(list(&service, &format!("Bearer {good}")).await, 200);
    assert_eq!(list(&service, &format!("bearer {good}")).await, 200);
    assert!(!log.take().contains("refused"));
    for (what, forged, reason) in cases {
        assert_eq!(list(&service, &format!("Bearer {forged}")).await, 401, "{what}");
        let logged = log.take();
        assert!(logged.contains("a token is refused") && logged.contains(reason), "{what}: {logged}");
        assert!(
            forged.len() < 20 || !logged.contains(&forged[forged.len() - 20..]),
            "{what}: the token is in {logged}"
        );
    }
    for authorization in ["", "Bearer", "Basic YTpi", &format!("Basic {good}"), &format!("Bearer{good}"), &good] {
        assert_eq!(list(&service, authorization).await, 401, "{authorization}");
        assert!(log.take().contains("a token is refused"), "{authorization}");
    }
    let twice = [("Authorization", format!("Bearer {good}")), ("Authorization", format!("Bearer {good}"))];
    let twice = twice.each_ref().map(|(name, value)| (*name, value.as_str()));
    let answer = service.send(FEED, "GET", &feed("subscriptions/list"), &twice, b"").await.unwrap();
    assert_eq!(answer.status, 401);
}

#[tokio::test]
async fn no_byte_of_a_token_may_be_missing_or_another() {
    let service = Service::start("").await;
    let good = service.token_of(TENANT, CLIENT).await;
    for length in (0..good.len()).step_by(7) {
        assert_eq!(list(&service, &format!("Bearer {}", &good[..length])).await, 401, "cut to {length}");
    }
    for place in (0..good.len()).step_by(5) {
        let mut bytes = good.clone().into_bytes();
        bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert_eq!(list(&service, &format!("Bearer {changed}")).await, 401, "changed at {place}");
    }
    assert_eq!(list(&service, &format!("Bearer {good}")).await, 200);
    // More than any header may have is refused before anybody looks at it.
    assert_eq!(list(&service, &format!("Bearer {}", "A".repeat(200_000))).await, 431);
}

#[tokio::test]
async fn a_token_is_good_for_its_tenant_its_roles_and_its_time() {
    let service = Service::with_roles("", &["ActivityFeed.ReadDlp"]).await;
    let client = service.client().await;
    let answer =
        client.ask("GET", &format!("/api/v1.0/{OTHER_TENANT}/activity/feed/subscriptions/list"), &[], b"").await;
    assert_eq!(error(&answer).1, "AF20010");
    let answer = client.post("subscriptions/start?contentType=Audit.General", "").await;
    assert_eq!(error(&answer), (401, "AF10001".to_owned()));
    let words =
        "The permission set (ActivityFeed.ReadDlp) sent in the request does not include the expected permission.";
    assert_eq!(json(&answer)["error"]["message"], words);
    client.subscribe("DLP.All").await;
    service.clock.advance(HOUR - Duration::from_secs(1));
    assert_eq!(client.get("subscriptions/list").await.status, 200);
    service.clock.advance(Duration::from_secs(1));
    assert_eq!(client.get("subscriptions/list").await.status, 401);
}

#[tokio::test]
async fn a_revoked_clients_tokens_are_refused_at_once_and_stay_refused() {
    let service = Service::start("").await;
    let client = service.client().await;
    assert_eq!(client.get("subscriptions/list").await.status, 200);
    assert!(service.clients(&["revoke", "--client", CLIENT]));
    assert_eq!(client.get("subscriptions/list").await.status, 401);
    assert!(!service.clients(&["revoke", "--client", CLIENT]), "revoked twice");
    assert_eq!(service.ask_for_token(TENANT, CLIENT, SECRET).await.status, 400);
    // The same id, registered anew, is another registration.
    service.register(TENANT, CLIENT, SECRET, &["ActivityFeed.Read"]);
    assert_eq!(client.get("subscriptions/list").await.status, 401);
    assert_eq!(service.client().await.get("subscriptions/list").await.status, 200);
}

#[tokio::test]
async fn a_key_verifies_until_its_last_token_has_expired_and_no_longer() {
    let mut service = Service::start("key_rotation = \"2 hours\"").await;
    let key_ids = async |service: &Service| {
        let keys = json(&service.send(LOGIN, "GET", "/common/discovery/keys", &[], b"").await.unwrap());
        let ids = keys["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned());
        ids.collect::<Vec<_>>()
    };
    let first = service.token_of(TENANT, CLIENT).await;
    assert_eq!(key_ids(&service).await.len(), 1);
    service.clock.advance(2 * HOUR - Duration::from_secs(60));
    let last_of_first = service.token_of(TENANT, CLIENT).await;
    assert_eq!(parts(&first).0, parts(&last_of_first).0);
    service.clock.advance(Duration::from_secs(60));
    let second = service.token_of(TENANT, CLIENT).await;
    assert_ne!(parts(&first).0["kid"], parts(&second).0["kid"]);
    // A restart forgets no key.
    service.stop().await;
    service.run().await;
    assert_eq!(key_ids(&service).await.len(), 2);
    for (token, status) in [(&first, 401), (&last_of_first, 200), (&second, 200)] {
        assert_eq!(list(&service, &format!("Bearer {token}")).await, status);
    }
    // With the next key the first is gone, and its private half too.
    service.clock.advance(2 * HOUR);
    let third = service.token_of(TENANT, CLIENT).await;
    let ids = key_ids(&service).await;
    assert_eq!((ids.len(), private_keys(&service).len()), (2, 2));
    assert!(!ids.contains(&parts(&first).0["kid"].as_str().unwrap().to_owned()));
    assert_eq!(list(&service, &format!("Bearer {third}")).await, 200);
}

#[tokio::test]
async fn libraries_find_the_endpoints_by_discovery() {
    let service = Service::start("").await;
    let get = async |target: &str| json(&service.send(LOGIN, "GET", target, &[], b"").await.unwrap());
    let base = "https://login.microsoftonline.com";
    let found = get(&format!("/{TENANT}/v2.0/.well-known/openid-configuration")).await;
    assert_eq!(found["token_endpoint"], format!("{base}/{TENANT}/oauth2/v2.0/token"));
    assert_eq!(found["issuer"], format!("{base}/{TENANT}/v2.0"));
    assert_eq!(found["jwks_uri"], format!("{base}/{TENANT}/discovery/v2.0/keys"));
    assert!(found["authorization_endpoint"].is_string());
    let found = get("/contoso.onmicrosoft.com/.well-known/openid-configuration").await;
    assert_eq!(found["token_endpoint"], format!("{base}/contoso.onmicrosoft.com/oauth2/token"));
    assert_eq!(found["issuer"], format!("https://sts.windows.net/{TENANT}/"));
    let asked = format!("{base}/{TENANT}/oauth2/authorize");
    let found = get(&format!("/common/discovery/instance?api-version=1.0&authorization_endpoint={asked}")).await;
    assert_eq!(found["tenant_discovery_endpoint"], format!("{base}/{TENANT}/v2.0/.well-known/openid-configuration"));
    assert_eq!(
        get(&format!("/{OTHER_TENANT}/v2.0/.well-known/openid-configuration")).await["error_codes"],
        json!([90002])
    );
}
