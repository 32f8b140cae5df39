//! The service is what collectors take Microsoft's for: the ten rules that decide whether they work, every error code,
//! and the shapes of all answers.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails here fails the test")]

mod service;

use std::collections::BTreeSet;
use std::time::Duration;

use actlog_core::AuditRecord;
use actlog_core::config::Organization;
use actlog_testkit::process::wait_until;
use serde_json::{Value, json};
use service::{CLIENT, Client, FEED, LOGIN, SECRET, SMALL_BLOBS, Service, TENANT, error, feed, json, parts};
use uuid::Uuid;

const GENERAL: &str = "contentType=Audit.General";
const OTHER: &str = "99999999-9999-9999-9999-999999999999";
const DAY: Duration = Duration::from_secs(86_400);

/// The keys of an object, in their order.
fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Whether keys are in a JSON text, in that order.
fn are_in_order(text: &str, keys: &[&str]) -> bool {
    let places: Vec<_> = keys.iter().map(|key| text.find(&format!("\"{key}\":"))).collect();
    places.iter().all(Option::is_some) && places.is_sorted()
}

/// Whether a text is `YYYY-MM-DDTHH:MM:SS.mmmZ`, and nothing else.
fn is_content_time(text: &str) -> bool {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00T00:00:00.000Z"
}

// ---- §0's ten rules

#[tokio::test]
async fn rule_1_urls_begin_with_the_host_that_was_asked() {
    let mut service = Service::start(SMALL_BLOBS).await;
    service.publish_blobs("Audit.General", 501).await;
    let mut client = service.client().await;
    client.subscribe("Audit.General").await;
    for host in ["manage.office.com", "manage.office.com:443", "manage.office365.us", "feed.contoso.com:8443"] {
        client.host = host.to_owned();
        let page = client.get(&format!("subscriptions/content?{GENERAL}")).await;
        let shown = host.trim_end_matches(":443");
        let root = format!("https://{shown}/api/v1.0/{TENANT}/activity/feed/");
        let entries = json(&page);
        assert_eq!(entries.as_array().unwrap().len(), 500);
        for entry in entries.as_array().unwrap() {
            let (uri, id) = (entry["contentUri"].as_str().unwrap(), entry["contentId"].as_str().unwrap());
            assert_eq!(uri, format!("{root}audit/{id}"));
        }
        let next = page.header("NextPageUri".to_ascii_lowercase().as_str()).unwrap();
        assert!(next.starts_with(&format!("{root}subscriptions/content?")), "{next}");
    }
    // As collectors follow them: verbatim, with their PublisherIdentifier behind.
    client.host = FEED.to_owned();
    let page = client.get(&format!("subscriptions/content?{GENERAL}")).await;
    let next = format!("{}&PublisherIdentifier={OTHER}", page.header("nextpageuri").unwrap());
    assert_eq!(json(&client.follow(&next).await).as_array().unwrap().len(), 1);
    let blob = format!("{}?PublisherIdentifier={OTHER}", json(&page)[0]["contentUri"].as_str().unwrap());
    assert_eq!(client.follow(&blob).await.status, 200);
}

#[tokio::test]
async fn rule_1_a_configured_public_url_wins() {
    let mut service = Service::start("public_url = \"https://feed.example.com/\"").await;
    service.publish(1).await;
    let client = service.client().await;
    client.subscribe("Audit.General").await;
    let page = client.get(&format!("subscriptions/content?{GENERAL}")).await;
    let uri = json(&page)[0]["contentUri"].as_str().unwrap().to_owned();
    assert!(uri.starts_with(&format!("https://feed.example.com/api/v1.0/{TENANT}/")), "{uri}");
}

#[tokio::test]
async fn rule_1_a_host_that_is_none_is_refused_before_it_gets_into_a_url() {
    let service = Service::start("").await;
    for host in ["", "a b", "evil.example/path", "user@evil.example", "a:99999", "<script>"] {
        let answer = service.send(host, "GET", "/openapi.json", &[], b"").await.unwrap();
        assert_eq!((answer.status, keys(&json(&answer))), (400, vec!["Message"]), "{host:?}");
    }
    for request in [
        "GET /openapi.json HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET /openapi.json HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n",
    ] {
        assert_eq!(service.send_bytes(request.as_bytes()).await.unwrap().status, 400, "{request}");
    }
}

#[tokio::test]
async fn rule_2_the_path_may_have_the_clients_own_id() {
    let service = Service::start("").await;
    let client = service.client().await;
    let list = |id: &str| format!("/api/v1.0/{id}/activity/feed/subscriptions/list");
    for id in [TENANT, CLIENT, &TENANT.to_ascii_uppercase()] {
        assert_eq!(client.ask("GET", &list(id), &[], b"").await.status, 200, "{id}");
    }
    let refused = client.ask("GET", &list(OTHER), &[], b"").await;
    assert_eq!(error(&refused), (400, "AF20010".to_owned()));
}

#[tokio::test]
async fn rule_3_a_start_that_changes_nothing_is_refused_with_the_very_words_and_never_throttled() {
    let service = Service::start("throttle = { starts = true }").await;
    let client = service.client().await;
    client.subscribe("Audit.General").await;
    for body in ["", "{}", "  ", r#"{"webhook":null}"#] {
        let again = client.post(&format!("subscriptions/start?{GENERAL}"), body).await;
        let words =
            r#"{"error":{"code":"AF20024","message":"The subscription is already enabled. No property change."}}"#;
        assert_eq!((again.status, again.text().as_str()), (400, words), "{body:?}");
        assert_eq!(again.header("content-length"), Some("97"));
    }
}

#[tokio::test]
async fn rule_4_numbers_of_tokens_are_strings_in_version_1_and_integers_in_version_2() {
    let service = Service::start("").await;
    let form = |target: &str| {
        format!("grant_type=client_credentials&client_id={CLIENT}&client_secret={SECRET}&{target}").into_bytes()
    };
    for tenant in [TENANT, "contoso.onmicrosoft.com"] {
        let (v1, v2) = (form("resource=https://manage.office.com"), form("scope=https://manage.office.com/.default"));
        for target in [format!("/{tenant}/oauth2/token"), format!("/{tenant}/oauth2/token?api-version=1.0")] {
            let token = json(&service.send(LOGIN, "POST", &target, &[], &v1).await.unwrap());
            for key in ["expires_in", "ext_expires_in", "expires_on", "not_before"] {
                assert!(token[key].as_str().unwrap().parse::<u64>().is_ok(), "{key}: {token}");
            }
            assert_eq!(
                (&token["token_type"], &token["resource"]),
                (&json!("Bearer"), &json!("https://manage.office.com"))
            );
        }
        let token = service.send(LOGIN, "POST", &format!("/{tenant}/oauth2/v2.0/token"), &[], &v2).await.unwrap();
        let token = json(&token);
        assert!(token["expires_in"].is_u64() && token["ext_expires_in"].is_u64(), "{token}");
    }
    let path = format!("/{TENANT}/v2.0/.well-known/openid-configuration");
    let configuration = json(&service.send(LOGIN, "GET", &path, &[], b"").await.unwrap());
    let endpoint = configuration["token_endpoint"].as_str().unwrap();
    assert_eq!(endpoint, format!("https://{LOGIN}/{TENANT}/oauth2/v2.0/token"));
    let keys = configuration["jwks_uri"].as_str().unwrap();
    let (host, target) = parts(keys);
    let keys = json(&service.send(host, "GET", target, &[], b"").await.unwrap());
    assert!(keys["keys"].as_array().is_some_and(|keys| !keys.is_empty()), "{keys}");
}

#[tokio::test]
async fn rule_5_times_of_entries_have_milliseconds_and_a_zone_and_those_of_records_neither() {
    let mut service = Service::start("").await;
    service.publish(20).await;
    let client = service.client().await;
    client.subscribe("Audit.General").await;
    for entry in client.list(GENERAL).await {
        for key in ["contentCreated", "contentExpiration"] {
            assert!(is_content_time(entry[key].as_str().unwrap()), "{entry}");
        }
        for record in client.fetch(&entry).await {
            let created = record["CreationTime"].as_str().unwrap();
            assert_eq!(created.len(), "2026-11-23T12:03:00".len(), "{created}");
            assert!(!created.ends_with('Z'), "{created}");
        }
    }
}

#[tokio::test]
async fn rule_6_times_are_read_however_collectors_write_them() {
    let mut service = Service::start("").await;
    service.publish(1).await;
    let client = service.client().await;
    client.subscribe("Audit.General").await;
    // All of them mean a window that begins before the content and ends behind it.
    for (start, end) in [
        ("2026-11-22T12:03:33Z", "2026-11-23T12:03:33Z"),
        ("2026-11-22T13:03:38", "2026-11-23T12:03:38"),
        ("2026-11-23T09:56:23.379062%2B00:00", "2026-11-23T12:26:23.379062%2B00:00"),
        ("2026-11-23T11%3A58%3A31.439Z", "2026-11-23T12%3A58%3A31.439Z"),
        ("2026-11-22T12:30:00.123456789Z", "2026-11-23T12:30:00.123456789Z"),
        ("2026-11-22T18:00Z", "2026-11-23T18:00Z"),
        ("2026-11-22T18:00", "2026-11-23T18:00"),
        ("2026-11-22T13:03:38+00:00", "2026-11-23T12:03:38+00:00"),
        ("2026-11-23T13:00:00%2B01:00", "2026-11-23T14:00:00%2B01:00"),
        ("2026-11-23", "2026-11-24"),
    ] {
        let found = client.list(&format!("{GENERAL}&startTime={start}&endTime={end}")).await;
        assert_eq!(found.len(), 1, "{start} to {end}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_7_who_always_asks_from_where_he_ended_misses_nothing_while_content_is_published() {
    let mut service = Service::start(SMALL_BLOBS).await;
    let records: Vec<_> = (0..300).map(|_| service.large_record("Audit.General")).collect();
    for record in &records {
        service.append(record);
    }
    let client = service.client().await;
    client.subscribe("Audit.General").await;
    let (mut seen, mut reached) = (BTreeSet::new(), String::from("2026-11-23T12:00:00.000Z"));
    wait_until("all records were seen", async || {
        // As the collectors do whose bookmark is the last contentCreated.
        for entry in client.list(&format!("{GENERAL}&startTime={reached}&endTime=2026-11-24T12:00:00Z")).await {
            let created = entry["contentCreated"].as_str().unwrap().to_owned();
            // The entry of the bookmark itself is listed again; everything else is newer.
            assert!(created >= reached, "{created} was published after {reached} was listed");
            if created > reached || seen.is_empty() {
                for record in client.fetch(&entry).await {
                    assert!(seen.insert(record["Id"].as_str().unwrap().to_owned()), "{record} is there twice");
                }
            }
            reached = created;
        }
        seen.len() == records.len()
    })
    .await;
    assert_eq!(seen, service.ids());
}

#[tokio::test]
async fn rule_7_content_created_grows_strictly() {
    let mut service = Service::start(SMALL_BLOBS).await;
    service.publish_blobs("Audit.General", 50).await;
    let client = service.client().await;
    client.subscribe("Audit.General").await;
    let entries = client.list(GENERAL).await;
    let created: Vec<_> = entries.iter().map(|entry| entry["contentCreated"].as_str().unwrap()).collect();
    assert!(created.len() == 50 && created.is_sorted_by(|a, b| a < b), "{created:?}");
}

#[tokio::test]
async fn rule_8_no_answer_is_larger_than_collectors_take() {
    let mut service = Service::start("").await;
    service.publish(3_000).await;
    let client = service.client().await;
    client.subscribe("Audit.General").await;
    let mut ids = BTreeSet::new();
    let mut largest = 0;
    for entry in client.list(GENERAL).await {
        let blob = client.follow(entry["contentUri"].as_str().unwrap()).await;
        largest = largest.max(blob.body.len());
        ids.extend(json(&blob).as_array().unwrap().iter().map(|record| record["Id"].as_str().unwrap().to_owned()));
    }
    assert!((256 << 10..=512 << 10).contains(&largest), "{largest}: blobs are filled, and no more than that");
    assert_eq!(ids, service.ids());
}

#[tokio::test]
async fn rule_8_a_page_has_at_most_500_entries_and_256_kilobytes_whatever_the_host() {
    let mut service = Service::start(SMALL_BLOBS).await;
    service.publish_blobs("Audit.General", 600).await;
    let mut client = service.client().await;
    client.subscribe("Audit.General").await;
    for host in [FEED.to_owned(), format!("{}.example.com", ["a".repeat(60), "b".repeat(60), "c".repeat(60)].join("."))]
    {
        client.host = host;
        let page = client.get(&format!("subscriptions/content?{GENERAL}")).await;
        let entries = json(&page).as_array().unwrap().len();
        assert!(entries <= 500 && entries > 300 && page.body.len() < 256_000, "{entries}, {}", page.body.len());
        assert_eq!(client.list(GENERAL).await.len(), 600);
    }
}

#[tokio::test]
async fn rule_9_content_that_is_not_there_is_404_and_says_why() {
    let mut service = Service::start("").await;
    service.publish(1).await;
    let client = service.client().await;
    client.subscribe("Audit.General").await;
    let entry = client.list(GENERAL).await.remove(0);
    let id = entry["contentId"].as_str().unwrap().to_owned();
    let unknown = id.replace("20261123", "20261122");
    assert_eq!(error(&client.get(&format!("audit/{unknown}")).await), (404, "AF20050".to_owned()));
    for malformed in ["x", "1$2", "$$$", "%2F..%2F", "a%00b"] {
        let answer = client.get(&format!("audit/{malformed}")).await;
        assert_eq!(error(&answer), (400, "AF20052".to_owned()), "{malformed}");
    }
    service.clock.advance(8 * DAY);
    let client = service.client().await;
    assert_eq!(error(&client.get(&format!("audit/{id}")).await), (404, "AF20051".to_owned()));
}

#[tokio::test]
async fn rule_10_routes_and_names_are_read_liberally() {
    let mut service = Service::start("").await;
    service.publish(1).await;
    let client = service.client().await;
    client.subscribe("Audit.General").await;
    let id = client.list(GENERAL).await[0]["contentId"].as_str().unwrap().to_owned();
    assert!(id.contains('$'), "{id}");
    for target in [
        format!("/api/v1.0/{TENANT}/activity/feed//subscriptions/content?contenttype=audit.general"),
        format!(
            "/API/v1/{TENANT}/Activity/Feed/Subscriptions/Content?CONTENTTYPE=Audit.General&publisherIdentifier={OTHER}"
        ),
        format!(
            "//api//v1.0/{TENANT}/activity/feed/subscriptions/content/?{GENERAL}&starttime=2026-11-23&endtime=2026-11-24"
        ),
        format!("/api/v1.0/{TENANT}/activity/feed/Audit/{id}"),
        format!("/api/v1.0/{TENANT}/activity/feed/audit/{}", id.replace('$', "%24")),
        format!("/api/v1/{TENANT}/activity/feed/audit/{id}"),
    ] {
        let answer = client.ask("GET", &target, &[], b"").await;
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        assert_eq!(json(&answer).as_array().unwrap().len(), 1, "{target}");
    }
}

// ---- hosts, methods, paths, headers

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
async fn without_a_valid_token_nothing_is_told_and_no_body_is_read() {
    let service = Service::start("").await;
    let good = service.token_of(TENANT, CLIENT).await;
    let refused = [
        None,
        Some("Bearer".to_owned()),
        Some("Bearer ".to_owned()),
        Some("Bearer x.y.z".to_owned()),
        Some(format!("Basic {good}")),
        Some(format!("Bearer {}", &good[..good.len() - 4])),
    ];
    for authorization in refused {
        let headers: Vec<_> = authorization.iter().map(|value| ("Authorization", value.as_str())).collect();
        for operation in ["subscriptions/list", "audit/x", "resources/dlpSensitiveTypes"] {
            let answer = service.send(FEED, "GET", &feed(operation), &headers, b"").await.unwrap();
            assert_eq!(answer.status, 401, "{authorization:?}");
            assert_eq!(answer.text(), r#"{"Message":"Authorization has been denied for this request."}"#);
        }
    }
    // The answer comes although the body that is announced never does.
    let start = feed("subscriptions/start?contentType=Audit.General");
    let head = format!("POST {start} HTTP/1.1\r\nHost: {FEED}\r\nContent-Length: 10000\r\n\r\n");
    assert_eq!(service.send_bytes(head.as_bytes()).await.unwrap().status, 401);
    // The scheme counts in any case.
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let authorization = format!("{scheme} {good}");
        let headers = [("Authorization", authorization.as_str())];
        let answer = service.send(FEED, "GET", &feed("subscriptions/list"), &headers, b"").await.unwrap();
        assert_eq!(answer.status, 200, "{scheme}");
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

// ---- error codes

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
async fn windows_may_be_as_wide_and_as_old_as_collectors_make_them() {
    let mut service = Service::start("").await;
    service.publish(1).await;
    let client = service.client().await;
    client.subscribe("Audit.General").await;
    // The clock shows 12:04.
    for (start, end) in [
        ("2026-11-16T11:04:01", "2026-11-17T11:04:01"),
        ("2026-11-16T12:04:00", "2026-11-16T13:00:00"),
        ("2026-11-22T12:00:00", "2026-11-23T12:00:01"),
        ("2026-11-23T12:00:00", "2026-11-23T12:00:00"),
        ("2026-11-25T00:00:00", "2026-11-26T00:00:00"),
    ] {
        let answer = client.get(&format!("subscriptions/content?{GENERAL}&startTime={start}&endTime={end}")).await;
        assert_eq!(answer.status, 200, "{start} to {end}: {}", answer.text());
    }
    let too_old = "startTime=2026-11-16T11:03:59&endTime=2026-11-16T12:00:00";
    assert_eq!(error(&client.get(&format!("subscriptions/content?{GENERAL}&{too_old}")).await).1, "AF20055");
}

#[tokio::test]
async fn the_window_is_half_open_and_by_default_the_last_24_hours() {
    let mut service = Service::start("").await;
    service.publish(1).await;
    service.clock.advance(DAY - Duration::from_secs(120));
    service.publish(1).await;
    let client = service.client().await;
    client.subscribe("Audit.General").await;
    let both = client.list(GENERAL).await;
    let created: Vec<_> = both.iter().map(|entry| entry["contentCreated"].as_str().unwrap()).collect();
    assert_eq!(created.len(), 2, "{created:?}");
    let between = |start: &str, end: &str| format!("{GENERAL}&startTime={start}&endTime={end}");
    assert_eq!(client.list(&between(created[0], created[1])).await.len(), 1, "the end is not in the window");
    assert!(client.list(&between(created[0], created[0])).await.is_empty());
    service.clock.advance(Duration::from_secs(120));
    let client = service.client().await;
    assert_eq!(client.list(GENERAL).await.len(), 1, "the first is older than 24 hours now");
}

#[tokio::test]
async fn permissions_decide_by_content_type() {
    let mut service = Service::with_roles("", &["ActivityFeed.Read"]).await;
    let dlp = "b2222222-2222-2222-2222-222222222222";
    service.register(TENANT, dlp, SECRET, &["ActivityFeed.ReadDlp"]);
    service.publish_blobs("DLP.All", 1).await;
    service.publish(1).await;
    let reader = service.client().await;
    let guard = Client { token: service.token_of(TENANT, dlp).await, ..reader.clone() };
    reader.subscribe("Audit.General").await;
    guard.subscribe("DLP.All").await;
    let refused = (401, "AF10001".to_owned());
    for operation in ["content?", "notifications?"] {
        let operation = format!("subscriptions/{operation}");
        assert_eq!(error(&reader.get(&format!("{operation}contentType=DLP.All")).await), refused);
        assert_eq!(error(&guard.get(&format!("{operation}{GENERAL}")).await), refused);
    }
    assert_eq!(error(&reader.post("subscriptions/start?contentType=DLP.All", "").await), refused);
    assert_eq!(error(&guard.post(&format!("subscriptions/start?{GENERAL}"), "").await), refused);
    let of_guard = guard.list("contentType=DLP.All").await;
    let of_reader = reader.list(GENERAL).await;
    assert_eq!((of_guard.len(), of_reader.len()), (1, 1));
    let blob = |entry: &Value| format!("audit/{}", entry["contentId"].as_str().unwrap());
    assert_eq!(error(&reader.get(&blob(&of_guard[0])).await), refused);
    assert_eq!(error(&guard.get(&blob(&of_reader[0])).await), refused);
    assert_eq!(guard.fetch(&of_guard[0]).await.len(), 1);
}

#[tokio::test]
async fn a_client_without_permissions_gets_the_words_of_the_service() {
    let service = Service::with_roles("", &["ActivityFeed.ReadDlp"]).await;
    let client = service.client().await;
    let answer = client.get(&format!("subscriptions/content?{GENERAL}")).await;
    let words = json(&answer)["error"]["message"].as_str().unwrap().to_owned();
    assert!(
        words.starts_with("The permission set (") && words.ends_with("does not include the expected permission."),
        "{words}"
    );
}

#[tokio::test]
async fn a_tenant_sees_nothing_of_another() {
    let keys = format!("tenants.fabrikam.id = \"{OTHER}\"");
    let mut service = Service::prepare(&keys, &["ActivityFeed.Read"]);
    let ours = service.record();
    let theirs = AuditRecord { organization_id: Some(Uuid::from_u128(7)), ..service.record() };
    for (name, record, tenant) in [("contoso", &ours, TENANT), ("fabrikam", &theirs, OTHER)] {
        let tenant = Some(tenant.parse().unwrap());
        let organization = Organization { id: record.organization_id, tenant, ..Organization::default() };
        service.organizations.insert(name.to_owned(), organization);
    }
    let their_client = "b3333333-3333-3333-3333-333333333333";
    service.register(OTHER, their_client, SECRET, &["ActivityFeed.Read"]);
    service.run().await;
    service.append(&ours);
    service.append(&theirs);
    service.published().await;

    let we = service.client().await;
    we.subscribe("Audit.General").await;
    let entry = we.list(GENERAL).await.remove(0);
    let records = we.fetch(&entry).await;
    assert_eq!(records.iter().map(|record| record["Id"].clone()).collect::<Vec<_>>(), [json!(ours.id)]);

    let they = Client { token: service.token_of(OTHER, their_client).await, ..we.clone() };
    let own = |operation: &str| feed(operation).replace(TENANT, OTHER);
    let start = own(&format!("subscriptions/start?{GENERAL}"));
    assert_eq!(they.ask("POST", &start, &[], b"").await.status, 200);
    let listed = json(&they.ask("GET", &own(&format!("subscriptions/content?{GENERAL}")), &[], b"").await);
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(they.fetch(&listed[0]).await[0]["Id"], json!(theirs.id));
    let id = entry["contentId"].as_str().unwrap();
    assert_eq!(error(&they.ask("GET", &own(&format!("audit/{id}")), &[], b"").await), (404, "AF20050".to_owned()));
    assert_eq!(error(&they.get(&format!("audit/{id}")).await), (400, "AF20010".to_owned()));
    assert_eq!(service.ask_for_token(TENANT, their_client, SECRET).await.status, 400, "unknown in this tenant");
}

#[tokio::test]
async fn a_tenant_that_is_served_no_longer_does_not_exist() {
    let keys = "tenants.fabrikam.id = \"99999999-9999-9999-9999-999999999999\"";
    let mut service = Service::prepare(keys, &["ActivityFeed.Read"]);
    service.run().await;
    let token = service.token_of(TENANT, CLIENT).await;
    service.stop().await;
    service.leave_out_contoso();
    service.run().await;
    let client = Client { service: &service, host: FEED.to_owned(), token };
    assert_eq!(error(&client.get("subscriptions/list").await), (400, "AF20011".to_owned()));
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

// ---- pages, restarts, shapes

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_a_window_are_complete_while_content_is_published_and_each_works_again() {
    let mut service = Service::start(SMALL_BLOBS).await;
    service.publish_blobs("Audit.General", 1_100).await;
    let records: Vec<_> = (0..100).map(|_| service.large_record("Audit.General")).collect();
    let window = format!("{GENERAL}&startTime=2026-11-23&endTime=2026-11-23T12:03:30");
    let client = service.client().await;
    client.subscribe("Audit.General").await;
    let before: Vec<_> = client.list(&window).await;
    assert_eq!(before.len(), 1_100);

    let mut pages = vec![client.get(&format!("subscriptions/content?{window}")).await];
    let mut more = records.iter();
    while let Some(next) = pages.last().unwrap().header("nextpageuri").map(str::to_owned) {
        more.by_ref().take(40).for_each(|record| {
            service.harness.append(record);
        });
        let (once, again) = (client.follow(&next).await, client.follow(&next).await);
        assert_eq!(once.body, again.body, "a page is the same when it is asked for again");
        pages.push(once);
    }
    let listed: Vec<Value> = pages.iter().flat_map(|page| json(page).as_array().unwrap().clone()).collect();
    assert_eq!(listed, before, "no blob twice, none missing, in order");
    assert_eq!(pages.iter().map(|page| json(page).as_array().unwrap().len()).collect::<Vec<_>>(), [500, 500, 100]);
}

#[tokio::test]
async fn after_a_restart_everything_is_as_clients_were_shown_it() {
    let mut service = Service::start("").await;
    service.publish(50).await;
    let before = {
        let client = service.client().await;
        client.subscribe("Audit.General").await;
        let entries = client.list(GENERAL).await;
        let mut blobs = Vec::new();
        for entry in &entries {
            blobs.push(client.follow(entry["contentUri"].as_str().unwrap()).await.body);
        }
        (client.token, entries, blobs, client.service.ids())
    };
    service.stop().await;
    service.run().await;
    let (token, entries, blobs, _) = before;
    let client = Client { service: &service, host: FEED.to_owned(), token };
    assert_eq!(client.list(GENERAL).await, entries, "the token is still valid, the subscription still there");
    for (entry, blob) in entries.iter().zip(blobs) {
        assert_eq!(client.follow(entry["contentUri"].as_str().unwrap()).await.body, blob);
    }
}

#[tokio::test]
async fn what_has_expired_is_not_listed_and_a_retention_beyond_seven_days_can_be_listed_whole() {
    for (keys, after, is_listed) in [("", 8, false), ("retention = \"20 days\"", 15, true)] {
        let mut service = Service::start(keys).await;
        service.publish(1).await;
        service.clock.advance(after * DAY);
        let client = service.client().await;
        client.subscribe("Audit.General").await;
        let window = format!("subscriptions/content?{GENERAL}&startTime=2026-11-23&endTime=2026-11-24");
        let answer = client.get(&window).await;
        assert_eq!(answer.status == 200 && json(&answer) != json!([]), is_listed, "{keys}: {}", answer.text());
    }
}

#[tokio::test]
async fn answers_have_the_shapes_of_the_references_samples() {
    let Some(samples) = actlog_testkit::fixtures::shared() else {
        actlog_testkit::skip!("there are no samples");
    };
    let sample = |name: &str| -> Value {
        let file = samples.join("fixtures/office365/ms-docs").join(name);
        serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
    };
    let mut service = Service::start("").await;
    service.publish(1).await;
    let client = service.client().await;
    let started = client.post(&format!("subscriptions/start?{GENERAL}"), "").await;
    assert_eq!(keys(&json(&started)), keys(&sample("start_response.json")));
    assert!(are_in_order(&started.text(), &["contentType", "status", "webhook"]), "{}", started.text());
    let listed = json(&client.get("subscriptions/list").await);
    assert_eq!(keys(&listed[0]), keys(&sample("list_response_as_printed.json")[0]));
    assert_eq!(listed, json!([{ "contentType": "Audit.General", "status": "enabled", "webhook": null }]));
    let page = client.get(&format!("subscriptions/content?{GENERAL}")).await;
    assert_eq!(keys(&json(&page)[0]), keys(&sample("content_list_response.json")[0]));
    // The sample's order is not the live service's, which this is.
    let live = ["contentUri", "contentId", "contentType", "contentCreated", "contentExpiration"];
    assert!(are_in_order(&page.text(), &live), "{}", page.text());
}
