//! Each error's code, and what leads to it.

use std::time::Duration;

use serde_json::json;

use crate::service::{Service, error, feed, json};
use crate::{GENERAL, OTHER};

#[tokio::test]
async fn each_wrong_request_gets_its_code() {
    let mut service = Service::start("").await;
    service.publish(1).await;
    let client = service.client().await;
    client.subscribe("Audit.General").await;
    client.subscribe("Audit.Exchange").await;
    let stopped = client.post("subscriptions/stop?contentType=Audit.Exchange", "").await;
    assert_eq!((stopped.status, stopped.text().as_str()), (204, ""));
    let content = |rest: &str| ("GET", format!("subscriptions/content?{rest}"));
    let start = |rest: &str| ("POST", format!("subscriptions/start?{rest}"));
    for ((method, operation), code) in [
        (content(""), "AF20001"),
        (content("contentType="), "AF20001"),
        (start(""), "AF20001"),
        (("POST", "subscriptions/stop".to_owned()), "AF20001"),
        (("GET", "subscriptions/notifications".to_owned()), "AF20001"),
        (content("contentType=Audit.Nothing"), "AF20020"),
        (start("contentType=General"), "AF20020"),
        (content("contentType=Audit.SharePoint"), "AF20022"),
        (content("contentType=Audit.Exchange"), "AF20022"),
        (("GET", "subscriptions/notifications?contentType=Audit.Exchange".to_owned()), "AF20022"),
        (("POST", "subscriptions/stop?contentType=Audit.SharePoint".to_owned()), "AF20022"),
        (start(GENERAL), "AF20024"),
        (content(&format!("{GENERAL}&startTime=yesterday&endTime=2026-11-23")), "AF20002"),
        (content(&format!("{GENERAL}&startTime=2026-11-23&endTime=x")), "AF20002"),
        (content(&format!("{GENERAL}&startTime=2026-11-23")), "AF20030"),
        (content(&format!("{GENERAL}&endTime=2026-11-23")), "AF20030"),
        (content(&format!("{GENERAL}&startTime=2026-11-21&endTime=2026-11-23")), "AF20055"),
        (content(&format!("{GENERAL}&startTime=2026-11-23T12:00:01&endTime=2026-11-23T12:00:00")), "AF20055"),
        (content(&format!("{GENERAL}&startTime=2026-11-14T12:00:00&endTime=2026-11-14T13:00:00")), "AF20055"),
        (content(&format!("{GENERAL}&nextPage=nonsense")), "AF20031"),
        (("GET", format!("subscriptions/notifications?{GENERAL}&nextPage=nonsense")), "AF20031"),
        (("GET", "audit/x".to_owned()), "AF20052"),
    ] {
        let answer = client.ask(method, &feed(&operation), &[], b"").await;
        let status = if code == "AF20050" { 404 } else { 400 };
        assert_eq!(error(&answer), (status, code.to_owned()), "{method} {operation}");
    }
    for (id, code) in [(OTHER, "AF20010"), ("contoso.onmicrosoft.com", "AF20013"), ("x", "AF20013")] {
        let answer = client.ask("GET", &format!("/api/v1.0/{id}/activity/feed/subscriptions/list"), &[], b"").await;
        assert_eq!(error(&answer), (400, code.to_owned()), "{id}");
    }
}

#[tokio::test]
async fn a_webhook_that_cannot_be_one_is_refused_and_nothing_is_started() {
    let service = Service::start("").await;
    let client = service.client().await;
    for (webhook, code) in [
        (json!({ "address": "http://hooks.example.com/" }), "AF20021"),
        (json!({ "address": "https://127.0.0.1/" }), "AF20021"),
        (json!({ "address": "https://hooks.example.com/", "expiration": "2001-01-01T00:00:00Z" }), "AF20003"),
    ] {
        let body = json!({ "webhook": webhook }).to_string();
        let answer = client.post(&format!("subscriptions/start?{GENERAL}"), &body).await;
        assert_eq!(error(&answer), (400, code.to_owned()), "{webhook}");
    }
    for body in ["x", "[]", r#"{"webhook":1}"#, "\u{0}", r#"{"webhook":{"address":1}}"#] {
        let answer = client.post(&format!("subscriptions/start?{GENERAL}"), body).await;
        assert_eq!(answer.status, 400, "{body:?}: {}", answer.text());
        assert_eq!(error(&answer).1, "AF20002", "{body:?}");
    }
    assert_eq!(json(&client.get("subscriptions/list").await), json!([]));
}

#[tokio::test]
async fn the_language_of_sensitive_types_is_one_or_none() {
    let service = Service::start("").await;
    let client = service.client().await;
    let ask =
        async |headers: &[(&str, &str)]| client.ask("GET", &feed("resources/dlpSensitiveTypes"), headers, b"").await;
    for headers in [&[][..], &[("Accept-Language", "en-US")], &[("Accept-Language", "de;q=0.5")]] {
        let answer = ask(headers).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "[]"), "{headers:?}");
    }
    for (headers, code) in [
        (&[("Accept-Language", "en-US,de")][..], "AF20053"),
        (&[("Accept-Language", "en"), ("Accept-Language", "de")], "AF20053"),
        (&[("Accept-Language", "e_n")], "AF20054"),
        (&[("Accept-Language", "en;q=x")], "AF20054"),
    ] {
        assert_eq!(error(&ask(headers).await), (400, code.to_owned()), "{headers:?}");
    }
}

#[tokio::test]
async fn requests_are_throttled_for_each_publisher_where_that_is_configured() {
    let service = Service::start("throttle = { requests_per_minute = 3 }").await;
    let client = service.client().await;
    let list = |publisher: &str| format!("subscriptions/list?PublisherIdentifier={publisher}");
    for _ in 0..3 {
        assert_eq!(client.get(&list(OTHER)).await.status, 200);
    }
    let refused = client.get(&list(OTHER)).await;
    assert_eq!(error(&refused), (429, "AF429".to_owned()));
    let words = format!("Too many requests. Method=ListSubscriptions, PublisherId={OTHER}");
    assert_eq!(json(&refused)["error"]["message"], words);
    assert_eq!(client.get("subscriptions/list").await.status, 200, "the shared account is another");
    service.clock.advance(Duration::from_secs(20));
    assert_eq!(client.get(&list(OTHER)).await.status, 200);
}

#[tokio::test]
async fn a_stopped_subscription_can_be_started_again_only_after_a_while_where_that_is_configured() {
    let service = Service::start("throttle = { starts = true }").await;
    let client = service.client().await;
    client.subscribe("Audit.General").await;
    assert_eq!(client.post(&format!("subscriptions/stop?{GENERAL}"), "").await.status, 204);
    service.clock.advance(Duration::from_secs(374));
    let refused = client.post(&format!("subscriptions/start?{GENERAL}"), "").await;
    assert_eq!(error(&refused), (429, "429".to_owned()));
    let words = "Too many frequent subscription start requests. Please retry again after 8m 46s.";
    assert_eq!(json(&refused)["error"]["message"], words);
    service.clock.advance(Duration::from_secs(526));
    client.subscribe("Audit.General").await;
}

#[tokio::test]
async fn content_that_cannot_be_read_now_is_an_internal_error_and_may_be_asked_for_again() {
    let mut service = Service::start("").await;
    service.publish(1).await;
    let client = service.client().await;
    client.subscribe("Audit.General").await;
    let entry = client.list(GENERAL).await.remove(0);
    service.storage.fail_reads(true);
    let failed = client.follow(entry["contentUri"].as_str().unwrap()).await;
    assert_eq!(error(&failed), (500, "AF50000".to_owned()));
    assert!(!failed.text().contains("segment") && !failed.text().contains("/tmp"), "{}", failed.text());
    service.storage.fail_reads(false);
    assert_eq!(client.fetch(&entry).await.len(), 1);
}
