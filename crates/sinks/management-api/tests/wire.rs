//! The requests that three real collectors sent, replayed to the byte: the answers are what each of them needs.
//!
//! Only what the service itself had given them is replaced: tokens, ids of content, and where the next page is.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails here fails the test")]

mod service;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use actlog_testkit::http::Response;
use actlog_testkit::{fixtures, skip};
use chrono::NaiveDateTime;
use serde::Deserialize;
use serde_json::{Value, json};
use service::{SMALL_BLOBS, Service, TENANT, error, json, parts};

/// What one widespread collector takes of an answer at most; the rest of the window is lost to it without a word.
const LARGEST: usize = 1 << 20;
/// Blobs of each content type: three pages.
const BLOBS: usize = 1_001;

/// A recorded request.
#[derive(Debug, Deserialize)]
struct Recorded {
    #[serde(rename = "m")]
    method: String,
    path: String,
    #[serde(rename = "h")]
    headers: Headers,
    body: String,
    status: u16,
}

/// Headers in their order.
#[derive(Debug)]
struct Headers(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Headers;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("headers")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
                let mut headers = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    headers.push(pair);
                }
                Ok(Headers(headers))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

fn recording(name: &str) -> Option<Vec<Recorded>> {
    let file = fixtures::shared()?.join("fixtures/office365/wire").join(name);
    let text = std::fs::read_to_string(file).ok()?;
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// A collector, as far as it depends on what it was given.
#[derive(Debug, Default)]
struct Replay {
    token: String,
    /// Where the next page of each content type is.
    next: BTreeMap<String, String>,
    /// Entries that were listed and not fetched yet.
    listed: BTreeMap<String, VecDeque<Value>>,
    /// Every content id that was listed.
    seen: BTreeSet<String>,
    records: usize,
    /// Whether the start that comes changes nothing.
    started: BTreeSet<String>,
}

/// The content type that a target names, as parameters have it.
fn content_type(target: &str) -> String {
    let (_, rest) = target.split_once("contentType=").unwrap_or_else(|| panic!("{target} has no content type"));
    rest.split('&').next().unwrap().to_owned()
}

impl Replay {
    /// The recorded target with what the service has given this time.
    fn target(&mut self, recorded: &str) -> String {
        if let Some((before, id)) = recorded.split_once("/audit/") {
            let content_type = id.split('$').nth(3).unwrap().replace('_', ".");
            let entry = self.listed.get_mut(&content_type).and_then(VecDeque::pop_front).expect("something is listed");
            let (_, target) = parts(entry["contentUri"].as_str().unwrap());
            assert_eq!(before.replace(service::CLIENT, TENANT), target.split_once("/audit/").unwrap().0);
            return target.to_owned();
        }
        let Some((window, _)) = recorded.split_once("&nextPage=") else { return recorded.to_owned() };
        let next = self.next.remove(&content_type(recorded)).expect("the page before has another behind it");
        let (_, target) = parts(&next);
        // The same window, in the same form, and the place.
        assert_eq!(window.replace(service::CLIENT, TENANT), target.split_once("&nextPage=").unwrap().0);
        target.to_owned()
    }

    /// The request as bytes: line and headers as recorded, with a token of this run.
    fn request(&self, recorded: &Recorded, target: &str) -> Vec<u8> {
        let mut request = format!("{} {target} HTTP/1.1\r\n", recorded.method);
        for (name, value) in &recorded.headers.0 {
            request += &format!("{name}: {}\r\n", value.replace("<jwt>", &self.token));
        }
        (request + "\r\n" + &recorded.body).into_bytes()
    }

    /// Looks at an answer as a collector does, and keeps what it keeps.
    fn take(&mut self, target: &str, answer: &Response) {
        assert!(answer.body.len() < LARGEST, "{target}: {} bytes", answer.body.len());
        let path = target.split('?').next().unwrap();
        let operation = path.rsplit_once("/feed/").map_or(path.rsplit('/').next().unwrap(), |(_, operation)| operation);
        if operation == "subscriptions/stop" {
            assert_eq!(answer.text(), "", "one collector takes nothing but 204");
            return;
        }
        assert!(answer.header("content-type").is_some_and(|value| value.starts_with("application/json")), "{target}");
        let body = json(answer);
        match operation {
            "openid-configuration" => {
                let (host, endpoint) = parts(body["token_endpoint"].as_str().unwrap());
                assert_eq!((host, endpoint), (service::LOGIN, format!("/{TENANT}/oauth2/v2.0/token").as_str()));
                assert!(body["authorization_endpoint"].is_string() && body["issuer"].is_string(), "{body}");
            }
            "token" => {
                self.token = body["access_token"].as_str().unwrap().to_owned();
                assert_eq!(body["token_type"], "Bearer");
                let is_v2 = path.contains("/v2.0/");
                assert_eq!((body["expires_in"].is_u64(), body["expires_in"].is_string()), (is_v2, !is_v2), "{body}");
            }
            "subscriptions/start" => {
                if self.started.insert(content_type(target)) {
                    assert_eq!(
                        (&body["status"], &body["contentType"]),
                        (&json!("enabled"), &json!(content_type(target)))
                    );
                } else {
                    assert_eq!(error(answer), (400, "AF20024".to_owned()));
                }
            }
            "subscriptions/list" => {
                for subscription in body.as_array().unwrap() {
                    assert_eq!(subscription["status"], "enabled");
                    assert!(self.started.contains(subscription["contentType"].as_str().unwrap()), "{subscription}");
                }
            }
            "subscriptions/content" => self.take_page(target, answer, &body),
            "subscriptions/notifications" | "resources/dlpSensitiveTypes" => assert_eq!(body, json!([])),
            blob if blob.starts_with("audit/") => {
                for record in body.as_array().unwrap() {
                    for key in ["Id", "CreationTime", "Operation", "Workload", "UserId"] {
                        assert!(record[key].is_string(), "{key}: {record}");
                    }
                    assert!(record["RecordType"].is_u64(), "{record}");
                    self.records += 1;
                }
            }
            other => panic!("{other} is not known"),
        }
    }

    fn take_page(&mut self, target: &str, answer: &Response, body: &Value) {
        let content_type = content_type(target);
        for entry in body.as_array().unwrap() {
            assert_eq!(entry["contentType"], content_type);
            for key in ["contentCreated", "contentExpiration"] {
                let time = entry[key].as_str().unwrap();
                NaiveDateTime::parse_from_str(time, "%Y-%m-%dT%H:%M:%S%.3fZ").unwrap();
            }
            let id = entry["contentId"].as_str().unwrap().to_owned();
            assert!(self.seen.insert(id), "{entry} is listed twice");
            self.listed.entry(content_type.clone()).or_default().push_back(entry.clone());
        }
        if let Some(next) = answer.header("nextpageuri") {
            self.next.insert(content_type, next.to_owned());
        }
    }
}

/// Replays a recording against a service with content, and gives what the collector then has.
async fn replay(recording: &[Recorded], content_types: &[&'static str]) -> Replay {
    let mut service = Service::start(SMALL_BLOBS).await;
    for content_type in content_types {
        for _ in 0..BLOBS {
            let record = service.large_record(content_type);
            service.append(&record);
        }
    }
    service.published().await;
    let mut replay = Replay::default();
    for recorded in recording {
        let target = replay.target(&recorded.path);
        let answer = service.send_bytes(&replay.request(recorded, &target)).await.unwrap();
        assert_eq!(answer.status, recorded.status, "{} {target}: {}", recorded.method, answer.text());
        replay.take(&target, &answer);
    }
    assert_eq!(replay.seen.len(), BLOBS * content_types.len(), "every page was listed");
    assert!(replay.next.is_empty(), "no page is left");
    let fetched = recording.iter().filter(|recorded| recorded.path.contains("/audit/")).count();
    assert!(fetched > 0 && replay.records == fetched, "one record is in each blob");
    replay
}

#[tokio::test]
async fn the_collector_of_ddbnl_gets_what_it_needs() {
    let Some(recording) = recording("wire_ddbnl.ndjson") else { skip!("there is no recording of this collector") };
    // It signs in by version 1, sends form types with everything and writes bearer in lower case.
    replay(&recording, &["Audit.General", "Audit.AzureActiveDirectory"]).await;
}

#[tokio::test]
async fn wazuh_gets_what_it_needs() {
    let Some(recording) = recording("wire_wazuh.ndjson") else { skip!("there is no recording of this collector") };
    // It has its client id in the paths, and starts the subscription with each scan.
    let replayed = replay(&recording, &["Audit.General"]).await;
    assert_eq!(replayed.started.len(), 1);
}

#[tokio::test]
async fn the_python_client_of_microsofts_engineers_gets_what_it_needs() {
    let Some(recording) = recording("wire_zizhu.ndjson") else { skip!("there is no recording of this collector") };
    replay(&recording, &["Audit.General"]).await;
}
