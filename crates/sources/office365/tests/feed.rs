//! What the service does, and what the source makes of it: pages, duplicates, expiry, errors, clocks, crashes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails here fails the test")]

mod common;

use actlog_core::{Status, Timestamp};
use actlog_testkit::compliance::SourceRun;
use actlog_testkit::process::wait_until;
use actlog_testkit::server::{Server, StatusCode, empty};
use common::{Answer, DAY, HOUR, MINUTE, SECRET, TENANT, World, blob, record};

/// Why the source is degraded; empty when it is not.
fn degraded(run: &SourceRun) -> String {
    match run.health.get() {
        Status::Degraded { reason } => reason,
        _ => String::new(),
    }
}

/// The window of each listing that was asked for.
fn windows(world: &World) -> Vec<(Timestamp, Timestamp)> {
    let requests = world.service.state().requests.clone();
    let listings = requests.iter().filter(|request| request.contains("subscriptions/content"));
    let times = listings.map(|request| {
        let time = |name: &str| {
            let value = request.split(name).nth(1).unwrap().split('&').next().unwrap();
            Timestamp::parse(&format!("{}Z", value.replace("%3A", ":"))).unwrap()
        };
        (time("startTime="), time("endTime="))
    });
    times.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_pages_are_followed_and_each_record_is_taken_once() {
    let world = World::new("").await;
    for number in 0..25 {
        // Each blob holds again what the one before it held.
        world.service.state().publish(&format!("c{number}"), HOUR, blob([number, number + 1]));
    }
    let run = world.start().await;
    world.wait_for(26).await;
    world.wait_for_round().await;
    assert_eq!(world.taken(), (0..26).collect::<Vec<_>>());
    assert_eq!(world.harness.duplicates(), 0, "the source itself knows what it has emitted");
    assert_eq!(world.service.state().count("/audit/"), 25, "what is known is not fetched again");
    assert_eq!(run.health.get(), Status::Ok);
    let metrics = world.harness.metrics_text();
    let figure = |name: &str, label: &str| {
        let line = metrics.lines().find(|line| line.starts_with(&format!("{name}{{")) && line.contains(label));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .unwrap_or_else(|| panic!("{name}: {metrics}"))
    };
    assert_eq!(figure("actlog_source_received_total", ""), 26);
    assert_eq!(figure("actlog_office365_duplicate_records_total", ""), 24);
    assert_eq!(figure("actlog_office365_blobs_total", "taken"), 25);
    assert!(figure("actlog_office365_requests_total", "outcome=\"answered\"") >= 25 + 3);
    assert!(figure("actlog_office365_lag_seconds", "Audit.General") < 60);
    let stored = &world.harness.durable()[0];
    assert_eq!(stored.record.content_type.as_deref(), Some("Audit.General"));
    world.stop(run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_listed_late_is_taken() {
    let world = World::new("").await;
    world.service.state().publish("first", MINUTE, blob([1]));
    let run = world.start().await;
    world.wait_for(1).await;
    world.wait_for_round().await;
    // Created half an hour ago, and listed only now, when that time has long been listed.
    world.service.state().publish("late", HOUR / 2, blob([2]));
    world.wait_for(2).await;
    world.stop(run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_takes_nothing_twice_even_if_the_blob_is_another_one() {
    let mut world = World::new("").await;
    for round in 0..5 {
        for number in 0..20 {
            // Duplicates come in other blobs, also long after the first.
            let records = [round * 20 + number, number, (round * 20 + number) / 2];
            world.service.state().publish(&format!("c{round}-{number}"), HOUR, blob(records));
        }
        let run = world.start().await;
        let so_far = usize::try_from(round * 20).unwrap();
        world.wait_for(so_far + 7).await;
        // Somewhere in the middle, or at the end.
        world.kill(run).await;
    }
    let run = world.start().await;
    world.wait_for(100).await;
    world.wait_for_round().await;
    assert_eq!(world.taken(), (0..100).collect::<Vec<_>>());
    assert_eq!(world.harness.duplicates(), 0);
    world.stop(run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_cannot_be_had_is_stated_as_a_gap_once_and_the_rest_is_taken() {
    let world = World::new("").await;
    let created = {
        let mut state = world.service.state();
        let now = state.now();
        let expired = state.publish("expired", 2 * HOUR, blob([1]));
        expired.expires = now.plus_milliseconds(-MINUTE);
        let created = expired.created;
        state.publish("refused", HOUR, blob([2]));
        state.instead("audit/refused", Answer::error(404, "AF20051"));
        state.publish("unknown", HOUR, blob([3]));
        state.instead("audit/unknown", Answer::error(404, "AF20050"));
        state.publish("good", HOUR, blob([4]));
        created
    };
    let run = world.start().await;
    world.wait_for(1).await;
    assert!(world.harness.wait(|harness| harness.gaps().len() == 3).await, "{:?}", world.harness.gaps());
    world.wait_for_round().await;
    world.stop(run).await;
    // A restart lists the same time again, and has nothing to add.
    let run = world.start().await;
    world.wait_for_round().await;
    let gaps = world.harness.gaps();
    assert_eq!((gaps.len(), world.taken()), (3, vec![4]));
    let of = |id: &str| {
        let named = |detail: &String| detail.contains(&format!("content {id},"));
        gaps.iter().find(|gap| gap.detail.as_ref().is_some_and(named)).unwrap()
    };
    let expired = of("expired");
    assert_eq!((expired.reason.as_str(), expired.from, expired.to), ("expired", created, Some(created)));
    assert!(expired.detail.as_ref().unwrap().contains("contoso, Audit.General"), "{expired:?}");
    assert_eq!((of("refused").reason.as_str(), of("unknown").reason.as_str()), ("expired", "missing"));
    assert_eq!(world.service.state().count("audit/expired"), 0, "what has expired is not asked for");
    world.stop(run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_seven_days_are_caught_up_and_what_is_older_is_a_gap() {
    let world = World::new("").await;
    world.service.state().publish("before", HOUR, blob([1]));
    let run = world.start().await;
    world.wait_for(1).await;
    // The position is committed when there is something to commit.
    world.wait_for_round().await;
    world.service.state().publish("last", MINUTE, blob([2]));
    world.wait_for(2).await;
    world.stop(run).await;
    {
        let mut state = world.service.state();
        state.publish("too old", 0, blob([3]));
        state.ahead += 10 * DAY;
        for day in 0..7 {
            state.publish(&format!("day{day}"), day * DAY + 2 * HOUR, blob([10 + day.unsigned_abs()]));
        }
        state.requests.clear();
    }
    let run = world.start().await;
    world.wait_for(9).await;
    assert_eq!(world.taken(), [1, 2, 10, 11, 12, 13, 14, 15, 16]);
    let gaps = world.harness.gaps();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    let now = world.service.state().now().unix_milliseconds();
    let gap_ends = gaps[0].to.unwrap().unix_milliseconds();
    assert_eq!(gaps[0].reason, "outage");
    assert!((now - 7 * DAY + 5 * MINUTE - gap_ends).abs() < MINUTE, "{gaps:?}");
    assert!(now - gaps[0].from.unix_milliseconds() >= 10 * DAY - 2 * HOUR, "{gaps:?}");
    let windows = windows(&world);
    assert!(windows.windows(2).take(6).all(|pair| pair[0].1 == pair[1].0), "{windows:?}");
    world.stop(run).await;
    let run = world.start().await;
    world.wait_for_round().await;
    assert_eq!(world.harness.gaps().len(), 1, "a gap is stated once");
    world.stop(run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_record_goes_to_the_dead_letters_and_harms_nothing_around_it() {
    let world = World::new("").await;
    {
        let mut state = world.service.state();
        state.publish("odd", HOUR, format!("[{},null,{},\"text\"]", record(1), record(2)));
        state.publish("cut", HOUR, format!("[{},{}", record(3), &record(4)[..50]));
        state.publish("page", HOUR, "<html>proxy</html>");
        state.publish("good", HOUR, blob([5]));
    }
    let run = world.start().await;
    world.wait_for(4).await;
    assert!(
        world.harness.wait(|harness| harness.dead_letters().len() == 4).await,
        "{:?}",
        world.harness.dead_letters()
    );
    world.wait_for_round().await;
    assert_eq!(world.taken(), [1, 2, 3, 5]);
    let mut places: Vec<String> = world.harness.dead_letters().into_iter().map(|letter| letter.place).collect();
    places.sort();
    let place = |id: &str, number: u64| format!("contoso, Audit.General, content {id}, element {number}");
    assert_eq!(places, [place("cut", 2), place("odd", 2), place("odd", 4), place("page", 1)]);
    assert_eq!(world.service.state().count("audit/page"), 3, "a page of a proxy may be gone the next time");
    assert_eq!(world.service.state().count("audit/odd"), 1);
    world.stop(run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_full_of_nonsense_is_counted_and_does_not_fill_the_dead_letters() {
    let world = World::new("").await;
    let nonsense = vec!["17"; 1500].join(",");
    world.service.state().publish("nonsense", HOUR, format!("[{nonsense},{}]", record(1)));
    let run = world.start().await;
    world.wait_for(1).await;
    let letters = world.harness.dead_letters();
    assert_eq!(letters.len(), 1000);
    assert!(letters[999].reason.contains("only counted"), "{:?}", letters[999]);
    let metrics = world.harness.metrics_text();
    let rejected = metrics.lines().find(|line| line.starts_with("actlog_source_rejected_total"));
    assert!(rejected.is_some_and(|line| line.ends_with(" 1500")), "{rejected:?}");
    world.stop(run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_and_throttling_delay_and_lose_nothing() {
    let world = World::new("").await;
    {
        let mut state = world.service.state();
        let seconds = Answer { headers: vec![("retry-after", "1".to_owned())], ..Answer::error(429, "AF429") };
        for (number, of, answer) in [
            (1, "audit/c1", Answer::error(403, "AF429")),
            (2, "audit/c2", seconds),
            (3, "audit/c3", Answer::error(500, "AF50000")),
            (4, "audit/c4", Answer { status: 503, headers: Vec::new(), body: String::new() }),
            // A proxy's 404 says nothing about the content.
            (5, "audit/c5", Answer { status: 404, headers: Vec::new(), body: "<html>".to_owned() }),
            (6, "subscriptions/list", Answer::error(429, "429")),
            (7, "subscriptions/content", Answer::error(502, "")),
            (8, "subscriptions/start", Answer::error(500, "AF50000")),
        ] {
            state.publish(&format!("c{number}"), HOUR, blob([number]));
            state.instead(of, answer);
        }
    }
    let run = world.start().await;
    world.wait_for(8).await;
    assert_eq!(world.taken(), (1..9).collect::<Vec<_>>());
    assert_eq!((world.harness.gaps(), world.harness.dead_letters()), (Vec::new(), Vec::new()));
    let metrics = world.harness.metrics_text();
    assert!(metrics.contains("outcome=\"throttled\""), "{metrics}");
    world.stop(run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_blob_that_always_fails_holds_up_nothing_but_the_position() {
    let world = World::new("overlap = \"0 s\"").await;
    {
        let mut state = world.service.state();
        state.publish("bad", 2 * HOUR, blob([1]));
        for _ in 0..1000 {
            state.instead("audit/bad", Answer::error(400, "AF20001"));
        }
        state.publish("good", MINUTE, blob([2]));
    }
    let run = world.start().await;
    world.wait_for(1).await;
    assert_eq!(world.taken(), [2]);
    wait_until("health says so", async || degraded(&run).contains("AF20001")).await;
    let reason = degraded(&run);
    assert!(reason.starts_with("contoso Audit.General: "), "{reason}");
    world.wait_for_round().await;
    world.stop(run).await;
    // The next run finds it where it was left.
    world.service.state().instead.clear();
    let run = world.start().await;
    world.wait_for(2).await;
    wait_until("all is well", async || run.health.get() == Status::Ok).await;
    world.stop(run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_is_renewed_once() {
    let world = World::new("").await;
    let run = world.start().await;
    world.wait_for_round().await;
    world.service.entra.revoke_all();
    world.service.state().publish("after", MINUTE, blob([1]));
    world.wait_for(1).await;
    assert_eq!(world.service.entra.issued(), 2);
    world.stop(run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_is_sent_to_another_host() {
    let world = World::new("").await;
    let seen = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = std::sync::Arc::clone(&seen);
    let elsewhere = Server::start(move |_| {
        counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        async { empty(StatusCode::OK) }
    })
    .await;
    {
        let mut state = world.service.state();
        state.publish("away", HOUR, blob([1])).uri = Some(format!("{}/api/v1.0/x", elsewhere.url()));
        state.publish("good", HOUR, blob([2]));
    }
    let run = world.start().await;
    world.wait_for(1).await;
    wait_until("health says so", async || degraded(&run).contains("another host")).await;
    world.stop(run).await;
    // And the same for pages.
    let next = Answer { status: 200, headers: vec![("nextpageuri", elsewhere.url())], body: "[]".to_owned() };
    world.service.state().contents.clear();
    world.service.state().instead("subscriptions/content", next);
    let run = world.start().await;
    wait_until("health says so", async || degraded(&run).contains("another host")).await;
    assert_eq!(seen.load(std::sync::atomic::Ordering::SeqCst), 0);
    world.stop(run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_content_type_without_permission_is_named_and_the_others_are_taken() {
    let mut world = World::new("").await;
    world.config = world.config.replace("[\"Audit.General\"]", "[\"DLP.All\", \"Audit.General\"]");
    for _ in 0..20 {
        world.service.state().instead("start?contentType=DLP.All", Answer::error(401, "AF10001"));
    }
    world.service.state().publish("good", HOUR, blob([1]));
    let run = world.start().await;
    world.wait_for(1).await;
    wait_until("health says so", async || degraded(&run).contains("ActivityFeed.ReadDlp")).await;
    assert!(degraded(&run).starts_with("contoso DLP.All: "), "{}", degraded(&run));
    world.stop(run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_cannot_sign_in_does_not_stop_the_others() {
    let mut world = World::new("").await;
    let other = TENANT.replace('1', "3");
    let contoso = world.config.split("[tenants.contoso]").nth(1).unwrap().to_owned();
    world.config += &format!("[tenants.fabrikam]{}", contoso.replace(TENANT, &other));
    world.service.state().publish("good", HOUR, blob([1]));
    let run = world.start().await;
    world.wait_for(1).await;
    wait_until("health says so", async || degraded(&run).contains("AADSTS90002")).await;
    let reason = degraded(&run);
    assert!(reason.contains("fabrikam Audit.General: ") && !reason.contains("contoso"), "{reason}");
    world.stop(run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_before_the_first_success_is_a_gap_as_well() {
    let world = World::new("since = \"0 s\"").await;
    world.service.state().enabled.insert("Audit.General".to_owned());
    // A proxy answers with a page of its own.
    let page = Answer { status: 200, headers: Vec::new(), body: "<html>".to_owned() };
    for _ in 0..10_000 {
        world.service.state().instead("subscriptions/list", page.clone());
    }
    let run = world.start().await;
    wait_until("health says so", async || degraded(&run).contains("not the JSON")).await;
    wait_until("the feed has tried again", async || world.service.state().count("subscriptions/list") > 2).await;
    // That lasts longer than the service lists anything.
    world.service.state().ahead = 10 * DAY;
    world.service.state().instead.clear();
    world.service.state().publish("now", MINUTE, blob([1]));
    world.wait_for(1).await;
    let gaps = world.harness.gaps();
    assert_eq!((gaps.len(), gaps[0].reason.as_str()), (1, "outage"), "{gaps:?}");
    let length = gaps[0].to.unwrap().unix_milliseconds() - gaps[0].from.unix_milliseconds();
    assert!((length - 3 * DAY).abs() < HOUR, "{gaps:?}");
    world.stop(run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_was_stopped_is_started_again_and_the_time_between_is_a_gap() {
    let world = World::new("").await;
    world.service.state().publish("before", HOUR, blob([1]));
    let run = world.start().await;
    world.wait_for(1).await;
    world.wait_for_round().await;
    assert_eq!(world.harness.gaps(), Vec::new(), "a first start of a subscription is no gap");
    {
        let mut state = world.service.state();
        state.enabled.clear();
        state.ahead += HOUR;
        state.instead("subscriptions/content", Answer::error(400, "AF20022"));
    }
    assert!(world.harness.wait(|harness| harness.gaps().len() == 1).await);
    world.service.state().publish("after", 0, blob([2]));
    world.wait_for(2).await;
    let gaps = world.harness.gaps();
    assert_eq!((gaps.len(), gaps[0].reason.as_str()), (1, "unsubscribed"), "{gaps:?}");
    let length = gaps[0].to.unwrap().unix_milliseconds() - gaps[0].from.unix_milliseconds();
    assert!((length - HOUR).abs() < 5 * MINUTE, "{gaps:?}");
    world.stop(run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_is_enabled_already_is_a_success() {
    let world = World::new("").await;
    {
        let mut state = world.service.state();
        state.enabled.insert("Audit.General".to_owned());
        // A documented sample leaves the status out.
        let body = r#"[{"contentType":"Audit.General"}]"#.to_owned();
        state.instead("subscriptions/list", Answer { status: 200, headers: Vec::new(), body });
        state.publish("good", HOUR, blob([1]));
    }
    let run = world.start().await;
    world.wait_for(1).await;
    assert_eq!(world.service.state().count("subscriptions/start"), 1);
    assert_eq!(run.health.get(), Status::Ok);
    world.stop(run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_go_by_the_servers_clock() {
    for ahead in [10 * MINUTE, -10 * MINUTE] {
        let world = World::new("overlap = \"0 s\"").await;
        world.service.state().ahead = ahead;
        let run = world.start().await;
        world.wait_for_round().await;
        for number in 1..4_usize {
            world.service.state().publish(&format!("c{number}"), 0, blob([number as u64]));
            world.wait_for(number).await;
        }
        let now = world.service.state().now();
        let latest = windows(&world).iter().map(|window| window.1).max().unwrap();
        assert!(latest <= now, "a window ends in the server's future");
        assert!(now.unix_milliseconds() - latest.unix_milliseconds() < MINUTE, "a window ends in the server's past");
        world.stop(run).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_was_lost_is_said_and_does_not_stop_capture() {
    use actlog_core::Storage;
    let world = World::new("").await;
    world.service.state().publish("c1", HOUR, blob([1]));
    let run = world.start().await;
    world.wait_for(1).await;
    world.stop(run).await;
    for entry in world.storage.list("data/sources/office".as_ref()).unwrap() {
        world.storage.remove_file(&entry.path).unwrap();
    }
    world.service.state().publish("c2", HOUR, blob([2]));
    let run = world.start().await;
    world.wait_for(2).await;
    let reason = degraded(&run);
    assert!(reason.contains("is missing") && reason.contains("a second time"), "{reason}");
    world.stop(run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_and_tokens_are_in_no_text_that_leaves_the_source() {
    let world = World::new("").await;
    {
        let mut state = world.service.state();
        state.publish("good", HOUR, blob([1]));
        for _ in 0..5 {
            state.instead("audit/good", Answer::error(400, "AF20001"));
        }
    }
    let run = world.start().await;
    wait_until("health says so", async || degraded(&run).contains("AF20001")).await;
    let tokens = world.service.entra.tokens();
    assert!(!tokens.is_empty());
    let texts = [degraded(&run), world.harness.metrics_text(), format!("{:?}", world.harness.gaps())];
    for text in texts {
        assert!(!text.contains(SECRET) && tokens.iter().all(|token| !text.contains(token)), "{text}");
    }
    world.stop(run).await;
    world.service.entra.change_secret("another");
    world.service.entra.revoke_all();
    let run = world.start().await;
    wait_until("health says so", async || degraded(&run).contains("AADSTS7000215")).await;
    assert!(!degraded(&run).contains(SECRET), "{}", degraded(&run));
    world.stop(run).await;
}
