//! What the sink does not do, whatever it is told: go inside, follow redirects, trust a bad certificate, repeat a
//! secret. It says so where people look. (How addresses are judged is tried in full in the HTTP client's own tests.)

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod bench;
mod receivers;

use std::sync::{Arc, Mutex};

use actlog_core::{ConfigError, Status};
use actlog_testkit::server::{Bytes, Request, Response, StatusCode};
use bench::{Bench, complaint, failure};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use receivers::relay::tls_front;
use receivers::{Receiver, Rules, plain, splunk};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_inside_in_any_spelling_and_the_error_says_what_would_allow_it() {
    let receiver = Receiver::start(plain::Plain::json()).await;
    let port = receiver.server.address().port();
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "0.0.0.0",
        "10.1.2.3",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "168.63.129.16",
        // Names: what they stand for counts, at the time of the connection.
        "localhost",
        "LOCALHOST",
    ] {
        let mut bench = Bench::new();
        bench.append(1);
        let run = bench.start(&format!("url = \"https://{host}:{port}/\"\n")).await;
        let reason = failure(run).await;
        assert!(reason.contains("set allow_private = true if requests may go there"), "{host}: {reason}");
        assert_eq!((bench.harness.cursor(), bench.harness.dead_letters().len()), (0, 0), "{host}");
    }
    let mut bench = Bench::new();
    bench.append(1);
    // Without TLS only with this machine, and only where that is allowed.
    let run = bench.start("url = \"http://hooks.example.com/\"\nclient.allow_private = true\n").await;
    assert!(failure(run).await.contains("only https is spoken with other machines"));
    assert!(receiver.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_redirect_is_not_followed_wherever_it_leads() {
    for status in [301, 302, 303, 307, 308] {
        let receiver = Receiver::start(plain::Plain::json()).await;
        let elsewhere = Receiver::start(plain::Plain::json()).await;
        for target in [elsewhere.url(), "http://169.254.169.254/latest/meta-data/".to_owned()] {
            receiver.answer_next(status, &[("location", &target)], "");
            let mut bench = Bench::new();
            bench.append(1);
            let run = bench.start(&format!("url = \"{}\"\nclient.allow_private = true\n", receiver.url())).await;
            let reason = failure(run).await;
            assert!(reason.contains(&format!("status {status}; redirects are not followed")), "{reason}");
        }
        assert_eq!((receiver.seen().len(), elsewhere.seen().len()), (2, 0));
    }
}

#[tokio::test]
async fn a_certificate_that_does_not_prove_the_name_now_keeps_records_at_home_and_the_health_says_why() {
    let authority = || {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let (ours, foreign) = (authority(), authority());
    let issue = |authority: &CertifiedIssuer<'static, KeyPair>, name: &str, adjust: fn(&mut CertificateParams)| {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        adjust(&mut params);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
    };
    let expired: fn(&mut CertificateParams) = |params| {
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(2001, 1, 1), rcgen::date_time_ymd(2002, 1, 1));
    };
    for (what, (certificate, key)) in [
        ("good", issue(&ours, "localhost", |_| {})),
        ("expired", issue(&ours, "localhost", expired)),
        ("not yet valid", issue(&ours, "localhost", |params| params.not_before = rcgen::date_time_ymd(3000, 1, 1))),
        ("another name", issue(&ours, "other.example", |_| {})),
        ("unknown authority", issue(&foreign, "localhost", |_| {})),
    ] {
        let receiver = Receiver::start(plain::Plain::json()).await;
        let (address, _front) = tls_front(receiver.server.address(), &certificate, &key).await;
        let mut bench = Bench::new();
        std::fs::write(bench.folder.path().join("ca.pem"), ours.pem()).unwrap();
        let ids = bench.append(1);
        let client = "client = { allow_private = true, ca = \"ca.pem\" }\nbatch.age = \"10 ms\"\n";
        let run = bench.start(&format!("url = \"https://localhost:{}/\"\n{client}", address.port())).await;
        if what == "good" {
            bench.committed().await;
            assert_eq!(receiver.ids(), ids);
        } else {
            let reason = complaint(&run).await;
            assert!(reason.contains("TLS: ") && reason.contains("certificate"), "{what}: {reason}");
            assert!(receiver.seen().is_empty() && bench.harness.cursor() == 0, "{what}");
        }
        Bench::stop(run).await;
    }
}

#[tokio::test]
async fn requests_go_through_the_configured_proxy_and_its_refusal_is_said() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(String::new()));
    let heard = Arc::clone(&asked);
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let length = stream.read(&mut head).await.unwrap();
            *heard.lock().unwrap() = String::from_utf8_lossy(&head[..length]).into_owned();
            stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        }
    });
    let mut bench = Bench::new();
    bench.append(1);
    let config =
        format!("url = \"https://hooks.invalid/\"\nclient.proxy = \"http://{proxy}\"\nbatch.age = \"10 ms\"\n");
    let run = bench.start(&config).await;
    let reason = complaint(&run).await;
    assert!(reason.contains("hooks.invalid: no connection"), "{reason}");
    assert!(asked.lock().unwrap().starts_with("CONNECT hooks.invalid:443 HTTP/1.1\r\n"));
    Bench::stop(run).await;
    serving.abort();
}

/// Says back whatever it was told, as a receiver with a talkative error page does.
struct Echo(u16, &'static str);

impl Rules for Echo {
    fn answer(&self, request: &Request<Bytes>, kept: &mut receivers::Kept) -> Response<Bytes> {
        let head = format!("{:?} {}", request.headers(), request.uri()).replace(['"', '\\'], "'");
        kept.violations.push(head.clone());
        let body = self.1.replace("{head}", &head);
        let mut answer = Response::new(Bytes::from(body));
        *answer.status_mut() = StatusCode::from_u16(self.0).unwrap();
        answer
    }
}

#[tokio::test(start_paused = true)]
async fn no_secret_is_in_an_error_a_health_a_metric_or_a_dead_letter_even_if_the_receiver_repeats_it() {
    let canaries = ["canary-header", "canary-query", splunk::TOKEN];
    for (status, body, is_dead) in [
        (400, r#"{"text":"{head}","code":6}"#, true),
        (403, r#"{"text":"{head}","code":4}"#, false),
        (404, "{head}", false),
        (302, "{head}", false),
    ] {
        let receiver = Receiver::start(Echo(status, body)).await;
        let mut bench = Bench::new();
        bench.secret("hec", splunk::TOKEN);
        bench.secret("header", "canary-header");
        bench.secret("query", "canary-query");
        bench.append(1);
        let config = format!(
            "url = \"{}\"\nformat = \"splunk-hec\"\nclient.allow_private = true\nbatch.age = \"10 ms\"\n\
             auth.splunk.file = \"hec\"\nheaders.x-key.file = \"header\"\nquery.sig.file = \"query\"\n",
            receiver.url()
        );
        let run = bench.start(&config).await;
        let said = if is_dead {
            bench.committed().await;
            let dead = format!("{:?}", bench.harness.dead_letters());
            Bench::stop(run).await;
            dead
        } else {
            failure(run).await
        };
        let heard = receiver.kept().violations.join(" ");
        for canary in canaries {
            assert!(heard.contains(canary), "{canary} was not sent: {heard}");
            assert!(!said.contains(canary), "{status}: {said}");
            assert!(!bench.harness.metrics_text().contains(canary));
        }
        assert!(!is_dead || said.contains("****"), "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_consumer_of_cloudevents_that_does_not_allow_this_sender_gets_nothing() {
    for (allowed, is_allowed) in [("*", true), ("siem.contoso.com", true), ("other.example", false)] {
        let receiver = Receiver::start(receivers::cloudevents::CloudEvents::allowing(allowed)).await;
        let mut bench = Bench::new();
        let ids = bench.append(2);
        let config = format!(
            "url = \"{}\"\nformat = \"cloudevents\"\nclient.allow_private = true\nbatch.age = \"10 ms\"\n\
             cloudevents = {{ handshake = true, origin = \"siem.contoso.com\" }}\n",
            receiver.url()
        );
        let run = bench.start(&config).await;
        if is_allowed {
            bench.committed().await;
            assert_eq!((receiver.ids(), run.health.get()), (ids, Status::Ok));
            Bench::stop(run).await;
        } else {
            let reason = failure(run).await;
            assert!(reason.contains("does not allow deliveries from \"siem.contoso.com\""), "{reason}");
            assert!(receiver.ids().is_empty());
        }
        receiver.check();
    }
    // One that is away is waited for.
    let receiver = Receiver::start(receivers::cloudevents::CloudEvents::allowing("*")).await;
    receiver.answer_next(503, &[], "");
    let mut bench = Bench::new();
    bench.append(1);
    let config = "format = \"cloudevents\"\nclient.allow_private = true\ncloudevents.handshake = true\n";
    let run = bench.start(&format!("url = \"{}\"\n{config}", receiver.url())).await;
    bench.committed().await;
    Bench::stop(run).await;
}

#[test]
fn a_configuration_that_cannot_work_is_refused_at_its_key() {
    let bench = Bench::new();
    let load = |more: &str| {
        let table = format!("url = \"https://h.example/\"\n{more}");
        bench.load(&table)
    };
    for good in [
        "",
        "format = \"elasticsearch\"\nbody = \"ocsf\"\nauth.api_key.env = \"K\"",
        "headers = { x-a = \"b\", x-c = { env = \"K\" } }\ncompression = \"zstd\"",
        "format = \"splunk-hec\"\nsplunk = { ack = false, ack_timeout = \"1 min\" }",
        "auth.basic = { user = \"me\", password.env = \"P\" }\nstatus = { retry = [418], fatal = [400] }",
        "format = \"azure-logs\"\nazure = { rule = \"dcr-1\", stream = \"Custom-A\" }",
    ] {
        load(good).unwrap_or_else(|error| panic!("{good}: {error}"));
    }
    for (wrong, key) in [
        ("format = \"csv\"", "format"),
        ("format = \"splunk-hec\"\nsplunk.ack = \"maybe\"", "splunk.ack"),
        ("splunk = {}", "splunk"),
        ("azure = { rule = \"r\", stream = \"s\" }", "azure"),
        ("format = \"azure-logs\"", "azure"),
        ("format = \"azure-logs\"\nazure = { rule = \"r\", stream = \"s\" }\nbody = \"ecs\"", "body"),
        ("format = \"azure-logs\"\nazure = { rule = \"r\", stream = \"s\" }\nbatch.bytes = \"2 MiB\"", "batch.bytes"),
        ("format = \"elasticsearch\"\ncompression = \"zstd\"", "compression"),
        ("format = \"cloudevents\"\ncloudevents.origin = \"https://h.example\"", "cloudevents.origin"),
        ("batch.count = 0", "batch.count"),
        ("batch.age = \"1 day\"", "batch.age"),
        ("concurrency = 65", "concurrency"),
        ("max_record_bytes = 100", "max_record_bytes"),
        ("max_field_bytes = 100", "max_field_bytes"),
        ("status.retry = [200]", "status.retry[0]"),
        ("status = { retry = [429, 500], fatal = [500] }", "status.fatal[0]"),
        ("auth.bearer = \"token\"", "auth.bearer"),
        (
            "auth.entra = { tenant = \"t\", application = { client_id = \"6f0b1c7e-2d1c-4f9a-9a55-0f0c2f6f5d11\", \
          secret.env = \"S\" } }",
            "auth.entra.resource",
        ),
        ("auth.oauth2 = { token_url = \"here\", client_id = \"me\", secret.env = \"S\" }", "auth.oauth2.token_url"),
        ("client.timeout = \"1 ms\"", "client.timeout"),
        ("headers = { \"x key\" = \"v\" }", "headers.x key"),
        ("headers = { Authorization = \"v\" }\nauth.bearer.env = \"T\"", "headers.Authorization"),
        ("headers.x-key.path = \"f\"", "headers.x-key"),
    ] {
        let error: ConfigError = load(wrong).expect_err(wrong);
        assert!(error.path.starts_with(key), "{wrong}: {error}");
    }
    for url in ["ftp://h.example/", "h.example", "https://me:canary@h.example/", "https:///"] {
        let error = bench.load(&format!("url = \"{url}\"")).unwrap_err();
        assert!(error.path == "url" && !error.to_string().contains("canary"), "{error}");
    }
}
