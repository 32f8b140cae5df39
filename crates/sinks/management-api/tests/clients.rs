//! Registered clients: their secrets and certificates, and who only says that he is one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails here fails the test")]

mod logged;
mod service;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::time::Duration;

use actlog_core::config::Application;
use actlog_core::{SecretReference, Status};
use actlog_http::client::{Client as HttpClient, ClientConfig};
use actlog_http::oauth::{Endpoint, TokenSource};
use actlog_testkit::http::Response;
use actlog_testkit::process::wait_until;
use actlog_testkit::skip;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use logged::Log;
use rcgen::{CertificateParams, KeyPair};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
};
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use service::{CLIENT, FEED, LOGIN, SECRET, Service, TENANT, feed, json};

const OTHER: &str = "99999999-9999-9999-9999-999999999999";
const RSA_KEY: &str = include_str!("data/rsa-key.pkcs8.pem");
const DAY: Duration = Duration::from_secs(86_400);

/// Status and Entra's code of an answer without a token; 200 and 0 of one with.
fn outcome(answer: &Response) -> (u16, u64) {
    let body = json(answer);
    if answer.status == 200 {
        assert!(body["access_token"].is_string(), "{body}");
        return (200, 0);
    }
    let code = body["error_codes"][0].as_u64().unwrap();
    let description = body["error_description"].as_str().unwrap();
    assert!(description.starts_with(&format!("AADSTS{code}: ")), "{description}");
    assert!(body["error"].is_string() && body["trace_id"].is_string() && body["correlation_id"].is_string(), "{body}");
    (answer.status, code)
}

async fn ask(service: &Service, target: &str, headers: &[(&str, &str)], form: &str) -> Response {
    service.send(LOGIN, "POST", target, headers, form.as_bytes()).await.unwrap()
}

fn v1() -> String {
    format!("/{TENANT}/oauth2/token")
}

fn v2() -> String {
    format!("/{TENANT}/oauth2/v2.0/token")
}

const GRANT: &str = "grant_type=client_credentials";
const SCOPE: &str = "scope=https%3A%2F%2Fmanage.office.com%2F.default";
const RESOURCE: &str = "resource=https://manage.office.com";

#[tokio::test]
async fn each_endpoint_answers_with_its_own_types() {
    let service = Service::start("").await;
    let secret = format!("client_id={CLIENT}&client_secret={SECRET}");
    let answer = ask(&service, &v1(), &[], &format!("{GRANT}&{RESOURCE}&{secret}")).await;
    let body = json(&answer);
    for number in ["expires_in", "ext_expires_in", "expires_on", "not_before"] {
        assert!(body[number].as_str().is_some_and(|text| text.parse::<u64>().is_ok()), "{number}: {body}");
    }
    assert_eq!((&body["token_type"], &body["resource"]), (&json!("Bearer"), &json!("https://manage.office.com")));
    assert_eq!(answer.header("cache-control"), Some("no-store, no-cache"));
    let body = json(&ask(&service, &v2(), &[], &format!("{GRANT}&{SCOPE}&{secret}&client_info=1")).await);
    assert_eq!((&body["expires_in"], &body["ext_expires_in"]), (&json!(3600), &json!(3600)));
    assert_eq!(body["token_type"], "Bearer");
    assert!(body.get("expires_on").is_none(), "{body}");
}

#[tokio::test]
async fn every_way_to_send_a_secret_is_understood() {
    let service = Service::start("").await;
    // What a form makes of these characters is another text.
    let odd = "a+b%2Bc d~é";
    service.register(TENANT, CLIENT, odd, &["ActivityFeed.Read"]);
    let encoded: String = form_urlencoded::byte_serialize(odd.as_bytes()).collect();
    let basic = |text: String| format!("Basic {}", STANDARD.encode(text));
    let in_form = [format!("client_secret={encoded}"), format!("client_secret={odd}")];
    for secret in in_form {
        let form = format!("client_id={CLIENT}&{SCOPE}&{GRANT}&{secret}");
        assert_eq!(outcome(&ask(&service, &v2(), &[], &form).await), (200, 0), "{secret}");
    }
    for header in [basic(format!("{CLIENT}:{encoded}")), basic(format!("{CLIENT}:{odd}"))] {
        let headers = [("Authorization", header.as_str())];
        assert_eq!(outcome(&ask(&service, &v2(), &headers, &format!("{GRANT}&{SCOPE}")).await), (200, 0), "{header}");
    }
    // The tenant by its domain, the id in capitals, another cloud, the interface's application id.
    let secret = format!("client_id={}&client_secret={SECRET}", CLIENT.to_uppercase());
    for (target, resource) in [
        ("/Contoso.OnMicrosoft.com/oauth2/token".to_owned(), "https://manage.office.com/"),
        (v1(), "https://manage.office365.us"),
        (v1(), "c5393580-f805-4401-95e8-94b7a6ef2fc2"),
    ] {
        let answer = ask(&service, &target, &[], &format!("{GRANT}&resource={resource}&{secret}")).await;
        assert_eq!(outcome(&answer), (200, 0), "{target} {resource}");
    }
}

#[tokio::test]
async fn a_token_for_our_own_host_is_good_there_and_nowhere_else() {
    let service = Service::start("").await;
    let (own, form) = ("feed.contoso.com", format!("{GRANT}&client_id={CLIENT}&client_secret={SECRET}"));
    let form = format!("{form}&resource=https://{own}/");
    let answer = service.send(own, "POST", &v1(), &[], form.as_bytes()).await.unwrap();
    let bearer = format!("Bearer {}", json(&answer)["access_token"].as_str().unwrap());
    let headers = [("Authorization", bearer.as_str())];
    for (host, status) in [(own, 200), ("Feed.Contoso.com:443", 200), ("feed.fabrikam.com", 401), (FEED, 401)] {
        let answer = service.send(host, "GET", &feed("subscriptions/list"), &headers, b"").await.unwrap();
        assert_eq!(answer.status, status, "{host}");
    }
}

#[tokio::test]
async fn what_gets_no_token_is_answered_as_entra_answers_it_and_logged() {
    let service = Service::start("").await;
    let log = Log::begin();
    let id = format!("client_id={CLIENT}");
    let good = format!("{GRANT}&{SCOPE}&{id}&client_secret={SECRET}");
    let unknown = good.replace(CLIENT, OTHER);
    let cases = [
        (v2(), good.replace(SECRET, "canary"), (401, 7_000_215)),
        (v2(), unknown, (400, 700_016)),
        (v2(), good.replace(CLIENT, "splunk"), (400, 700_016)),
        (format!("/{OTHER}/oauth2/v2.0/token"), good.clone(), (400, 90_002)),
        ("/fabrikam.com/oauth2/v2.0/token".into(), good.clone(), (400, 90_002)),
        ("/contoso/oauth2/v2.0/token".into(), good.clone(), (400, 900_023)),
        ("/..%2f..%2fetc/oauth2/v2.0/token".into(), good.clone(), (400, 900_023)),
        (v2(), format!("{GRANT}&{SCOPE}&client_secret={SECRET}"), (400, 900_144)),
        (v1(), format!("{GRANT}&{RESOURCE}&client_secret={SECRET}"), (400, 90_014)),
        (v2(), format!("{GRANT}&{id}&client_secret={SECRET}"), (400, 900_144)),
        (v2(), format!("{SCOPE}&{id}&client_secret={SECRET}"), (400, 900_144)),
        (v2(), String::new(), (400, 900_144)),
        (v2(), "\u{0}%ff%&&==&".into(), (400, 900_144)),
        (v2(), format!("{GRANT}&{SCOPE}&{id}"), (401, 7_000_218)),
        (v2(), format!("{GRANT}&{SCOPE}&{id}&client_secret="), (401, 7_000_218)),
        (v2(), good.replace("client_credentials", "password"), (400, 70_003)),
        (v2(), good.replace("manage.office.com", "graph.microsoft.com"), (400, 1_002_012)),
        (v2(), good.replace("%2F.default", ""), (400, 1_002_012)),
        (v1(), format!("{GRANT}&resource=https://vault.azure.net&{id}&client_secret={SECRET}"), (400, 500_011)),
        (v2(), format!("{good}&client_id={OTHER}"), (400, 900_145)),
        (v2(), format!("{good}&client_assertion=a.b.c"), (400, 700_021)),
    ];
    for (target, form, expected) in cases {
        let answer = ask(&service, &target, &[("client-request-id", OTHER)], &form).await;
        assert_eq!(outcome(&answer), expected, "{target} {form}");
        assert_eq!(json(&answer)["correlation_id"], OTHER);
        let logged = log.take();
        assert!(logged.contains("no token is given") && logged.contains(&expected.1.to_string()), "{logged}");
        assert!(!logged.contains("canary") && !answer.text().contains("canary"), "{logged} {}", answer.text());
    }
    let too_much = format!("{good}&more={}", "x".repeat(64 << 10));
    assert_eq!(ask(&service, &v2(), &[], &too_much).await.status, 413);
}

#[tokio::test]
async fn secrets_are_changed_without_an_interruption_and_end_with_their_time() {
    let service = Service::start("").await;
    let token = async |secret: &str| outcome(&service.ask_for_token(TENANT, CLIENT, secret).await);
    assert_eq!(token(SECRET).await, (200, 0));
    let file = service.folder().join("second");
    fs::write(&file, "second-secret\n").unwrap();
    let file = file.to_str().unwrap();
    let add = ["add", "--tenant", TENANT, "--client", CLIENT, "--secret-file", file, "--expires", "2 days"];
    assert!(service.clients(&add));
    assert_eq!((token(SECRET).await, token("second-secret").await), ((200, 0), (200, 0)));
    // A secret that is known already ends as well.
    service.clock.advance(4 * DAY);
    assert_eq!((token(SECRET).await, token("second-secret").await), ((200, 0), (401, 7_000_222)));
    assert!(service.clients(&["revoke", "--client", CLIENT]));
    service.register(TENANT, CLIENT, "third-secret", &["ActivityFeed.Read"]);
    assert_eq!((token("third-secret").await, token(SECRET).await), ((200, 0), (401, 7_000_215)));
}

#[tokio::test]
async fn who_guesses_is_slowed_down_and_the_owner_is_not() {
    let service = Service::start("").await;
    assert_eq!(outcome(&service.ask_for_token(TENANT, CLIENT, SECRET).await), (200, 0));
    for client in [CLIENT, OTHER] {
        let mut codes = Vec::new();
        for guess in 0..6 {
            let answer = service.ask_for_token(TENANT, client, &format!("guess-{guess}")).await;
            let (status, code) = outcome(&answer);
            if status == 429 {
                let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
                assert!((1..=61).contains(&wait), "{wait}");
            }
            codes.push((status, code));
        }
        assert_eq!(codes.last(), Some(&(429, 90_055)), "{client}: {codes:?}");
    }
    // One unknown id is as good as another.
    assert_eq!(outcome(&service.ask_for_token(TENANT, TENANT, "guess").await), (429, 90_055));
    // Right secrets that were right before take another way.
    assert_eq!(outcome(&service.ask_for_token(TENANT, CLIENT, SECRET).await), (200, 0));
}

#[tokio::test]
async fn a_file_that_breaks_leaves_its_clients_registered_and_is_told_of() {
    let service = Service::start("").await;
    let path = service.folder().join("clients.toml");
    let good = fs::read_to_string(&path).unwrap();
    let log = Log::begin();
    let hash = good.split("hash = \"").nth(1).unwrap().split('"').next().unwrap();
    let client = good.split_once("[[clients]]").unwrap().1;
    for (what, broken, reason) in [
        ("half a file", good[..good.len() / 2].to_owned(), "line"),
        ("nothing known", format!("{good}\n[[clients.passwords]]\nvalue = \"canary\"\n"), "passwords"),
        ("no hash", good.replace(hash, "canary"), "no hash of a secret"),
        (
            "a role that doesn't exist",
            good.replace("ActivityFeed.Read\"", "ActivityFeed.Write\""),
            "ActivityFeed.Write",
        ),
        ("twice", format!("{good}\n[[clients]]{client}"), "twice"),
        ("no text", "\u{0}".to_owned(), "line"),
    ] {
        fs::write(&path, broken).unwrap();
        assert_eq!(service.client().await.get("subscriptions/list").await.status, 200, "{what}");
        let logged = log.take();
        assert!(logged.contains("can't be used") && logged.contains(reason), "{what}: {logged}");
        assert!(!logged.contains("canary") && !logged.contains(hash), "{what}: {logged}");
        fs::write(&path, &good).unwrap();
    }
    assert_eq!(service.client().await.get("subscriptions/list").await.status, 200);
    log.take();
    fs::remove_file(&path).unwrap();
    assert_eq!(service.client().await.get("subscriptions/list").await.status, 200);
    assert!(log.take().contains("no such file"));
    wait_until("the health tells", async || matches!(service.health(), Status::Degraded { .. })).await;
    fs::write(&path, &good).unwrap();
    wait_until("the health is good again", async || service.health() == Status::Ok).await;
}

#[test]
fn the_command_writes_what_only_its_owner_can_read_and_shows_no_secret() {
    let service = Service::prepare("", &["ActivityFeed.Read"]);
    let path = service.folder().join("clients.toml");
    let written = fs::read_to_string(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!written.contains(SECRET) && written.contains("pbkdf2-sha256$600000$"), "{written}");
    let new = ["add", "--tenant", TENANT, "--client", OTHER];
    assert!(!service.clients(&new), "without a role");
    assert!(
        service.clients(&[&new[..], &["--role", "activityfeed.read", "--name", "Splunk"]].concat()),
        "with a secret of its own"
    );
    assert!(service.clients(&["list"]));
    let with_two = fs::read_to_string(&path).unwrap();
    for wrong in [
        &["add", "--tenant", "contoso", "--client", OTHER][..],
        &[&new[..], &["--role", "ActivityFeed.Write"]].concat(),
        &[&new[..], &["--secret-env", "ACTLOG_TEST_UNSET"]].concat(),
        &[&new[..], &["--secret-env", "A", "--secret-file", "B"]].concat(),
        &[&new[..], &["--certificate", path.to_str().unwrap()]].concat(),
        &[&new[..], &["--expires", "soon"]].concat(),
        &["revoke", "--client", TENANT],
        &["remove", "--client", OTHER],
    ] {
        assert!(!service.clients(wrong), "{wrong:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), with_two, "{wrong:?} has changed the file");
    }
    assert!(service.clients(&["revoke", "--client", OTHER, "--tenant", TENANT]));
    assert_eq!(fs::read_to_string(&path).unwrap(), written);
    // A file that can't be read is not written over.
    fs::write(&path, "broken").unwrap();
    assert!(!service.clients(&[&new[..], &["--role", "ActivityFeed.Read"]].concat()));
    assert_eq!(fs::read_to_string(&path).unwrap(), "broken");
}

#[tokio::test]
async fn a_changed_file_stays_its_owners_and_nobody_elses() {
    let service = Service::prepare("", &["ActivityFeed.Read"]);
    let path = service.folder().join("clients.toml");
    if std::os::unix::fs::chown(&path, Some(12_345), Some(12_346)).is_err() {
        skip!("only root may give a file to somebody else");
    }
    assert!(service.clients(&["revoke", "--client", CLIENT]));
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o777), (12_345, 12_346, 0o600));
}

/// A certificate and its key.
struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Identity {
    fn new(key: KeyPair, adjust: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::new(vec!["collector.example".to_owned()]).unwrap();
        adjust(&mut params);
        Self { certificate: params.self_signed(&key).unwrap(), key }
    }

    fn rsa() -> Self {
        Self::new(KeyPair::from_pem_and_sign_algo(RSA_KEY, &rcgen::PKCS_RSA_SHA256).unwrap(), |_| {})
    }

    /// The header that names it.
    fn header(&self, algorithm: &str) -> Value {
        let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, self.certificate.der()));
        json!({ "alg": algorithm, "typ": "JWT", "x5t": thumbprint })
    }

    fn assertion(&self, header: &Value, claims: &Value) -> String {
        let encoded = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let signed = format!("{}.{}", encoded(header), encoded(claims));
        let random = SystemRandom::new();
        let by_rsa = |encoding: &'static dyn RsaEncoding| {
            let key = rustls_pki_types::PrivatePkcs8KeyDer::from_pem_slice(RSA_KEY.as_bytes()).unwrap();
            let key = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap();
            let mut signature = vec![0; key.public().modulus_len()];
            key.sign(encoding, &random, signed.as_bytes(), &mut signature).unwrap();
            signature
        };
        let signature = match header["alg"].as_str() {
            Some("RS256") => by_rsa(&RSA_PKCS1_SHA256),
            Some("PS256") => by_rsa(&RSA_PSS_SHA256),
            Some("ES256") => {
                let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
                let key = EcdsaKeyPair::from_pkcs8(algorithm, self.key.serialized_der(), &random).unwrap();
                key.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec()
            }
            _ => Vec::new(),
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Registers a certificate for the client.
fn register(service: &Service, identity: &Identity) {
    let file = service.folder().join("certificate.pem");
    fs::write(&file, identity.certificate.pem()).unwrap();
    let file = file.to_str().unwrap();
    assert!(service.clients(&["add", "--tenant", TENANT, "--client", CLIENT, "--certificate", file]));
}

fn claims(service: &Service) -> Value {
    let now = actlog_core::Clock::now(&service.clock).unix_milliseconds() / 1000;
    let audience = format!("https://{LOGIN}/{TENANT}/oauth2/token");
    let jti = uuid::Uuid::new_v4();
    json!({ "aud": audience, "iss": CLIENT, "sub": CLIENT, "jti": jti, "nbf": now, "exp": now + 600 })
}

async fn assert_with(service: &Service, target: &str, assertion: &str) -> (u16, u64) {
    let kind = "client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";
    let form = format!("{GRANT}&{SCOPE}&{RESOURCE}&client_id={CLIENT}&{kind}&client_assertion={assertion}");
    outcome(&ask(service, target, &[], &form).await)
}

#[tokio::test]
async fn a_certificate_proves_who_a_client_is_once_for_each_assertion() {
    let service = Service::start("").await;
    let (rsa, elliptic) = (Identity::rsa(), Identity::new(KeyPair::generate().unwrap(), |_| {}));
    register(&service, &rsa);
    register(&service, &elliptic);
    for (identity, algorithm) in [(&rsa, "RS256"), (&rsa, "PS256"), (&elliptic, "ES256")] {
        for target in [v1(), v2(), "/contoso.onmicrosoft.com/oauth2/v2.0/token".to_owned()] {
            let assertion = identity.assertion(&identity.header(algorithm), &claims(&service));
            assert_eq!(assert_with(&service, &target, &assertion).await, (200, 0), "{algorithm} {target}");
            assert_eq!(assert_with(&service, &target, &assertion).await, (401, 700_027), "{algorithm}: replayed");
        }
    }
    // Either thumbprint names the certificate, and libraries write times with fractions.
    let sha256 = URL_SAFE_NO_PAD.encode(digest(&SHA256, rsa.certificate.der()));
    let mut fractions = claims(&service);
    fractions["exp"] = json!(fractions["exp"].as_i64().unwrap() as f64 + 0.25);
    let assertion = rsa.assertion(&json!({ "alg": "PS256", "x5t#S256": sha256 }), &fractions);
    assert_eq!(assert_with(&service, &v2(), &assertion).await, (200, 0));
}

#[tokio::test]
async fn an_assertion_that_is_not_the_clients_for_here_and_now_proves_nothing() {
    let service = Service::start("").await;
    let registered = Identity::rsa();
    let stranger = Identity::new(KeyPair::generate().unwrap(), |_| {});
    let expired = Identity::new(KeyPair::generate().unwrap(), |params| {
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(2001, 1, 1), rcgen::date_time_ymd(2002, 1, 1));
    });
    register(&service, &registered);
    register(&service, &expired);
    let log = Log::begin();
    let header = registered.header("RS256");
    let with = |key: &str, value: Value| {
        let mut claims = claims(&service);
        claims[key] = value;
        registered.assertion(&header, &claims)
    };
    let headed = |key: &str, value: Value| {
        let mut header = header.clone();
        header[key] = value;
        registered.assertion(&header, &claims(&service))
    };
    let now = claims(&service)["nbf"].as_i64().unwrap();
    let good = registered.assertion(&header, &claims(&service));
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let cases = [
        ("another's certificate", stranger.assertion(&stranger.header("ES256"), &claims(&service)), 700_027),
        (
            "another's key",
            {
                let ours = json!({ "alg": "ES256", "x5t": expired.header("ES256")["x5t"] });
                stranger.assertion(&ours, &claims(&service))
            },
            700_027,
        ),
        ("an expired certificate", expired.assertion(&expired.header("ES256"), &claims(&service)), 700_027),
        ("no thumbprint", headed("x5t", Value::Null), 700_027),
        ("alg none", format!("{signed}."), 700_027),
        ("alg is none", headed("alg", json!("none")), 700_027),
        ("alg HS256", headed("alg", json!("HS256")), 700_027),
        (
            "RS256 called PS256",
            format!(
                "{}.{}.{signature}",
                URL_SAFE_NO_PAD.encode(registered.header("PS256").to_string()),
                signed.split('.').nth(1).unwrap()
            ),
            700_027,
        ),
        (
            "another's claims",
            {
                let other = with("exp", json!(now + 900));
                format!("{}.{signature}", other.rsplit_once('.').unwrap().0)
            },
            700_027,
        ),
        ("another server", with("aud", json!(format!("https://login.evil.example/{TENANT}/oauth2/token"))), 700_027),
        ("another tenant", with("aud", json!(format!("https://{LOGIN}/{OTHER}/oauth2/token"))), 700_027),
        ("another endpoint", with("aud", json!(format!("https://{LOGIN}/{TENANT}/oauth2/authorize"))), 700_027),
        ("another issuer", with("iss", json!(OTHER)), 700_027),
        ("another subject", with("sub", json!(OTHER)), 700_027),
        ("expired", with("exp", json!(now - 301)), 700_024),
        ("not valid yet", with("nbf", json!(now + 301)), 700_024),
        ("valid for too long", with("exp", json!(now + 4000)), 700_024),
        ("valid for ever", with("exp", json!(1e300)), 700_024),
        ("no end", with("exp", Value::Null), 50_027),
        ("no jti", with("jti", Value::Null), 50_027),
        ("an extension that must be known", headed("crit", json!(["x"])), 50_027),
        ("no token", "a.b.c".to_owned(), 50_027),
        ("empty parts", "..".to_owned(), 50_027),
        ("huge", format!("{good}{}", "A".repeat(13_000)), 50_027),
    ];
    for (what, assertion, code) in cases {
        let (status, found) = assert_with(&service, &v2(), &assertion).await;
        assert_eq!((status, found), (if code == 50_027 { 400 } else { 401 }, code), "{what}");
        assert!(log.take().contains("no token is given"), "{what}");
    }
    // None of them has used up the good one.
    assert_eq!(assert_with(&service, &v2(), &good).await, (200, 0));
}

#[tokio::test]
async fn our_own_client_signs_in_with_a_certificate() {
    // On the machine's time, which the client goes by.
    let service = Service::prepare("", &["ActivityFeed.Read"]);
    let offset = actlog_core::SystemClock;
    let ahead = actlog_core::Clock::now(&offset).unix_milliseconds()
        - actlog_core::Clock::now(&service.clock).unix_milliseconds();
    service.clock.advance(Duration::from_millis(ahead.max(0) as u64));
    let mut service = service;
    service.run().await;
    let identity = Identity::rsa();
    register(&service, &identity);
    fs::write(service.folder().join("key.pem"), RSA_KEY).unwrap();
    let application = Application {
        client_id: CLIENT.parse().unwrap(),
        secret: None,
        certificate: Some("certificate.pem".into()),
        key: Some(SecretReference::File("key.pem".into())),
        authority: format!("http://{}", service.address),
    };
    let config = ClientConfig { allow_private: true, ..ClientConfig::default() };
    let http = HttpClient::new(&config, service.folder()).unwrap();
    for endpoint in [Endpoint::V1, Endpoint::V2] {
        let resource = "https://manage.office.com";
        let source =
            TokenSource::new(http.clone(), TENANT, &application, endpoint, resource, service.folder()).unwrap();
        let token = source.token().await.unwrap();
        let bearer = format!("Bearer {}", std::str::from_utf8(token.expose()).unwrap());
        let headers = [("Authorization", bearer.as_str())];
        let answer = service.send(FEED, "GET", &feed("subscriptions/list"), &headers, b"").await.unwrap();
        assert_eq!(answer.status, 200, "{endpoint:?}");
    }
}
