//! Tokens, against a token endpoint that answers as Entra does.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod peer;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actlog_core::{Application, SecretReference};
use actlog_http::client::ClientError;
use actlog_http::oauth::{Endpoint, TokenError, TokenSource};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use peer::{Answer, Peer, Seen, http, local_client};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

const TENANT: &str = "8f1b6a52-6f4d-4c8e-9b57-3f2f1f0f9c11";
const CLIENT: &str = "6f0b1c7e-2d1c-4f9a-9a55-0f0c2f6f5d11";
const RESOURCE: &str = "https://manage.office.com";
const PKCS8: &str = include_str!("data/rsa-key.pkcs8.pem");
const PKCS1: &str = include_str!("data/rsa-key.pkcs1.pem");

fn application(peer: &Peer) -> Application {
    Application {
        client_id: CLIENT.parse().unwrap(),
        secret: Some(SecretReference::File("secret".into())),
        certificate: None,
        key: None,
        authority: format!("{}/", peer.url("http", "")),
    }
}

fn source(peer: &Peer, endpoint: Endpoint, folder: &Path) -> TokenSource {
    TokenSource::new(local_client(), TENANT, &application(peer), endpoint, RESOURCE, folder).unwrap()
}

fn folder_with(secret: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret"), secret).unwrap();
    folder
}

/// A token endpoint that gives `token-1`, `token-2`, …, each for an hour.
async fn entra() -> Peer {
    let given = AtomicUsize::new(0);
    Peer::start(None, move |_| {
        let number = given.fetch_add(1, Ordering::SeqCst) + 1;
        http("200 OK", "", format!(r#"{{"token_type":"Bearer","expires_in":"3599","access_token":"token-{number}"}}"#))
    })
    .await
}

async fn token(source: &TokenSource) -> String {
    String::from_utf8(source.token().await.unwrap().expose().to_vec()).unwrap()
}

fn form(seen: &Seen) -> BTreeMap<String, String> {
    form_urlencoded::parse(seen.body.as_bytes()).into_owned().collect()
}

#[tokio::test]
async fn both_endpoints_are_asked_as_they_want_it() {
    let secret = "a+b%41&c=d é~";
    let (peer, folder) = (entra().await, folder_with(&format!("{secret}\n")));
    token(&source(&peer, Endpoint::V1, folder.path())).await;
    token(&source(&peer, Endpoint::V2, folder.path())).await;
    let requests = peer.requests();
    let paths = requests.iter().map(|seen| seen.head.split(' ').nth(1).unwrap()).collect::<Vec<_>>();
    assert_eq!(paths, [format!("/{TENANT}/oauth2/token"), format!("/{TENANT}/oauth2/v2.0/token")]);
    for (seen, (name, value)) in
        requests.iter().zip([("resource", RESOURCE), ("scope", "https://manage.office.com/.default")])
    {
        assert!(seen.head.starts_with("POST "), "{}", seen.head);
        let expected =
            [("client_id", CLIENT), ("client_secret", secret), ("grant_type", "client_credentials"), (name, value)];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(form(seen), BTreeMap::from(expected));
    }
}

#[tokio::test]
async fn one_request_serves_everybody_until_the_token_nears_its_end() {
    let (peer, folder) = (entra().await, folder_with("s"));
    let source = source(&peer, Endpoint::V2, folder.path());
    let asking: Vec<_> = (0..20)
        .map(|_| {
            tokio::spawn({
                let source = source.clone();
                async move { token(&source).await }
            })
        })
        .collect();
    for answer in asking {
        assert_eq!(answer.await.unwrap(), "token-1");
    }
    advance(Duration::from_secs(54 * 60)).await;
    assert_eq!(token(&source).await, "token-1");
    advance(Duration::from_secs(2 * 60)).await;
    assert_eq!(token(&source).await, "token-2");
    assert_eq!(peer.requests().len(), 2);
}

/// Moves tokio's clock on; it runs by itself before and after, so that sockets are waited for as usual.
async fn advance(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_token_that_was_refused_is_given_up_once() {
    let (peer, folder) = (entra().await, folder_with("s"));
    let source = source(&peer, Endpoint::V2, folder.path());
    let first = source.token().await.unwrap();
    source.forget(&first);
    assert_eq!(token(&source).await, "token-2");
    // Somebody who was slower with the same news.
    source.forget(&first);
    assert_eq!(token(&source).await, "token-2");
}

#[tokio::test]
async fn a_new_secret_is_used_without_a_restart() {
    let (peer, folder) = (entra().await, folder_with("old"));
    let source = source(&peer, Endpoint::V2, folder.path());
    let first = source.token().await.unwrap();
    fs::write(folder.path().join("secret"), "new").unwrap();
    source.forget(&first);
    source.token().await.unwrap();
    let secrets: Vec<_> = peer.requests().iter().map(|seen| form(seen)["client_secret"].clone()).collect();
    assert_eq!(secrets, ["old", "new"]);
    // One that has gone is said where it is looked for.
    fs::remove_file(folder.path().join("secret")).unwrap();
    advance(Duration::from_secs(7200)).await;
    let error = source.token().await.unwrap_err();
    assert!(error.is_permanent() && error.to_string().contains("secret.file"), "{error}");
}

#[tokio::test]
async fn while_a_token_is_valid_a_renewal_that_fails_does_no_harm() {
    let works = Arc::new(AtomicUsize::new(1));
    let peer = Peer::start(None, {
        let works = Arc::clone(&works);
        move |_| match works.load(Ordering::SeqCst) {
            0 => http("503 Service Unavailable", "retry-after: 9\r\n", ""),
            _ => http("200 OK", "", r#"{"access_token":"the-token","expires_in":3600}"#),
        }
    })
    .await;
    let folder = folder_with("s");
    let source = source(&peer, Endpoint::V2, folder.path());
    token(&source).await;
    works.store(0, Ordering::SeqCst);
    advance(Duration::from_secs(56 * 60)).await;
    assert_eq!(token(&source).await, "the-token");
    assert_eq!(token(&source).await, "the-token");
    assert_eq!(peer.requests().len(), 2, "a renewal that failed is not tried again at once");
    advance(Duration::from_secs(5 * 60)).await;
    let error = source.token().await.unwrap_err();
    let TokenError::Unavailable { status: 503, retry_after } = error else { panic!("{error:?}") };
    assert!(!error.is_permanent() && retry_after == Some(Duration::from_secs(9)));
}

/// A certificate of the key, in PEM and DER.
fn certificate(key: &str) -> (String, CertificateDer<'static>) {
    let key = rcgen::KeyPair::from_pem(key).unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["actlog".to_owned()]).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), certificate.der().clone())
}

fn with_certificate(peer: &Peer) -> Application {
    Application {
        secret: None,
        certificate: Some("app.pem".into()),
        key: Some(SecretReference::File("app.key".into())),
        ..application(peer)
    }
}

#[tokio::test]
async fn a_certificate_proves_the_application_by_a_signature_that_its_public_key_confirms() {
    let (peer, folder) = (entra().await, tempfile::tempdir().unwrap());
    let (pem, der) = certificate(PKCS8);
    fs::write(folder.path().join("app.pem"), pem).unwrap();
    for (key, endpoint) in [(PKCS8, Endpoint::V2), (PKCS1, Endpoint::V1)] {
        fs::write(folder.path().join("app.key"), key).unwrap();
        let application = with_certificate(&peer);
        let source =
            TokenSource::new(local_client(), "contoso.example", &application, endpoint, RESOURCE, folder.path());
        source.unwrap().token().await.unwrap();
    }
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from_pem_slice(PKCS8.as_bytes()).unwrap();
    let key = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap();
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public().as_ref());
    let requests = peer.requests();
    let mut ids = Vec::new();
    for (seen, path) in requests.iter().zip(["oauth2/v2.0/token", "oauth2/token"]) {
        let form = form(seen);
        assert_eq!(form["client_assertion_type"], "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
        assert_eq!((form["client_id"].as_str(), form.get("client_secret")), (CLIENT, None));
        let (signed, signature) = form["client_assertion"].rsplit_once('.').unwrap();
        public.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        let read = |part: &str| -> serde_json::Value {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
        };
        let thumbprint = |algorithm| URL_SAFE_NO_PAD.encode(ring::digest::digest(algorithm, &der));
        let expected = serde_json::json!({
            "alg": "RS256",
            "typ": "JWT",
            "x5t": thumbprint(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY),
            "x5t#S256": thumbprint(&ring::digest::SHA256),
        });
        assert_eq!(read(header), expected);
        let claims = read(claims);
        assert_eq!((&claims["iss"], &claims["sub"]), (&CLIENT.into(), &CLIENT.into()));
        assert_eq!(claims["aud"], peer.url("http", &format!("/contoso.example/{path}")));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let (from, to) = (claims["nbf"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
        assert!(from <= now && now < to && to - from == 600, "{claims}");
        ids.push(claims["jti"].clone());
    }
    assert!(ids.len() == 2 && ids[0] != ids[1], "{ids:?}");
}

#[tokio::test]
async fn what_cannot_prove_anything_is_refused_at_its_key() {
    let (peer, folder) = (entra().await, tempfile::tempdir().unwrap());
    let elliptic = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\ncanary\n-----END ENCRYPTED PRIVATE KEY-----\n";
    fs::write(folder.path().join("app.pem"), certificate(PKCS8).0).unwrap();
    let build = |application: &Application, tenant: &str| {
        let source = TokenSource::new(local_client(), tenant, application, Endpoint::V2, RESOURCE, folder.path());
        let error = source.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
        (error.path, error.message)
    };
    let by_certificate = with_certificate(&peer);
    for (key, reason) in [
        ("canary", "no private key"),
        (encrypted, "encrypted"),
        (&elliptic, "RSA"),
        ("-----BEGIN PRIVATE KEY-----\nY2FuYXJ5\n-----END PRIVATE KEY-----\n", "RSA"),
    ] {
        fs::write(folder.path().join("app.key"), key).unwrap();
        let (path, message) = build(&by_certificate, TENANT);
        assert!(path == "key" && message.contains(reason), "{path}: {message}");
    }
    // A certificate that was renewed before its key.
    fs::write(folder.path().join("app.key"), PKCS8).unwrap();
    fs::write(folder.path().join("app.pem"), certificate(&elliptic).0).unwrap();
    assert_eq!(
        build(&by_certificate, TENANT),
        ("key".into(), "is not the private key of the certificate; replace both together".into())
    );
    fs::remove_file(folder.path().join("app.pem")).unwrap();
    assert_eq!(build(&by_certificate, TENANT).0, "certificate");
    assert_eq!(build(&application(&peer), TENANT).0, "secret.file");
    fs::write(folder.path().join("secret"), "s").unwrap();
    for tenant in ["", "a/b", "a?b", "..%2f"] {
        assert_eq!(build(&application(&peer), tenant).0, "tenant");
    }
    assert_eq!(build(&Application { authority: "nowhere".into(), ..application(&peer) }, TENANT).0, "authority");
    assert!(peer.requests().is_empty());
}

#[tokio::test]
async fn a_refusal_says_what_to_do_and_nothing_that_the_endpoint_wrote() {
    let cases = [
        (7_000_215, "the secret's value"),
        (7_000_222, "expired"),
        (700_016, "client_id"),
        (700_024, "clock"),
        (700_027, "certificate"),
        (90_002, "no such tenant"),
        (900_023, "neither an id nor a domain"),
        (50_034, "does not exist"),
        (53_003, "conditional access"),
        (4_711, "Microsoft's list"),
    ];
    for with_list in [true, false] {
        for (code, advice) in cases {
            let codes = if with_list { format!(r#","error_codes":[{code}]"#) } else { String::new() };
            let body = format!(
                r#"{{"error":"invalid_client","error_description":"AADSTS{code}: canary. Trace ID: 1"{codes}}}"#
            );
            let error = refusal(http("401 Unauthorized", "", body)).await;
            assert!(error.is_permanent(), "{error:?}");
            let text = error.to_string();
            assert!(text.contains(&format!("AADSTS{code}")) && text.contains(advice), "{text}");
        }
    }
    let unknown = refusal(http("403 Forbidden", "", "<html>canary</html>")).await;
    assert!(unknown.is_permanent() && unknown.to_string().contains("403"), "{unknown}");
}

#[tokio::test]
async fn what_passes_by_itself_is_not_taken_for_a_refusal() {
    for (answer, is_unavailable) in [
        (http("429 Too Many Requests", "retry-after: 5\r\n", "canary"), true),
        (http("500 Internal Server Error", "", "canary"), true),
        (http("400 Bad Request", "", r#"{"error_codes":[90033],"error_description":"canary"}"#), true),
        (http("200 OK", "", "canary"), false),
        (http("200 OK", "", r#"{"access_token":""}"#), false),
        (http("200 OK", "", r#"{"access_token":5,"x":"canary"}"#), false),
        (Answer::Whole(b"canary\r\n\r\n".to_vec()), false),
    ] {
        let error = refusal(answer).await;
        assert!(!error.is_permanent(), "{error:?}");
        assert_eq!(matches!(error, TokenError::Unavailable { .. }), is_unavailable, "{error:?}");
    }
}

#[tokio::test]
async fn a_token_that_no_header_can_hold_fails_when_it_is_used() {
    let peer = Peer::start(None, |_| http("200 OK", "", r#"{"access_token":"can\nary"}"#)).await;
    let folder = folder_with("s");
    let token = source(&peer, Endpoint::V2, folder.path()).token().await.unwrap();
    let request = actlog_http::client::Request::get(peer.url("http", "/")).bearer(&token);
    let error = local_client().send(request).await.unwrap_err();
    assert!(matches!(error, ClientError::Request { .. }) && !error.to_string().contains("ary"), "{error}");
}

/// What comes of asking an endpoint that gives this answer, with the secret `hunter2`.
async fn refusal(answer: Answer) -> TokenError {
    let Answer::Whole(bytes) = answer else { panic!("answers that never end are the client's matter") };
    let peer = Peer::start(None, move |_| Answer::Whole(bytes.clone())).await;
    let folder = folder_with("hunter2");
    let source = source(&peer, Endpoint::V2, folder.path());
    let error = source.token().await.unwrap_err();
    let shown = format!("{error} {error:?} {source:?}");
    assert!(!shown.contains("canary") && !shown.contains("hunter2"), "{shown}");
    error
}
