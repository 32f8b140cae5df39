//! The ways out: receivers that repeat every credential they are given, and a feed whose clients show theirs.

use std::future::ready;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use actlog_testkit::http::Connection;
use actlog_testkit::process::{Actlog, binary, free_address, wait_until};
use actlog_testkit::server::{Bytes, Request, Response, Server, StatusCode};
use serde_json::{Value, json};

use crate::canary::{Canaries, percent_encoded};

const TENANT: &str = "41463f53-8812-40f4-890f-865bf6e35190";
const CLIENT: &str = "a6099727-6b7b-482c-b509-1df309acc563";
/// The sinks that post to the receiver, and what each authenticates with.
const SINKS: [(&str, &str); 8] = [
    ("bearer", "format = \"json\"\nauth.bearer = { file = \"secrets/bearer\" }"),
    ("basic", "format = \"ndjson\"\nauth.basic = { user = \"ann\", password = { file = \"secrets/basic\" } }"),
    ("header", "format = \"cloudevents\"\nheaders = { X-Key = { file = \"secrets/header\" } }"),
    ("query", "format = \"json\"\nquery = { sig = { file = \"secrets/query\" } }"),
    ("splunk", "format = \"splunk-hec\"\nauth.splunk = { file = \"secrets/splunk\" }"),
    ("apikey", "format = \"elasticsearch\"\nauth.api_key = { file = \"secrets/apikey\" }"),
    (
        "oauth",
        "format = \"otlp\"\nauth.oauth2 = { token_url = \"URL/token\", client_id = \"ann\", secret = { file = \"secrets/oauth\" } }",
    ),
    ("wrong", "format = \"json\"\nauth.bearer = { file = \"secrets/wrong\" }\nurl = \"http://127.0.0.1:1/\""),
];

/// Says in its answer everything that it was told; the token endpoint gives the token.
fn repeat(request: &Request<Bytes>, status: &AtomicU16, token: &str) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::new());
    if request.uri().path() == "/token" {
        *answer.body_mut() =
            json!({ "access_token": token, "token_type": "Bearer", "expires_in": 3600 }).to_string().into();
        return answer;
    }
    *answer.status_mut() = StatusCode::from_u16(status.load(Ordering::Relaxed)).unwrap();
    let said = format!("{} {:?}", request.uri(), request.headers());
    // Splunk's codes: 4 is a wrong token, 6 an event that is refused.
    let code = if answer.status() == StatusCode::BAD_REQUEST { 6 } else { 4 };
    let errors = json!({ "error": { "reason": said, "type": said }, "text": said, "code": code, "message": said });
    *answer.body_mut() = errors.to_string().into();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_a_way_out_shows_although_receivers_repeat_it() {
    let mut canaries = Canaries::default();
    let folder = tempfile::tempdir().unwrap();
    let secrets = folder.path().join("secrets");
    std::fs::create_dir(&secrets).unwrap();
    let mut secret = |name: &str| {
        // What goes into a header must be visible ASCII, as these all are.
        let secret = canaries.text(name).replace(['"', '\\'], "-");
        std::fs::write(secrets.join(name), &secret).unwrap();
        secret
    };
    SINKS.iter().for_each(|(name, _)| drop(secret(name)));
    let (client, wrong, token) = (secret("client"), secret("wrong-client"), secret("token"));
    let status = Arc::new(AtomicU16::new(401));
    let (answered, given) = (Arc::clone(&status), token.clone());
    let receiver = Server::start(move |request| ready(repeat(&request, &answered, &given))).await;
    add_client(folder.path());
    let feed = free_address();
    std::fs::write(folder.path().join("records.ndjson"), actlog_tests::context("Update", "account", 1)).unwrap();
    let mut config = format!(
        "[sources.contexts]\ntype = \"crm\"\npath = \"records.ndjson\"\n\n[log]\nlevel = \"trace\"\n\n\
         [sinks.feed]\ntype = \"management-api\"\nlisten = \"{feed}\"\nclients = \"secrets/clients.toml\"\n\
         tenants.contoso = {{ id = \"{TENANT}\" }}\n\n"
    );
    for (name, keys) in SINKS {
        let url = if keys.contains("\nurl = ") { String::new() } else { format!("url = \"{}\"\n", receiver.url()) };
        let keys = keys.replace("URL", &receiver.url());
        config += &format!("[sinks.{name}]\ntype = \"http\"\n{keys}\n{url}client.allow_private = true\n\n");
    }
    let mut actlog = Actlog::start(folder.path(), &config).await;
    let mut printed = Vec::new();
    for answer in [401, 403, 500, 302] {
        status.store(answer, Ordering::Relaxed);
        let complaints = async || {
            let status = actlog.command(&["status", "--json"]);
            let status: Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
            SINKS.iter().all(|(name, _)| status["sinks"][*name]["status"] != "ok")
        };
        wait_until("all receivers are complained of", complaints).await;
        printed.push(actlog.command(&["status"]).stdout);
        // The next process begins its log anew.
        printed.push(actlog.process.stderr().into_bytes());
        actlog.restart().await;
    }
    // What a receiver will never take becomes a dead letter, with what it said.
    status.store(400, Ordering::Relaxed);
    let refused = async || {
        let listed = actlog.command(&["deadletters", "list", "--json"]).stdout;
        let lines = String::from_utf8_lossy(&listed).into_owned();
        SINKS.iter().filter(|(name, _)| *name != "wrong").all(|(name, _)| lines.contains(&format!("\"{name}\"")))
    };
    wait_until("all receivers have refused the record", refused).await;
    for (secret, expected) in [(&client, 200), (&wrong, 401)] {
        let form = format!(
            "grant_type=client_credentials&client_id={CLIENT}&client_secret={}&scope=https://manage.office.com/.default",
            percent_encoded(secret)
        );
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let mut connection = Connection::open(feed).await.unwrap();
        let target = format!("/{TENANT}/oauth2/v2.0/token");
        let answer = connection.request("POST", &target, &headers, form.as_bytes()).await.unwrap();
        assert_eq!(answer.status, expected, "{}", answer.text());
        let given: Value = serde_json::from_slice(&answer.body).unwrap();
        match given["access_token"].as_str() {
            Some(token) => {
                canaries.watch("token of the feed", token.rsplit('.').next().unwrap().as_bytes());
                let bearer = format!("Bearer {token}");
                for (header, status) in [(bearer.clone(), 200), (format!("{bearer}x"), 401)] {
                    let headers = [("authorization", header.as_str())];
                    let list = format!("/api/v1.0/{TENANT}/activity/feed/subscriptions/list");
                    let answer = connection.request("GET", &list, &headers, b"").await.unwrap();
                    assert_eq!(answer.status, status, "{}", answer.text());
                    printed.push(answer.body);
                }
            }
            None => printed.push(answer.body),
        }
    }
    printed.push(actlog.metrics().await.into_bytes());
    for command in ["status --json", "deadletters list", "deadletters list --json", "sinks list", "plugins", "validate"]
    {
        let output = actlog.command(&command.split(' ').collect::<Vec<_>>());
        printed.extend([output.stdout, output.stderr]);
    }
    actlog.stop().await;
    let log = actlog.process.stderr();
    assert!(log.contains("TRACE"), "the log has its finest level");
    let mut found: Vec<_> = printed.iter().flat_map(|bytes| canaries.found("an output", bytes)).collect();
    found.extend(canaries.found("the log", log.as_bytes()));
    found.extend(canaries.found_below(folder.path(), &secrets));
    assert_eq!(found, [""; 0], "{}", found.join("\n"));
}

fn add_client(folder: &Path) {
    let mut command = Command::new(binary());
    command.args(["clients", "add", "--file", "secrets/clients.toml", "--tenant", TENANT, "--client", CLIENT]);
    command.args(["--role", "ActivityFeed.Read", "--secret-file", "secrets/client"]).current_dir(folder);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
