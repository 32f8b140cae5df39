//! The description of the interface is true: it is a valid document, every answer is as it says, and nothing that it
//! says is missing.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails here fails the test")]

mod service;

use std::io::Write;
use std::process::{Command, Stdio};

use actlog_testkit::fixtures::workspace;
use actlog_testkit::http::Response;
use actlog_testkit::peers;
use serde_json::{Value, json};
use service::{CLIENT, FEED, LOGIN, SECRET, Service, TENANT, feed, json};

const GENERAL: &str = "contentType=Audit.General";

/// What was asked and answered, for the check.
fn exchange(method: &str, target: &str, answer: &Response) -> Value {
    let path = target.split('?').next().unwrap();
    let media_type = answer.header("content-type").unwrap_or_default();
    json!({ "method": method, "path": path, "status": answer.status, "type": media_type, "body": answer.text() })
}

/// Asks everything that can be asked, well and badly.
async fn exchanges() -> Vec<Value> {
    let mut service = Service::start("throttle = { requests_per_minute = 100, starts = true }").await;
    service.publish(30).await;
    let client = service.client().await;
    let mut exchanges = Vec::new();
    for (method, operation) in [
        ("POST", format!("subscriptions/start?{GENERAL}")),
        ("POST", format!("subscriptions/start?{GENERAL}")),
        ("POST", "subscriptions/start?contentType=Audit.SharePoint".to_owned()),
        ("GET", "subscriptions/list".to_owned()),
        ("GET", format!("subscriptions/content?{GENERAL}")),
        ("GET", format!("subscriptions/content?{GENERAL}&startTime=2001-01-01&endTime=2001-01-02")),
        ("GET", "subscriptions/content".to_owned()),
        ("GET", format!("subscriptions/notifications?{GENERAL}")),
        ("GET", "audit/20251123120300000123456$20251123120300000123456$audit_general$Audit_General".to_owned()),
        ("GET", "audit/x".to_owned()),
        ("GET", "resources/dlpSensitiveTypes".to_owned()),
        ("POST", "subscriptions/stop?contentType=Audit.SharePoint".to_owned()),
        ("POST", "subscriptions/start?contentType=Audit.SharePoint".to_owned()),
        ("POST", "subscriptions/stop?contentType=Audit.Exchange".to_owned()),
    ] {
        let target = feed(&operation);
        let answer = client.ask(method, &target, &[], b"").await;
        exchanges.push(exchange(method, &target, &answer));
        let denied = service.send(FEED, method, &target, &[], b"").await.unwrap();
        exchanges.push(exchange(method, &target, &denied));
    }
    for entry in client.list(GENERAL).await {
        let target = feed(&format!("audit/{}", entry["contentId"].as_str().unwrap()));
        exchanges.push(exchange("GET", &target, &client.ask("GET", &target, &[], b"").await));
    }
    let good = format!("grant_type=client_credentials&client_id={CLIENT}&client_secret={SECRET}");
    let bad = format!("grant_type=client_credentials&client_id={CLIENT}&client_secret=wrong");
    for (endpoint, aim) in [
        ("oauth2/token", "resource=https://manage.office.com"),
        ("oauth2/v2.0/token", "scope=https://manage.office.com/.default"),
    ] {
        let target = format!("/{TENANT}/{endpoint}");
        for form in [format!("{good}&{aim}"), format!("{bad}&{aim}"), "grant_type=password".to_owned()] {
            let answer = service.send(LOGIN, "POST", &target, &[], form.as_bytes()).await.unwrap();
            exchanges.push(exchange("POST", &target, &answer));
        }
    }
    for target in [
        format!("/{TENANT}/.well-known/openid-configuration"),
        format!("/{TENANT}/v2.0/.well-known/openid-configuration"),
        format!("/{TENANT}/discovery/keys"),
        format!("/{TENANT}/discovery/v2.0/keys"),
        format!(
            "/common/discovery/instance?api-version=1.1&authorization_endpoint=https://{LOGIN}/{TENANT}/oauth2/authorize"
        ),
        "/unknown.example/v2.0/.well-known/openid-configuration".to_owned(),
        "/openapi.json".to_owned(),
    ] {
        exchanges.push(exchange("GET", &target, &service.send(LOGIN, "GET", &target, &[], b"").await.unwrap()));
    }
    // And once more than is allowed.
    let target = feed("subscriptions/list");
    loop {
        let answer = client.ask("GET", &target, &[], b"").await;
        let is_throttled = answer.status == 429;
        exchanges.push(exchange("GET", &target, &answer));
        if is_throttled {
            return exchanges;
        }
    }
}

#[tokio::test]
async fn every_answer_is_as_the_description_says_and_everything_described_is_there() {
    let document: Value = {
        let service = Service::start("").await;
        json(&service.send(FEED, "GET", "/openapi.json", &[], b"").await.unwrap())
    };
    let exchanges = exchanges().await;
    let statuses: std::collections::BTreeSet<_> = exchanges.iter().map(|one| one["status"].as_u64().unwrap()).collect();
    assert!(statuses.is_superset(&[200, 204, 400, 401, 404, 429].into()), "{statuses:?}");
    let Some(python) = peers::python() else { return };
    let mut check = Command::new(python)
        .arg(workspace().join("tests/peers/check_openapi.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let given = json!({ "document": document, "exchanges": exchanges }).to_string();
    check.stdin.take().unwrap().write_all(given.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
}
