//! What the sink does about receivers that misbehave, tried on a strict receiver.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod common;

use std::path::Path;

use actlog_core::{AuditRecord, Statement, Status, Timestamp};
use actlog_testkit::compliance::{DEADLINE, SETTLE, SinkHarness};
use actlog_testkit::process::wait_until;
use actlog_testkit::records::Records;
use common::receiver::{Mode, Receiver};
use common::{deliver_all, json, start};

/// A journal with so many records, a receiver, and a configuration for it.
async fn world(records: usize, more: &str) -> (SinkHarness, Receiver, String) {
    let harness = SinkHarness::new();
    for record in Records::new(1).take(records) {
        harness.append(&record);
    }
    let receiver = Receiver::new().await;
    let config = format!("address = \"{}\"\ntransport = \"tcp\"\n{more}", receiver.address);
    (harness, receiver, config)
}

/// The reason with which the run ends.
async fn failure(harness: &SinkHarness, config: &str) -> String {
    let mut run = start(harness, config, Path::new("")).await;
    run.finished(DEADLINE).await.expect("the run ends").as_ref().unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_the_header_and_the_exact_bytes_of_the_journal() {
    let (harness, receiver, config) = world(20, "facility = \"audit\"\nhostname = \"h\"\napp_name = \"a\"\n").await;
    deliver_all(&harness, &config, Path::new("")).await;
    let messages = receiver.messages();
    assert_eq!(messages.len(), 20);
    for (message, entry) in messages.iter().zip(harness.entries()) {
        assert_eq!(json(message).as_bytes(), entry.bytes);
        assert!(message.starts_with("<110>1 2026-03-02T07:") && message.contains("Z h a - "), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_receiver_has_read_counts_only_when_it_is_still_there_an_interval_later() {
    // Each round fills a connection; the interval is longer than this test.
    let (harness, receiver, config) = world(100, "commit_bytes = \"64 KiB\"\n").await;
    let mut run = start(&harness, &format!("{config}commit_interval = \"5 min\"\n"), Path::new("")).await;
    for round in 1..=4 {
        receiver.wait_for(100 * round).await;
        wait_until("the receiver is connected to again", async || receiver.connections() > round).await;
        if round < 4 {
            for record in Records::new(1).skip(100 * round).take(100) {
                harness.append(&record);
            }
        }
    }
    receiver.set(Mode::Closes);
    let ended = run.finished(DEADLINE).await.expect("the run ends").as_ref().unwrap_err().to_string();
    assert!(ended.contains("closed the connection early"), "{ended}");
    assert_eq!(harness.cursor(), 0, "it may have lost what it had read");
    receiver.set(Mode::Good);
    deliver_all(&harness, &format!("{config}commit_interval = \"10 ms\"\n"), Path::new("")).await;
    let messages = receiver.messages();
    assert_eq!(messages[..400], messages[400..], "all of it came again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_closed_in_the_middle_is_noticed() {
    let (harness, receiver, config) = world(2000, "commit_interval = \"10 ms\"\n").await;
    receiver.set(Mode::ClosesInTheMiddle);
    let reason = failure(&harness, &config).await;
    assert!(reason.contains(&receiver.address.to_string()), "{reason}");
    assert_eq!(harness.cursor(), 0);
    receiver.set(Mode::Good);
    deliver_all(&harness, &config, Path::new("")).await;
    let arrived = receiver.messages();
    let missing = |bytes: &[u8]| !arrived.iter().any(|message| json(message).as_bytes() == bytes);
    assert_eq!(harness.entries().iter().filter(|entry| missing(&entry.bytes)).count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_never_closes_is_an_error_that_says_what_to_do_about_it() {
    let (harness, receiver, config) = world(5, "commit_interval = \"10 ms\"\ntimeout = \"1 s\"\n").await;
    receiver.set(Mode::NeverCloses);
    let reason = failure(&harness, &config).await;
    assert!(reason.contains("within 1s") && reason.contains("confirm = \"none\""), "{reason}");
    assert_eq!(harness.cursor(), 0);
    let config = format!("{config}confirm = \"none\"\n");
    assert_eq!(deliver_all(&harness, &config, Path::new("")).await, Vec::<String>::new());
    receiver.wait_for(10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_takes_nothing_in_is_given_up_after_the_timeout() {
    // More than the buffers of two sockets hold.
    let (harness, receiver, config) = world(0, "timeout = \"1 s\"\nmax_record_bytes = \"64 MiB\"\n").await;
    let record = AuditRecord { query: Some("x".repeat(32 << 20).into()), ..AuditRecord::default() };
    harness.append(&record);
    receiver.set(Mode::Hangs);
    let reason = failure(&harness, &config).await;
    assert!(reason.contains("take in what was sent within 1s"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_move_the_cursor_without_a_connection() {
    let (harness, receiver, config) = world(0, "").await;
    for _ in 0..3 {
        harness.append_statement(&Statement::Heartbeat { time: Timestamp::default() });
    }
    deliver_all(&harness, &config, Path::new("")).await;
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_sink_has_no_connection() {
    let (harness, receiver, config) = world(3, "commit_interval = \"10 ms\"\n").await;
    let run = start(&harness, &config, Path::new("")).await;
    assert!(harness.wait(|harness| harness.cursor() == 3).await);
    // One with messages, and one that sees whether the receiver is still there.
    assert_eq!(receiver.connections(), 2);
    tokio::time::sleep(SETTLE).await;
    assert_eq!((receiver.connections(), run.health.get()), (2, Status::Ok));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_is_no_record_goes_to_the_dead_letters_and_its_neighbours_arrive() {
    let (harness, receiver, config) = world(3, "commit_interval = \"10 ms\"\n").await;
    let odd = harness.append_bytes(b"[1]");
    harness.append(&Records::new(2).next_record());
    deliver_all(&harness, &config, Path::new("")).await;
    assert_eq!(receiver.messages().len(), 4);
    let letters = harness.dead_letters();
    assert!(letters.len() == 1 && letters[&odd].contains("not a record"), "{letters:?}");
    let figure = "actlog_sink_syslog_rejected_total{sink=\"siem\",kind=\"syslog\"} 1";
    assert!(harness.metrics_text().contains(figure), "{}", harness.metrics_text());
}
