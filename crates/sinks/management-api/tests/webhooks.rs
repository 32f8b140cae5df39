//! Webhooks: validated before they are set, notified of everything, and never a way into our own network.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails here fails the test")]

mod logged;
mod receiver;
mod service;

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use actlog_testkit::http::Response;
use actlog_testkit::process::wait_until;
use actlog_testkit::storage::Fault;
use logged::Log;
use receiver::{Answer, Authority, Receiver, Seen};
use serde_json::{Value, json};
use service::{CLIENT, Client, SECRET, SMALL_BLOBS, Service, TENANT, error, json};

const START: &str = "subscriptions/start?contentType=Audit.General";
const STOP: &str = "subscriptions/stop?contentType=Audit.General";
const HISTORY: &str = "subscriptions/notifications?contentType=Audit.General";
const ROLES: [&str; 1] = ["ActivityFeed.Read"];

/// A service that trusts the authority and may call this machine.
async fn service_with(authority: &Authority) -> Service {
    let keys = format!(
        "{SMALL_BLOBS}\nwebhooks.ca = \"ca.pem\"\nwebhooks.allow_private = true\nwebhooks.timeout = \"2 s\"\nwebhooks.max_response = \"64 KiB\""
    );
    let mut service = Service::prepare(&keys, &ROLES);
    fs::write(service.folder().join("ca.pem"), authority.pem()).unwrap();
    service.run().await;
    service
}

fn webhook(address: &str) -> String {
    json!({ "webhook": { "address": address, "authId": "id-of-the-app", "expiration": null } }).to_string()
}

async fn set(client: &Client<'_>, receiver: &mut Receiver) {
    let answer = client.post(START, &webhook(&receiver.url())).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(receiver.next().await.body["validationCode"].is_string());
}

/// The status of the subscription's webhook, as the list has it.
async fn webhook_status(client: &Client<'_>) -> Value {
    json(&client.get("subscriptions/list").await)[0]["webhook"]["status"].clone()
}

fn message(answer: &Response) -> String {
    json(answer)["error"]["message"].as_str().unwrap().to_owned()
}

/// Ids of all contents that are listed.
async fn listed(client: &Client<'_>) -> Vec<String> {
    let entries = client.list("contentType=Audit.General").await;
    entries.iter().map(|entry| entry["contentId"].as_str().unwrap().to_owned()).collect()
}

/// Requests until they have told of so many contents.
async fn told(receiver: &mut Receiver, contents: usize) -> Vec<Seen> {
    let (mut all, mut seen) = (Vec::new(), BTreeSet::new());
    while seen.len() < contents {
        let request = receiver.next().await;
        seen.extend(request.contents());
        all.push(request);
    }
    all
}

#[tokio::test]
async fn a_webhook_is_validated_before_it_is_set_changed_and_removed() {
    let authority = Authority::new();
    let (service, mut receiver) = (service_with(&authority).await, Receiver::start(&authority).await);
    let client = service.client().await;
    let url = receiver.url();
    let answer = client.post(START, &webhook(&url)).await;
    let expected = format!(
        r#"{{"contentType":"Audit.General","status":"enabled","webhook":{{"status":"enabled","address":"{url}","authId":"id-of-the-app","expiration":null}}}}"#
    );
    assert_eq!((answer.status, answer.text()), (200, expected.clone()));
    assert_eq!(client.get("subscriptions/list").await.text(), format!("[{expected}]"));
    let asked = receiver.next().await;
    assert!(asked.head.starts_with("POST /hook?code=canary HTTP/1.1\r\n"), "{}", asked.head);
    assert_eq!(asked.header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(asked.header("webhook-authid"), Some("id-of-the-app"));
    assert_eq!(asked.body, json!({ "validationCode": asked.header("webhook-validationcode").unwrap() }));
    // Nothing to change: the webhook is not even asked.
    for body in [webhook(&url), String::new(), "{}".into()] {
        let answer = client.post(START, &body).await;
        assert_eq!(error(&answer), (400, "AF20024".into()), "{body}");
        assert_eq!(message(&answer), "The subscription is already enabled. No property change.");
    }
    assert!(receiver.rest().is_empty());
    let other = webhook(&url).replace("id-of-the-app", "another");
    assert_eq!(json(&client.post(START, &other).await)["webhook"]["authId"], "another");
    assert_eq!(receiver.next().await.header("webhook-authid"), Some("another"));
    assert_eq!(json(&client.post(START, r#"{"webhook":null}"#).await)["webhook"], Value::Null);
    assert_eq!(error(&client.post(START, r#"{"webhook":{"address":""}}"#).await).1, "AF20024");
    assert_eq!(client.post(STOP, "").await.status, 204);
    assert_eq!(error(&client.post(STOP, "").await), (400, "AF20022".into()));
    assert_eq!(client.get("subscriptions/list").await.text(), "[]");
}

#[tokio::test]
async fn a_webhook_that_can_not_be_validated_changes_nothing() {
    let authority = Authority::new();
    let (service, receiver) = (service_with(&authority).await, Receiver::start(&authority).await);
    let (client, log) = (service.client().await, Log::begin());
    let target = Receiver::start(&authority).await;
    let not_200 = "The endpoint did not return HTTP 200.";
    for what in [
        Answer::Status(500),
        Answer::Status(404),
        Answer::Status(204),
        Answer::Redirect(target.url()),
        Answer::Nothing,
        Answer::Endless(1),
        Answer::Endless(64 << 10),
    ] {
        receiver.answer_with(what.clone());
        let answer = client.post(START, &webhook(&receiver.url())).await;
        assert_eq!(error(&answer), (400, "AF20021".into()), "{what:?}");
        let expected = format!("The webhook endpoint ({}) could not be validated. {not_200}", receiver.url());
        assert_eq!(message(&answer), expected, "{what:?}");
        assert_eq!(client.get("subscriptions/list").await.text(), "[]", "{what:?}");
        let logged = log.take();
        assert!(logged.contains("could not be validated") && !logged.contains("canary"), "{what:?}: {logged}");
    }
    assert_eq!(target.connections(), 0);
    for (body, code) in [
        (webhook("http://webhook.example/"), "AF20021"),
        (webhook("ftp://webhook.example/"), "AF20021"),
        (webhook("webhook.example"), "AF20002"),
        (webhook("https://"), "AF20002"),
        (webhook(&format!("https://webhook.example/{}", "a".repeat(3000))), "AF20002"),
        (r#"{"webhook":{"address":"https://webhook.example","authId":"a\r\nb: c"}}"#.into(), "AF20002"),
        (r#"{"webhook":{"address":"https://webhook.example","expiration":"soon"}}"#.into(), "AF20002"),
        (r#"{"webhook":{"address":"https://webhook.example","expiration":"2026-11-23T12:02:59Z"}}"#.into(), "AF20003"),
        (r#"{"webhook":{"address":["a"]}}"#.into(), "AF20002"),
        (r#"{"webhook":"https://webhook.example"}"#.into(), "AF20002"),
        ("{\"webhook\":".into(), "AF20002"),
    ] {
        assert_eq!(error(&client.post(START, &body).await), (400, code.into()), "{body}");
    }
    let answer = client.post(START, &webhook("http://webhook.example/")).await;
    assert!(message(&answer).ends_with(" The address must begin with HTTPS."), "{}", message(&answer));
    // An existing subscription stays as it is.
    client.subscribe("Audit.General").await;
    receiver.answer_with(Answer::Status(500));
    assert_eq!(error(&client.post(START, &webhook(&receiver.url())).await).1, "AF20021");
    assert_eq!(json(&client.get("subscriptions/list").await)[0]["webhook"], Value::Null);
}

#[tokio::test]
async fn everything_that_becomes_available_is_notified_in_order_with_its_urls() {
    let authority = Authority::new();
    let (mut service, mut receiver) = (service_with(&authority).await, Receiver::start(&authority).await);
    // What was there before the webhook is not its matter.
    service.publish_blobs("Audit.General", 2).await;
    set(&service.client().await, &mut receiver).await;
    service.publish_blobs("Audit.General", 250).await;
    service.publish_blobs("Audit.Exchange", 2).await;
    let requests = told(&mut receiver, 250).await;
    let ids: Vec<String> = requests.iter().flat_map(Seen::contents).collect();
    let client = service.client().await;
    assert_eq!(ids, listed(&client).await[2..], "not all of them, once each, in order");
    for request in &requests {
        assert!(request.contents().len() <= 100);
        assert_eq!(request.header("content-type"), Some("application/json; utf-8"));
        assert_eq!(request.header("webhook-authid"), Some("id-of-the-app"));
    }
    let entry = &requests[0].body[0];
    let keys: BTreeSet<&str> = entry.as_object().unwrap().keys().map(String::as_str).collect();
    let expected =
        ["clientId", "contentCreated", "contentExpiration", "contentId", "contentType", "contentUri", "tenantId"];
    assert_eq!(keys, BTreeSet::from(expected));
    assert_eq!((&entry["tenantId"], &entry["clientId"]), (&json!(TENANT), &json!(CLIENT)));
    assert!(!client.fetch(entry).await.is_empty());
}

#[tokio::test]
async fn a_webhook_that_lies_or_hangs_is_told_later_and_shown_as_it_was() {
    let authority = Authority::new();
    let (mut service, mut receiver) = (service_with(&authority).await, Receiver::start(&authority).await);
    let log = Log::begin();
    set(&service.client().await, &mut receiver).await;
    // 200 to the validation, 404 to what follows.
    receiver.answer_with(Answer::Status(404));
    service.publish_blobs("Audit.General", 2).await;
    let first = receiver.next().await.contents();
    wait_until("the failure is noted", async || log.take().contains("a webhook was not notified")).await;
    // The listing does not wait for it.
    let client = service.client().await;
    assert_eq!(listed(&client).await.len(), 2);
    let failed = json(&client.get(HISTORY).await);
    assert_eq!(failed.as_array().unwrap().len(), first.len());
    assert!(failed.as_array().unwrap().iter().all(|entry| entry["notificationStatus"] == "failed"), "{failed}");
    assert_eq!(webhook_status(&client).await, "enabled");
    // It hangs while the service is stopped and started again.
    receiver.answer_with(Answer::Nothing);
    service.stop().await;
    service.run().await;
    receiver.next().await;
    service.publish_blobs("Audit.General", 1).await;
    service.stop().await;
    receiver.answer_with(Answer::Status(200));
    service.run().await;
    receiver.rest();
    let client = service.client().await;
    let everything = listed(&client).await;
    let mut shown = Vec::new();
    wait_until("all of them are told", async || {
        shown = json(&client.get(HISTORY).await).as_array().unwrap().clone();
        shown.iter().filter(|entry| entry["notificationStatus"] == "success").count() == 3
    })
    .await;
    let succeeded = shown.iter().filter(|entry| entry["notificationStatus"] == "success");
    let succeeded: Vec<&str> = succeeded.map(|entry| entry["contentId"].as_str().unwrap()).collect();
    assert_eq!(succeeded, everything);
    assert!(shown.iter().any(|entry| entry["notificationStatus"] == "failed"), "the history survives a restart");
    assert!(shown.iter().all(|entry| entry["notificationSent"].as_str().unwrap().ends_with('Z')), "{shown:?}");
}

#[tokio::test]
async fn the_history_of_notifications_is_paged() {
    let authority = Authority::new();
    let (mut service, mut receiver) = (service_with(&authority).await, Receiver::start(&authority).await);
    set(&service.client().await, &mut receiver).await;
    service.publish_blobs("Audit.General", 501).await;
    told(&mut receiver, 501).await;
    let client = service.client().await;
    let mut pages = Vec::new();
    wait_until("all are in the history", async || {
        pages.clear();
        let mut page = client.get(HISTORY).await;
        loop {
            pages.push(json(&page).as_array().unwrap().clone());
            match page.header("nextpageuri").map(str::to_owned) {
                Some(next) => page = client.follow(&next).await,
                None => break,
            }
        }
        pages.iter().map(Vec::len).sum::<usize>() == 501
    })
    .await;
    let ids: Vec<&str> = pages.iter().flatten().map(|entry| entry["contentId"].as_str().unwrap()).collect();
    assert_eq!(ids, listed(&client).await);
    assert!(pages.len() >= 2);
}

#[tokio::test]
async fn an_expired_webhook_and_a_removed_clients_are_told_nothing_until_they_are_back() {
    let authority = Authority::new();
    let (mut service, mut receiver) = (service_with(&authority).await, Receiver::start(&authority).await);
    let body =
        |expiration: &str| json!({ "webhook": { "address": receiver.url(), "expiration": expiration } }).to_string();
    let (short, long) = (body("2026-11-23T13:00:00"), body("2030-01-01T00:00:00Z"));
    let answer = service.client().await.post(START, &short).await;
    assert_eq!(json(&answer)["webhook"]["expiration"], "2026-11-23T13:00:00Z");
    assert!(receiver.next().await.contents().is_empty());
    service.clock.advance(Duration::from_secs(3600));
    assert_eq!(webhook_status(&service.client().await).await, "expired");
    service.publish_blobs("Audit.General", 1).await;
    // Setting it anew validates it first; so what comes before the validation would be seen before it.
    assert_eq!(service.client().await.post(START, &long).await.status, 200);
    assert!(receiver.next().await.contents().is_empty());
    assert_eq!(receiver.next().await.contents(), listed(&service.client().await).await);
    assert_eq!(webhook_status(&service.client().await).await, "enabled");
    // A removed client's subscription is told nothing; its next registration goes on with it.
    assert!(service.clients(&["revoke", "--client", CLIENT]));
    service.publish_blobs("Audit.General", 1).await;
    assert!(receiver.rest().is_empty());
    service.register(TENANT, CLIENT, SECRET, &ROLES);
    service.publish_blobs("Audit.General", 1).await;
    let all: Vec<String> = told(&mut receiver, 2).await.iter().flat_map(Seen::contents).collect();
    assert_eq!(all, listed(&service.client().await).await[1..]);
}

#[tokio::test]
async fn what_can_not_be_stored_is_not_answered_with_success_and_changes_nothing() {
    let authority = Authority::new();
    let mut service = service_with(&authority).await;
    let client = service.client().await;
    service.disk().fail_from(service.disk().steps(), Fault::Enospc);
    let answer = client.post(START, "").await;
    assert_eq!(error(&answer), (500, "AF50000".into()));
    assert_eq!(client.get("subscriptions/list").await.text(), "[]");
    service.disk().clear_faults();
    client.subscribe("Audit.General").await;
    service.disk().fail_from(service.disk().steps(), Fault::Enospc);
    assert_eq!(error(&client.post(STOP, "").await), (500, "AF50000".into()));
    service.disk().clear_faults();
    let before = client.get("subscriptions/list").await.text();
    assert!(before.contains("Audit.General"), "{before}");
    // What was answered is there after a restart; a damaged file costs the one subscription.
    client.subscribe("Audit.Exchange").await;
    let file = format!("sinks/office/subscriptions/{TENANT}.{CLIENT}.Audit.Exchange.json");
    service.stop().await;
    service.disk().put(&service.folder().join(file), b"{");
    service.run().await;
    let client = service.client().await;
    assert_eq!(client.get("subscriptions/list").await.text(), before);
    client.subscribe("Audit.Exchange").await;
}

/// Keeps the stopped time from moving by itself while sockets are waited for.
struct Stopped(std::sync::mpsc::Sender<()>);

impl Stopped {
    fn now() -> Self {
        let (held, release) = std::sync::mpsc::channel();
        tokio::time::pause();
        tokio::task::spawn_blocking(move || {
            let _ = release.recv();
        });
        Self(held)
    }

    fn over(self) {
        drop(self.0);
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_webhook_that_fails_is_tried_ever_more_rarely_then_disabled_and_told_everything_when_enabled() {
    let authority = Authority::new();
    let (mut service, mut receiver) = (service_with(&authority).await, Receiver::start(&authority).await);
    set(&service.client().await, &mut receiver).await;
    receiver.answer_with(Answer::Status(503));
    service.publish_blobs("Audit.General", 1).await;
    assert_eq!(receiver.next().await.contents().len(), 1);
    service.publish_blobs("Audit.General", 1).await;
    let client = service.client().await;
    let failures = async |count: usize| {
        // By the machine's clock: tokio's stands still.
        let begun = std::time::Instant::now();
        loop {
            assert!(begun.elapsed() < receiver::PATIENCE, "waited in vain for {count} attempts");
            let shown = json(&client.get(HISTORY).await).as_array().unwrap().clone();
            let sent = shown.iter().filter(|entry| entry["contentId"] == shown[0]["contentId"]).count();
            if sent >= count {
                assert_eq!(sent, count, "it was tried too often");
                return;
            }
        }
    };
    failures(1).await;
    let stopped = Stopped::now();
    for failed in 1..30_u32 {
        let longest = Duration::from_secs((60 << (failed - 1).min(10)).min(3600));
        // Half of it is always waited for.
        tokio::time::advance(longest / 2 - Duration::from_secs(1)).await;
        failures(failed as usize).await;
        assert_eq!(webhook_status(&client).await, "enabled", "after {failed} failures");
        tokio::time::advance(longest / 2 + Duration::from_secs(2)).await;
        receiver.next().await;
        failures(failed as usize + 1).await;
    }
    assert_eq!(webhook_status(&client).await, "disabled");
    tokio::time::advance(Duration::from_secs(7200)).await;
    failures(30).await;
    stopped.over();
    // Content is there for it all the same, and a start enables it again.
    assert_eq!(listed(&client).await.len(), 2);
    receiver.rest();
    receiver.answer_with(Answer::Status(200));
    let url = receiver.url();
    assert_eq!(json(&client.post(START, &webhook(&url)).await)["webhook"]["status"], "enabled");
    assert!(receiver.next().await.contents().is_empty());
    assert_eq!(receiver.next().await.contents(), listed(&client).await);
}

#[tokio::test]
async fn a_webhook_that_hangs_delays_no_other() {
    let authority = Authority::new();
    let mut service = service_with(&authority).await;
    let (mut hanging, mut healthy) = (Receiver::start(&authority).await, Receiver::start(&authority).await);
    let other = "99999999-9999-9999-9999-999999999999";
    service.register(TENANT, other, SECRET, &ROLES);
    set(&service.client().await, &mut hanging).await;
    let second = Client { service: &service, host: service::FEED.into(), token: service.token_of(TENANT, other).await };
    set(&second, &mut healthy).await;
    // Each sees its own subscription only.
    assert_eq!(json(&second.get("subscriptions/list").await)[0]["webhook"]["address"], healthy.url());
    hanging.answer_with(Answer::Nothing);
    for contents in 1..=3 {
        service.publish_blobs("Audit.General", 1).await;
        assert_eq!(told(&mut healthy, 1).await.len(), 1, "{contents}");
    }
    assert!(hanging.next().await.contents().len() == 1);
}

#[tokio::test]
async fn no_spelling_of_an_address_inside_is_called() {
    let authority = Authority::new();
    let mut service = Service::prepare("webhooks.ca = \"ca.pem\"", &ROLES);
    fs::write(service.folder().join("ca.pem"), authority.pem()).unwrap();
    service.run().await;
    let (client, log, receiver) = (service.client().await, Log::begin(), Receiver::start(&authority).await);
    let port = receiver.port();
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "017700000001",
        "0",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
        "①②⑦.⓪.⓪.①",
        "localhost",
        "LOCALHOST.",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "10.0.0.1",
        "192.168.1.1",
        "172.16.0.1",
        "169.254.169.254",
        "[::ffff:169.254.169.254]",
        "[fd00:ec2::254]",
        "168.63.129.16",
        "user@127.0.0.1",
        "manage.office.com@127.0.0.1",
        "manage.office.com:443@127.0.0.1",
        "127.0.0.1#@manage.office.com",
        "127.0.0.1?@manage.office.com",
        "127.0.0.1\\\\@manage.office.com",
    ] {
        let body = format!("{{\"webhook\":{{\"address\":\"https://{host}:{port}/\"}}}}");
        // What the port stands behind differs; none of them may be called.
        let answer = client.post(START, &body).await;
        let (status, code) = error(&answer);
        assert!(status == 400 && matches!(code.as_str(), "AF20021" | "AF20002"), "{host}: {}", answer.text());
        assert!(code == "AF20002" || log.take().contains("could not be validated"), "{host}");
        // Why is not for who asks: it would show him our network.
        assert!(!answer.text().contains("private"), "{}", answer.text());
    }
    assert_eq!(receiver.connections(), 0);
    assert_eq!(client.get("subscriptions/list").await.text(), "[]");
}

#[tokio::test]
async fn a_name_that_leads_inside_after_it_was_validated_is_not_called() {
    let authority = Authority::new();
    let (mut service, mut receiver) = (service_with(&authority).await, Receiver::start(&authority).await);
    set(&service.client().await, &mut receiver).await;
    let connections = receiver.connections();
    // To the service the name leads inside from now on.
    service.stop().await;
    service.reconfigure("webhooks.allow_private = true", "webhooks.allow_private = false");
    service.run().await;
    let log = Log::begin();
    service.publish_blobs("Audit.General", 1).await;
    let mut logged = String::new();
    wait_until("it is refused", async || {
        logged += &log.take();
        logged.contains("a webhook was not notified")
    })
    .await;
    assert!(logged.contains("private, local or special address") && !logged.contains("canary"), "{logged}");
    assert_eq!(receiver.connections(), connections);
}

#[tokio::test]
async fn only_a_webhook_whose_certificate_proves_its_name_now_is_called() {
    let (ours, foreign) = (Authority::new(), Authority::new());
    let service = service_with(&ours).await;
    let (client, log) = (service.client().await, Log::begin());
    let year = |year| rcgen::date_time_ymd(year, 1, 1);
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    for (what, (certificate, key)) in [
        ("expired", ours.issue("localhost", |params| (params.not_before, params.not_after) = (year(2001), year(2002)))),
        ("not yet valid", ours.issue("localhost", |params| params.not_before = year(3000))),
        ("another name", ours.issue("webhook.example", |_| {})),
        ("an unknown authority", foreign.issue("localhost", |_| {})),
        ("self-signed", (own.cert.pem(), own.signing_key.serialize_pem())),
    ] {
        let mut receiver = Receiver::with_certificate(&certificate, &key).await;
        assert_eq!(error(&client.post(START, &webhook(&receiver.url())).await), (400, "AF20021".into()), "{what}");
        assert!(receiver.rest().is_empty(), "{what}: it was sent something");
        let logged = log.take();
        assert!(logged.contains("TLS") && logged.contains("could not be validated"), "{what}: {logged}");
    }
    let mut good = Receiver::start(&ours).await;
    set(&client, &mut good).await;
}
