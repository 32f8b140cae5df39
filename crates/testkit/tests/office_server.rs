//! The stand-in for the Office 365 Management Activity API keeps to its reference.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use actlog_core::Timestamp;
use actlog_testkit::http::{Connection, Response};
use actlog_testkit::office_server::{Answered, ContentPlan, OfficeOptions, OfficeServer};
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

const DAY: i64 = 86_400_000;
const PUBLISHER: &str = "PublisherIdentifier=41463f53-8812-40f4-890f-865bf6e35190";

fn now() -> Timestamp {
    Timestamp::parse("2026-11-23T12:00:00Z").unwrap()
}

fn plan(records: u64) -> ContentPlan {
    ContentPlan::new(7, records, now().plus_milliseconds(-2 * DAY), now().plus_milliseconds(-60_000))
}

/// A client that does what a good one does, and lets the tests do what they like.
struct Client {
    connection: Connection,
    token: String,
}

impl Client {
    async fn connect(server: &OfficeServer) -> Self {
        Self::connect_for(server, "https://manage.office.com").await
    }

    /// With a token for an interface.
    async fn connect_for(server: &OfficeServer, resource: &str) -> Self {
        let address: SocketAddr = server.url().strip_prefix("http://").unwrap().parse().unwrap();
        let mut connection = Connection::open(address).await.unwrap();
        let form = format!(
            "grant_type=client_credentials&client_id={}&client_secret={}&scope={resource}/.default",
            OfficeServer::CLIENT_ID,
            OfficeServer::SECRET.replace('%', "%25").replace('+', "%2B").replace('&', "%26")
        );
        let path = format!("/{}/oauth2/v2.0/token", OfficeServer::TENANT);
        let answer = connection.request("POST", &path, &[], form.as_bytes()).await.unwrap();
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        Self { connection, token: answer["access_token"].as_str().unwrap().to_owned() }
    }

    async fn send(&mut self, method: &str, target: &str) -> Response {
        let token = format!("Bearer {}", self.token);
        self.connection.request(method, target, &[("Authorization", &token)], b"").await.unwrap()
    }

    /// A request to the feed.
    async fn feed(&mut self, method: &str, what: &str) -> Response {
        let separator = if what.contains('?') { '&' } else { '?' };
        let target = format!("/api/v1.0/{}/activity/feed/{what}{separator}{PUBLISHER}", OfficeServer::TENANT);
        self.send(method, &target).await
    }

    async fn subscribe(&mut self, content_types: &[&str]) {
        self.feed("GET", "subscriptions/list").await;
        for content_type in content_types {
            let answer = self.feed("POST", &format!("subscriptions/start?contentType={content_type}")).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }

    /// All entries of a window, page by page.
    async fn list(&mut self, content_type: &str, from: &str, to: &str) -> Vec<Value> {
        let window = format!("subscriptions/content?contentType={content_type}&startTime={from}&endTime={to}");
        let mut answer = self.feed("GET", &window).await;
        let mut entries = Vec::new();
        loop {
            assert_eq!(answer.status, 200, "{}", answer.text());
            entries.extend(serde_json::from_slice::<Vec<Value>>(&answer.body).unwrap());
            let Some(next) = answer.header("nextpageuri") else { return entries };
            let target = next.split_once("/api/").map(|(_, rest)| format!("/api/{rest}&{PUBLISHER}")).unwrap();
            answer = self.send("GET", &target).await;
        }
    }

    async fn fetch(&mut self, entry: &Value) -> Response {
        let uri = entry["contentUri"].as_str().unwrap();
        let (_, target) = uri.split_once("/api/").unwrap();
        self.send("GET", &format!("/api/{target}?{PUBLISHER}")).await
    }
}

fn code(answer: &Response) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    body["error"]["code"].as_str().unwrap_or_default().to_owned()
}

async fn start(plan: ContentPlan) -> OfficeServer {
    OfficeServer::start(OfficeOptions::new(plan, now())).await
}

#[tokio::test]
async fn a_good_client_gets_every_record_with_its_copies() {
    let plan = ContentPlan { duplicates_percent: 30, expired_per_mille: 100, malformed_per_mille: 10, ..plan(5000) };
    let options = OfficeOptions { page_size: 7, ..OfficeOptions::new(plan, now()) };
    let server = OfficeServer::start(options).await;
    let mut client = Client::connect(&server).await;
    let content_types = actlog_testkit::office_server::CONTENT_TYPES;
    client.subscribe(&content_types).await;
    let (mut ids, mut expired, mut malformed) = (Vec::new(), 0, 0);
    for content_type in content_types {
        for (from, to) in
            [("2026-11-21T12:00:00", "2026-11-22T12:00:00Z"), ("2026-11-22T12:00", "2026-11-23T12:00:00.000Z")]
        {
            for entry in client.list(content_type, from, to).await {
                let answer = client.fetch(&entry).await;
                if answer.status == 404 {
                    assert_eq!(code(&answer), "AF20051");
                    expired += 1;
                    continue;
                }
                let records: Vec<Value> = serde_json::from_slice(&answer.body).unwrap();
                for record in records {
                    match record["Id"].as_str() {
                        Some(id) => ids.push(Uuid::try_parse(id).unwrap()),
                        None => malformed += 1,
                    }
                }
            }
        }
    }
    let content = server.content();
    let (distinct, lost): (HashSet<Uuid>, HashSet<Uuid>) = (ids.iter().copied().collect(), content.lost());
    assert_eq!(distinct, content.available());
    assert!(distinct.is_disjoint(&lost) && !lost.is_empty());
    assert_eq!(expired, content.blobs().filter(|blob| blob.is_expired).count());
    let expected: usize = content.blobs().filter(|blob| !blob.is_expired).map(|blob| content.malformed(&blob)).sum();
    assert!(malformed == expected && malformed > 0, "{malformed} of {expected}");
    let copies = ids.len() - distinct.len();
    assert!((900..1600).contains(&copies), "about 30 of 100 are copies: {copies} of {}", ids.len());
    assert_eq!(server.violations(), Vec::<String>::new());
    let blobs = server.answered().blobs;
    assert_eq!(blobs + expired as u64, 100);
}

#[tokio::test]
async fn the_same_plan_gives_the_same_content_for_ever() {
    let plan = ContentPlan { content_types: vec!["Audit.General"], duplicates_percent: 20, ..plan(500) };
    let (a, b) = (start(plan.clone()).await, start(plan).await);
    assert!(a.content().blobs().eq(b.content().blobs()));
    let (mut one, mut other) = (Client::connect(&a).await, Client::connect(&b).await);
    one.subscribe(&["Audit.General"]).await;
    other.subscribe(&["Audit.General"]).await;
    let (from, to) = ("2026-11-22T12:00:00", "2026-11-23T12:00:00");
    let (listed, again) = (one.list("Audit.General", from, to).await, other.list("Audit.General", from, to).await);
    assert!(!listed.is_empty());
    let body = one.fetch(&listed[0]).await.body;
    assert_eq!(body, other.fetch(&again[0]).await.body);
    assert_eq!(hex::encode(Sha256::digest(&body)), "614e744271f75c2ad18c7c54ab54f7100bfba1aa129743a4324852b30728e79f");
    let blob = a.content().blobs().next().unwrap();
    assert_eq!(blob.content_id, "20261121121337999000000$20261121121337999000000$audit_general$Audit_General$emea0036");
}

#[tokio::test]
async fn records_are_as_unlike_as_real_ones() {
    let server = start(plan(3000)).await;
    let mut client = Client::connect(&server).await;
    let content_types = actlog_testkit::office_server::CONTENT_TYPES;
    client.subscribe(&content_types).await;
    let mut forms: HashMap<&str, HashSet<String>> = HashMap::new();
    for content_type in content_types {
        for entry in client.list(content_type, "2026-11-22T12:00:00", "2026-11-23T12:00:00").await {
            let records: Vec<Value> = serde_json::from_slice(&client.fetch(&entry).await.body).unwrap();
            for record in records {
                for name in ["RecordType", "ClientIP", "UserType", "Operation"] {
                    forms.entry(name).or_default().insert(record[name].to_string());
                }
                let created = Timestamp::parse(&format!("{}Z", record["CreationTime"].as_str().unwrap())).unwrap();
                let available = Timestamp::parse(entry["contentCreated"].as_str().unwrap()).unwrap();
                assert!(created <= available || content_type != "Audit.General", "events come before their blobs");
            }
        }
    }
    assert!(forms["RecordType"].len() > 20 && forms["RecordType"].contains("\"21\""), "{forms:?}");
    assert!(forms["ClientIP"].contains("null") && forms["ClientIP"].contains("\"[2001:db8::8a2e:370:7334]:443\""));
    assert!(forms["UserType"].contains("\"5\""));
}

#[tokio::test]
async fn requests_that_the_service_refuses_are_refused_with_its_codes() {
    let server = start(plan(500)).await;
    let mut client = Client::connect(&server).await;
    let answer = client.feed("GET", "subscriptions/content?contentType=Audit.General").await;
    assert_eq!((answer.status, code(&answer).as_str()), (400, "AF20022"));
    client.subscribe(&["Audit.General"]).await;
    let answer = client.feed("POST", "subscriptions/start?contentType=Audit.General").await;
    let text = r#"{"error":{"code":"AF20024","message":"The subscription is already enabled. No property change."}}"#;
    assert_eq!((answer.status, answer.text().as_str()), (400, text));
    let window =
        |from: &str, to: &str| format!("subscriptions/content?contentType=Audit.General&startTime={from}&endTime={to}");
    for (method, what, status, expected) in [
        ("POST", "subscriptions/start".to_owned(), 400, "AF20001"),
        ("POST", "subscriptions/start?contentType=Audit.Everything".to_owned(), 400, "AF20020"),
        ("GET", window("2026-11-21T12:00:00", "2026-11-22T12:00:02"), 400, "AF20055"),
        ("GET", window("2026-11-14T12:00:00", "2026-11-15T12:00:00"), 400, "AF20055"),
        ("GET", window("2026-11-22T12:00:00", "2026-11-21T12:00:00"), 400, "AF20055"),
        ("GET", window("yesterday", "2026-11-21T12:00:00"), 400, "AF20002"),
        ("GET", "subscriptions/content?contentType=Audit.General&startTime=2026-11-22".to_owned(), 400, "AF20030"),
        ("GET", "subscriptions/content?contentType=Audit.General&nextPage=x".to_owned(), 400, "AF20031"),
        ("GET", "audit/20261121123456789000000$x".to_owned(), 404, "AF20050"),
    ] {
        let answer = client.feed(method, &what).await;
        assert_eq!((answer.status, code(&answer).as_str()), (status, expected), "{what}");
    }
    for (tenant, expected) in [("contoso", "AF20013"), ("6f9bd25c-0a1f-4a1f-9c55-5a3e5ba0f7d1", "AF20010")] {
        let answer =
            client.send("GET", &format!("/api/v1.0/{tenant}/activity/feed/subscriptions/list?{PUBLISHER}")).await;
        assert_eq!((answer.status, code(&answer).as_str()), (400, expected));
    }
    let by_client = format!(
        "/API/v1.0//{}/Activity/Feed/Subscriptions/LIST?publisherIDENTIFIER={}",
        OfficeServer::CLIENT_ID,
        OfficeServer::TENANT
    );
    assert_eq!(client.send("GET", &by_client.replace("/API", "/api")).await.status, 200);
    assert_eq!(client.feed("POST", "subscriptions/stop?contentType=Audit.General").await.status, 204);
    assert_eq!(client.feed("POST", "subscriptions/list").await.status, 405);
    let mut of_another = Client::connect_for(&server, "https://graph.microsoft.com").await;
    assert_eq!(of_another.feed("GET", "subscriptions/list").await.status, 401);
    client.token = "made-up".to_owned();
    let denied = client.feed("GET", "subscriptions/list").await;
    assert_eq!(denied.status, 401);
    assert!(denied.text().contains("Authorization has been denied"));
}

#[tokio::test]
async fn what_a_client_should_not_do_is_noted() {
    let server = start(plan(500)).await;
    let mut client = Client::connect(&server).await;
    let feed = format!("/api/v1.0/{}/activity/feed", OfficeServer::TENANT);
    client.feed("POST", "subscriptions/start?contentType=Audit.General").await;
    client.send("GET", &format!("{feed}/subscriptions/list")).await;
    let window =
        |from: &str, to: &str| format!("subscriptions/content?contentType=Audit.General&startTime={from}&endTime={to}");
    client.feed("GET", "subscriptions/content?contentType=Audit.General&startTime=2026-11-22").await;
    client.feed("GET", &window("2026-11-21T10:00:00", "2026-11-21T11:00:00")).await;
    client.feed("GET", &window("2026-11-21T12:00:00", "2026-11-21T13:00:00")).await;
    client.feed("GET", &window("2026-11-21T13:00:00", "2026-11-22T13:00:01")).await;
    let blob = server.content().blobs().last().unwrap();
    client.feed("GET", &format!("audit/{}", blob.content_id)).await;
    for _ in 0..2 {
        client
            .feed("GET", &format!("{}&nextPage=00000009R000001", window("2026-11-21T12:00:00", "2026-11-21T13:00:00")))
            .await;
    }
    server.misdirect();
    let led_astray = client.list("Audit.General", "2026-11-21T12:00:00", "2026-11-22T12:00:00").await;
    let elsewhere: SocketAddr =
        led_astray[0]["contentUri"].as_str().unwrap().split('/').nth(2).unwrap().parse().unwrap();
    assert_ne!(format!("http://{elsewhere}"), server.url());
    let mut other = Connection::open(elsewhere).await.unwrap();
    other.request("GET", "/", &[("Authorization", "Bearer x")], b"").await.unwrap();
    let violations = server.violations();
    for expected in [
        "before anybody looked",
        "without PublisherIdentifier",
        "more than 24 hours",
        "without the other",
        "nobody asked for Audit.General from 2026-11-21T11:00:00Z to 2026-11-21T12:00:00Z",
        "which no listing named",
        "asked for twice",
        "another host",
    ] {
        assert!(violations.iter().any(|violation| violation.contains(expected)), "{expected}: {violations:?}");
    }
    assert_eq!(violations.len(), 8, "{violations:?}");
}

#[tokio::test]
async fn content_appears_and_expires_as_the_clock_moves() {
    let plan = ContentPlan::new(3, 400, now(), now().plus_milliseconds(DAY));
    let lag = Duration::from_secs(1800);
    let server =
        start(ContentPlan { listing_lag: lag, content_types: vec!["Audit.General"], records_per_blob: 4, ..plan })
            .await;
    let mut client = Client::connect(&server).await;
    client.subscribe(&["Audit.General"]).await;
    let day = ("2026-11-23T12:00:00", "2026-11-24T12:00:00");
    let date = client.feed("GET", "subscriptions/list").await.header("date").unwrap().to_owned();
    assert!(date.starts_with("Mon, 23 Nov 2026 12:0"), "{date}");
    let early = client.list("Audit.General", day.0, day.1).await.len();
    server.advance(Duration::from_secs(12 * 3600));
    let half = client.list("Audit.General", day.0, day.1).await;
    assert!(early < 5 && (40..60).contains(&half.len()), "{early}, {}", half.len());
    server.advance(Duration::from_secs(12 * 3600));
    let before = client.list("Audit.General", day.0, day.1).await.len();
    server.advance(lag);
    let all = client.list("Audit.General", day.0, day.1).await;
    assert!(before <= all.len() && all.len() == 100, "{before}");
    let lagging = server.content().blobs().filter(|blob| blob.listed > blob.created).count();
    assert!((1..20).contains(&lagging), "{lagging}");
    assert_eq!(client.fetch(&all[0]).await.status, 200);
    server.spoil(all[0]["contentId"].as_str().unwrap(), true);
    assert!(serde_json::from_slice::<Value>(&client.fetch(&all[0]).await.body).is_err());
    server.advance(Duration::from_secs(7 * 86_400));
    assert_eq!(code(&client.fetch(&all[0]).await), "AF20051");
}

#[tokio::test]
async fn failures_are_of_all_kinds_and_requests_are_limited() {
    let server = start(plan(500)).await;
    let mut client = Client::connect(&server).await;
    server.set_faults(1000);
    let mut kinds = HashSet::new();
    for _ in 0..100 {
        let answer = client.feed("GET", "subscriptions/list").await;
        kinds.insert((answer.status, code(&answer), answer.header("retry-after").is_some()));
    }
    assert_eq!(kinds.len(), 6, "{kinds:?}");
    assert_eq!(server.answered(), Answered { failures: 100, ..Answered::default() });
    server.set_faults(0);
    server.set_down(true);
    assert_eq!(client.feed("GET", "subscriptions/list").await.status, 503);
    server.set_down(false);
    assert_eq!(client.feed("GET", "subscriptions/list").await.status, 200);

    let limited =
        OfficeOptions { requests_per_minute: Some(5), may_read_dlp: false, ..OfficeOptions::new(plan(50), now()) };
    let server = OfficeServer::start(limited).await;
    let mut client = Client::connect(&server).await;
    client.feed("GET", "subscriptions/list").await;
    let refused = client.feed("POST", "subscriptions/start?contentType=DLP.All").await;
    assert_eq!((refused.status, code(&refused).as_str()), (401, "AF10001"));
    let mut codes = Vec::new();
    for _ in 0..6 {
        codes.push(code(&client.feed("GET", "subscriptions/list").await));
    }
    assert_eq!(codes.last().unwrap(), "AF429");
    server.advance(Duration::from_secs(60));
    assert_eq!(client.feed("GET", "subscriptions/list").await.status, 200);
}

#[tokio::test]
async fn a_client_that_misses_an_answer_finds_what_it_asked_for_done() {
    let server = start(plan(500)).await;
    let mut client = Client::connect(&server).await;
    client.feed("GET", "subscriptions/list").await;
    server.set_faults(1000);
    client.feed("POST", "subscriptions/start?contentType=Audit.General").await;
    server.set_faults(0);
    assert_eq!(code(&client.feed("POST", "subscriptions/start?contentType=Audit.General").await), "AF20024");
    server.disable("Audit.General");
    assert_eq!(client.feed("GET", "subscriptions/list").await.text(), "[]");
}
