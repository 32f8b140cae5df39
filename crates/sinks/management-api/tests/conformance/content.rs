//! Windows, pages, restarts, expiry, shapes.

use std::time::Duration;

use serde_json::{Value, json};

use crate::service::{Client, FEED, SMALL_BLOBS, Service, error, json};
use crate::{DAY, GENERAL, are_in_order, keys};

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
