//! Hosts, paths, methods, headers, bodies, figures.

use crate::service::{FEED, LOGIN, Service, TENANT, feed, json};
use crate::{GENERAL, keys};

#[tokio::test]
async fn host_and_path_say_which_service_is_meant_and_under_a_name_of_our_own_both_are_there() {
    let service = Service::start("").await;
    let list = feed("subscriptions/list");
    let configuration = format!("/{TENANT}/v2.0/.well-known/openid-configuration");
    for (host, of_feed, of_login) in [
        (FEED, 401, 404),
        ("manage.office365.us", 401, 404),
        (LOGIN, 404, 200),
        ("login.windows.net", 404, 200),
        ("sts.windows.net", 404, 200),
        ("login.microsoftonline.us", 404, 200),
        ("actlog.contoso.com:8443", 401, 200),
        ("127.0.0.1", 401, 200),
    ] {
        let status = async |target: &str| service.send(host, "GET", target, &[], b"").await.unwrap().status;
        assert_eq!((status(&list).await, status(&configuration).await), (of_feed, of_login), "{host}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_404_and_another_method_405_with_the_right_one() {
    let service = Service::start("").await;
    let client = service.client().await;
    for target in ["/", "/api", "/api/v2.0/x", &feed("getUsers"), &feed("audit"), &feed("audit/a/b"), "/favicon.ico"] {
        let answer = client.ask("GET", target, &[], b"").await;
        assert_eq!((answer.status, keys(&json(&answer))), (404, vec!["Message"]), "{target}");
    }
    for (method, operation, allowed) in [
        ("GET", "subscriptions/start", "POST"),
        ("PUT", "subscriptions/stop", "POST"),
        ("POST", "subscriptions/list", "GET"),
        ("DELETE", "audit/x", "GET"),
        ("OPTIONS", "subscriptions/content", "GET"),
    ] {
        let answer = client.ask(method, &feed(operation), &[], b"").await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allowed)), "{method} {operation}");
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
}

#[tokio::test]
async fn every_answer_has_the_headers_of_the_service() {
    let mut service = Service::start("").await;
    service.publish(1).await;
    let client = service.client().await;
    client.subscribe("Audit.General").await;
    let blob = format!("audit/{}", client.list(GENERAL).await[0]["contentId"].as_str().unwrap());
    for operation in
        ["subscriptions/list", &format!("subscriptions/content?{GENERAL}"), &blob, "subscriptions/content", "x"]
    {
        let answer = client.get(operation).await;
        assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"), "{operation}");
        assert_eq!(answer.header("cache-control"), Some("no-cache"), "{operation}");
        assert_eq!((answer.header("pragma"), answer.header("expires")), (Some("no-cache"), Some("-1")), "{operation}");
        assert!(answer.header("date").is_some_and(|date| date.ends_with(" GMT")), "{operation}");
        assert_eq!(answer.header("retry-after"), None);
    }
}

#[tokio::test]
async fn a_body_that_no_request_needs_is_not_taken() {
    let service = Service::start("").await;
    let client = service.client().await;
    let huge = format!("{{\"x\":\"{}\"}}", "x".repeat(20_000));
    assert_eq!(client.post(&format!("subscriptions/start?{GENERAL}"), &huge).await.status, 413);
    let token = service.send(LOGIN, "POST", &format!("/{TENANT}/oauth2/token"), &[], huge.as_bytes()).await.unwrap();
    assert_eq!(token.status, 413);
}
#[tokio::test]
async fn answers_are_counted_by_operation_and_status() {
    let service = Service::start("").await;
    let client = service.client().await;
    client.subscribe("Audit.General").await;
    client.get("subscriptions/list").await;
    client.get("subscriptions/list").await;
    client.get("subscriptions/content").await;
    client.get("nothing").await;
    service.send(FEED, "GET", &feed("subscriptions/list"), &[], b"").await.unwrap();
    let text = service.harness.metrics_text();
    let counted = |operation: &str, status: &str| {
        let labels = format!("operation=\"{operation}\",status=\"{status}\"");
        let mut lines = text.lines().filter(|line| line.starts_with("actlog_management_api_requests_total"));
        let line = lines.find(|line| line.contains(&labels));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    for (operation, status, count) in [
        ("token", "200", 1),
        ("start", "200", 1),
        ("list", "200", 2),
        ("list", "401", 1),
        ("content", "400", 1),
        ("none", "404", 1),
    ] {
        assert_eq!(counted(operation, status), count, "{operation} {status}: {text}");
    }
}
