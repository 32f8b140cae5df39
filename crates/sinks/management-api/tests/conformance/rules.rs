//! §0's ten rules of the reference: what decides whether collectors work at all.

use std::collections::BTreeSet;

use actlog_testkit::process::wait_until;
use serde_json::json;

use crate::service::{CLIENT, FEED, LOGIN, SECRET, SMALL_BLOBS, Service, TENANT, error, json, parts};
use crate::{DAY, GENERAL, OTHER, is_content_time, keys};

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
            if created > reached {
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
