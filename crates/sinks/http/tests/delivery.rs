//! Records reach their receiver, or the dead letters, whatever happens between. The clock is simulated: hours pass at
//! once while nothing else is to be done.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod bench;
mod receivers;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actlog_core::Status;
use actlog_testkit::compliance::Outage;
use actlog_testkit::records::Records;
use actlog_testkit::server::{Bytes, Request, Server, StatusCode, empty, json};
use bench::{Bench, complaint, failure};
use receivers::relay::{Mode, Relay};
use receivers::{Kind, Receiver, UNACCEPTABLE, azure, elasticsearch, kinds, otlp, plain, put_secrets, splunk};
use uuid::Uuid;

fn ndjson(url: &str) -> String {
    format!("url = \"{url}\"\nformat = \"ndjson\"\nclient.allow_private = true\n")
}

/// A receiver of a kind, a bench with that kind's secrets, and the configuration.
async fn world(kind: &Kind) -> (Receiver, Bench, String) {
    let receiver = Receiver::start(Arc::clone(&kind.rules)).await;
    let bench = Bench::new();
    put_secrets(bench.folder.path());
    let config = kind.config(&receiver.url());
    (receiver, bench, config)
}

/// The receiver has these, and in order where that is promised; it may have some more than once.
fn has(receiver: &Receiver, kind: &Kind, ids: &[Uuid]) {
    let mut seen = BTreeSet::new();
    let mut first_copies = receiver.ids();
    first_copies.retain(|id| seen.insert(*id));
    if !kind.is_ordered {
        first_copies.sort_by_key(|id| ids.iter().position(|expected| expected == id));
    }
    assert_eq!(first_copies, ids, "{}", kind.name);
    receiver.check();
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_down_for_a_day_gets_everything_when_it_is_back() {
    const MINUTES: usize = 1440;
    for kind in kinds() {
        let (receiver, mut bench, config) = world(&kind).await;
        let mut ids = bench.append(20);
        let run = bench.start(&config).await;
        bench.committed().await;
        let before = receiver.seen().len();
        receiver.set_outage(Some(Outage::Fails));
        ids.extend(bench.append(500));
        let reason = complaint(&run).await;
        let since = "since 2026-03-02T07:00:0";
        assert!(reason.contains("circuit") && reason.contains(since) && reason.contains("503"), "{reason}");
        tokio::time::sleep(Duration::from_secs(MINUTES as u64 * 60)).await;
        assert_eq!(bench.harness.cursor(), 20, "{}", kind.name);
        // A request a minute or a little more, and not one for each batch. Azure's tokens are asked for in vain too.
        let tries = receiver.seen().len() - before;
        assert!((MINUTES..2 * MINUTES + 20).contains(&tries), "{}: {tries} requests", kind.name);
        receiver.set_outage(None);
        bench.committed().await;
        assert_eq!((run.health.get(), bench.harness.dead_letters().len()), (Status::Ok, 0), "{}", kind.name);
        has(&receiver, &kind, &ids);
        Bench::stop(run).await;
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_put_off_and_connections_that_break_lose_nothing() {
    for kind in kinds() {
        let (receiver, mut bench, _) = world(&kind).await;
        let relay = Relay::start(receiver.server.address(), Mode::Whole).await;
        let mut ids = bench.append(15);
        let run = bench.start(&kind.config(&format!("http://{}", relay.address))).await;
        bench.committed().await;
        for (status, headers) in [(429, &[("retry-after", "30")][..]), (500, &[]), (502, &[]), (503, &[]), (504, &[])] {
            receiver.answer_next(status, headers, "");
            ids.extend(bench.append(9));
            bench.committed().await;
        }
        Bench::stop(run).await;
        for mode in [Mode::Closes, Mode::LosesAnswers, Mode::CutsAnswers] {
            relay.set(mode);
            let cursor = bench.harness.cursor();
            ids.extend(bench.append(30));
            // Connections of an earlier run are gone, so all of them go through the relay as it is now.
            let run = bench.start(&kind.config(&format!("http://{}", relay.address))).await;
            let reason = complaint(&run).await;
            assert!(reason.contains("127.0.0.1"), "{} {mode:?}: {reason}", kind.name);
            assert_eq!(bench.harness.cursor(), cursor, "{} {mode:?}", kind.name);
            relay.set(Mode::Whole);
            bench.committed().await;
            assert_eq!((run.health.get(), bench.harness.dead_letters().len()), (Status::Ok, 0), "{}", kind.name);
            Bench::stop(run).await;
        }
        has(&receiver, &kind, &ids);
    }
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_hangs_is_given_up_after_the_timeout_and_asked_again() {
    for kind in kinds() {
        let (receiver, mut bench, config) = world(&kind).await;
        receiver.set_outage(Some(Outage::Hangs));
        let ids = bench.append(5);
        let run = bench.start(&config.replace("client.", "client.timeout = \"30 s\"\nclient.")).await;
        let reason = complaint(&run).await;
        assert!(reason.contains("no whole answer within 30s"), "{}: {reason}", kind.name);
        receiver.set_outage(None);
        bench.committed().await;
        has(&receiver, &kind, &ids);
        Bench::stop(run).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_asks_to_be_left_alone_is_left_alone_so_long_but_not_for_ever() {
    let date = [("date", "Mon, 02 Mar 2026 07:00:00 GMT"), ("retry-after", "Mon, 02 Mar 2026 07:20:00 GMT")];
    for (status, headers, wait) in [
        (429, &[("retry-after", "1800")][..], 1800..1802),
        (503, &date[..], 1200..1202),
        (429, &[("retry-after", "99999999999")][..], 3600..3602),
        (429, &[("retry-after", "0")][..], 0..2),
        (429, &[("retry-after", "never")][..], 0..2),
    ] {
        let receiver = Receiver::start(plain::Plain::ndjson()).await;
        receiver.answer_next(status, headers, "");
        let mut bench = Bench::new();
        let ids = bench.append(3);
        let run = bench.start(&ndjson(&receiver.url())).await;
        bench.committed().await;
        let seen = receiver.seen();
        let pause = (seen[1].at - seen[0].at).as_secs();
        assert!(wait.contains(&pause), "{status} {headers:?}: {pause} s");
        assert_eq!(receiver.ids(), ids);
        Bench::stop(run).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_too_large_is_divided_and_a_record_that_is_too_large_becomes_a_dead_letter() {
    let receiver = Receiver::start(plain::Plain { most: 4000, ..plain::Plain::ndjson() }).await;
    let mut bench = Bench::new();
    let mut ids = bench.append(40);
    let mut record = Records::new(9).next_record();
    record.query = Some("long ".repeat(1000).into());
    let large = bench.harness.append(&record);
    ids.extend(bench.append(40));
    let run = bench.start(&ndjson(&receiver.url())).await;
    bench.committed().await;
    assert_eq!(receiver.ids(), ids);
    let dead = bench.harness.dead_letters();
    assert!(dead.len() == 1 && dead[&large].contains("413"), "{dead:?}");
    Bench::stop(run).await;
    // With the receiver's limit configured, it arrives in parts.
    let run = bench.start(&format!("{}max_record_bytes = 3500\n", ndjson(&receiver.url()))).await;
    record.id = Uuid::from_u128(4711);
    bench.harness.append(&record);
    bench.committed().await;
    assert_eq!(receiver.ids().last(), Some(&record.id));
    assert_eq!(bench.harness.dead_letters().len(), 1);
    Bench::stop(run).await;
    receiver.check();
}

#[tokio::test(start_paused = true)]
async fn the_table_of_statuses_overrules_the_formats_own_rules() {
    let receiver = Receiver::start(plain::Plain::ndjson()).await;
    let mut bench = Bench::new();
    bench.append(1);
    receiver.answer_next(503, &[], "");
    let run = bench.start(&format!("{}status = {{ reject = [503], retry = [422] }}\n", ndjson(&receiver.url()))).await;
    bench.committed().await;
    assert!(bench.harness.dead_letters()[&0].contains("503"));
    receiver.answer_next(422, &[], "");
    let ids = bench.append(1);
    bench.committed().await;
    assert_eq!(receiver.ids(), ids);
    assert_eq!(bench.harness.dead_letters().len(), 1);
    Bench::stop(run).await;
    receiver.answer_next(409, &[], "");
    bench.append(1);
    let run = bench.start(&format!("{}status = {{ fatal = [409] }}\n", ndjson(&receiver.url()))).await;
    assert!(failure(run).await.contains("status 409"));
    assert_eq!(bench.harness.cursor(), 2);
}

#[tokio::test(start_paused = true)]
async fn shutdown_while_the_receiver_is_down_is_quick_and_keeps_what_is_not_delivered() {
    let receiver = Receiver::start(plain::Plain::ndjson()).await;
    receiver.set_outage(Some(Outage::Fails));
    let mut bench = Bench::new();
    let ids = bench.append(5);
    let run = bench.start(&ndjson(&receiver.url())).await;
    complaint(&run).await;
    let began = tokio::time::Instant::now();
    Bench::stop(run).await;
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(bench.harness.cursor(), 0);
    receiver.set_outage(None);
    let run = bench.start(&ndjson(&receiver.url())).await;
    bench.committed().await;
    assert_eq!(receiver.ids(), ids);
    Bench::stop(run).await;
}

fn elastic(url: &str) -> String {
    format!("url = \"{url}\"\nformat = \"elasticsearch\"\nclient.allow_private = true\nbatch.age = \"10 ms\"\n")
}

#[tokio::test(start_paused = true)]
async fn elasticsearch_gets_the_busy_items_again_alone_and_the_refused_ones_never() {
    let receiver = Receiver::start(elasticsearch::Elasticsearch::with_busy_items(3)).await;
    let mut bench = Bench::new();
    bench.append(10);
    let mut record = Records::new(9).next_record();
    record.user_agent = Some(UNACCEPTABLE.into());
    let refused = bench.harness.append(&record);
    let run = bench.start(&elastic(&receiver.url())).await;
    bench.committed().await;
    let lines = |body: &Bytes| body.split(|byte| *byte == b'\n').count() / 2;
    assert_eq!(receiver.kept().bodies.iter().map(lines).collect::<Vec<_>>(), [11, 3]);
    assert_eq!(receiver.ids().len(), 10);
    let dead = bench.harness.dead_letters();
    assert_eq!(dead.keys().collect::<Vec<_>>(), [&refused]);
    assert!(dead[&refused].contains("document_parsing_exception") && dead[&refused].contains("[x] of type [ip]"));
    assert_eq!(run.health.get(), Status::Ok);
    Bench::stop(run).await;
    receiver.check();
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_took_a_record_may_refuse_the_twenty_beside_it() {
    let receiver = Receiver::start(elasticsearch::Elasticsearch::default()).await;
    let busy = r#",{"create":{"status":429,"error":{"type":"t"}}}"#.repeat(20);
    receiver.answer_next(200, &[], &format!(r#"{{"errors":true,"items":[{{"create":{{"status":201}}}}{busy}]}}"#));
    // Halving twenty down to each of them asks for 20 - 1 times more than there are records.
    for _ in 0..20 + 19 {
        receiver.answer_next(400, &[], "");
    }
    let mut bench = Bench::new();
    bench.append(21);
    let run = bench.start(&elastic(&receiver.url())).await;
    bench.committed().await;
    assert_eq!((receiver.seen().len(), bench.harness.dead_letters().len()), (40, 20));
    Bench::stop(run).await;
}

#[tokio::test(start_paused = true)]
async fn elasticsearch_keeps_a_record_once_that_was_sent_twice() {
    let receiver = Receiver::start(elasticsearch::Elasticsearch::default()).await;
    let relay = Relay::start(receiver.server.address(), Mode::LosesAnswers).await;
    let mut bench = Bench::new();
    let ids = bench.append(10);
    let run = bench.start(&elastic(&format!("http://{}", relay.address))).await;
    complaint(&run).await;
    relay.set(Mode::Whole);
    bench.committed().await;
    assert_eq!(receiver.ids(), ids);
    assert!(receiver.seen().len() > 1);
    assert_eq!(bench.harness.dead_letters().len(), 0);
    Bench::stop(run).await;
}

#[tokio::test(start_paused = true)]
async fn elasticsearch_that_answers_nonsense_is_asked_again() {
    let receiver = Receiver::start(elasticsearch::Elasticsearch::default()).await;
    let too_few = r#"{"errors":true,"items":[{"create":{"status":400}}]}"#;
    for body in ["", "<html>", "{}", too_few, r#"{"errors":true,"items":[{"delete":{"status":200}}]}"#] {
        receiver.answer_next(200, &[], body);
    }
    let blocked = r#"{"error":{"type":"cluster_block_exception","reason":"disk usage exceeded"},"status":403}"#;
    receiver.answer_next(403, &[], blocked);
    let mut bench = Bench::new();
    let ids = bench.append(2);
    let run = bench.start(&elastic(&receiver.url())).await;
    bench.committed().await;
    assert_eq!(receiver.ids(), ids);
    assert_eq!((receiver.seen().len(), bench.harness.dead_letters().len()), (7, 0));
    Bench::stop(run).await;
    receiver.answer_next(404, &[], r#"{"error":{"type":"index_not_found_exception","reason":"no such index"}}"#);
    bench.append(1);
    assert!(failure(bench.start(&elastic(&receiver.url())).await).await.contains("status 404"));
}

fn hec(bench: &Bench, url: &str, more: &str) -> String {
    bench.secret("hec", splunk::TOKEN);
    format!(
        "url = \"{url}\"\nformat = \"splunk-hec\"\nauth.splunk.file = \"hec\"\nclient.allow_private = true\n\
         batch = {{ count = 5, age = \"10 ms\" }}\nsplunk = {{ {more} }}\n"
    )
}

#[tokio::test(start_paused = true)]
async fn splunk_that_loses_events_before_it_has_acknowledged_them_gets_them_again() {
    let receiver = Receiver::start(splunk::Splunk::with_acks()).await;
    // Taken, and never acknowledged.
    receiver.answer_next(200, &[], r#"{"text":"Success","code":0,"ackId":4711}"#);
    let mut bench = Bench::new();
    let ids = bench.append(5);
    let run = bench.start(&hec(&bench, &receiver.url(), "ack_timeout = \"5 min\"")).await;
    let reason = complaint(&run).await;
    assert!(reason.contains("has not acknowledged the events within 5m"), "{reason}");
    assert_eq!(bench.harness.cursor(), 0);
    bench.committed().await;
    assert_eq!(receiver.ids(), ids);
    Bench::stop(run).await;
    receiver.check();
}

#[tokio::test(start_paused = true)]
async fn splunk_tokens_with_and_without_acknowledgement_are_told_apart() {
    for (rules, ack, outcome) in [
        (splunk::Splunk::with_acks(), "ack = \"auto\"", Ok(())),
        (splunk::Splunk::with_acks(), "ack = true", Ok(())),
        (splunk::Splunk::with_acks(), "ack = false", Err("code 10")),
        (splunk::Splunk::default(), "ack = \"auto\"", Ok(())),
        (splunk::Splunk::default(), "ack = true", Err("no acknowledgement")),
        (splunk::Splunk::default(), "ack = false", Ok(())),
        (splunk::Splunk::default(), "index = \"foreign\"", Err("code 7")),
    ] {
        let receiver = Receiver::start(rules).await;
        let mut bench = Bench::new();
        let ids = bench.append(12);
        let run = bench.start(&hec(&bench, &receiver.url(), ack)).await;
        match outcome {
            Ok(()) => {
                bench.committed().await;
                assert_eq!(receiver.ids().into_iter().collect::<BTreeSet<_>>(), ids.into_iter().collect(), "{ack}");
                Bench::stop(run).await;
            }
            Err(expected) => {
                let reason = failure(run).await;
                assert!(reason.contains(expected), "{ack}: {reason}");
                assert_eq!(bench.harness.cursor(), 0);
            }
        }
        receiver.check();
    }
}

#[tokio::test(start_paused = true)]
async fn acknowledgement_that_is_switched_off_meanwhile_is_an_error_only_where_it_is_insisted_on() {
    for (ack, is_error) in [("ack = \"auto\"", false), ("ack = true", true)] {
        let receiver = Receiver::start(splunk::Splunk::default()).await;
        receiver.answer_next(200, &[], r#"{"text":"Success","code":0,"ackId":1}"#);
        receiver.answer_next(400, &[], r#"{"text":"ACK is disabled","code":14}"#);
        let mut bench = Bench::new();
        bench.append(1);
        let run = bench.start(&hec(&bench, &receiver.url(), ack)).await;
        if is_error {
            assert!(failure(run).await.contains("the token has no acknowledgement"));
            assert_eq!(bench.harness.cursor(), 0);
        } else {
            bench.committed().await;
            Bench::stop(run).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn splunk_that_is_busy_is_asked_again_and_one_that_disables_the_token_is_an_error() {
    let receiver = Receiver::start(splunk::Splunk::default()).await;
    for (status, code) in [(503, 9), (500, 8), (503, 18), (503, 23), (429, 26), (200, 9)] {
        receiver.answer_next(status, &[], &format!("{{\"text\":\"no\",\"code\":{code}}}"));
    }
    let mut bench = Bench::new();
    let ids = bench.append(3);
    let run = bench.start(&hec(&bench, &receiver.url(), "")).await;
    bench.committed().await;
    assert_eq!((receiver.ids(), receiver.seen().len()), (ids, 7));
    receiver.answer_next(403, &[], r#"{"text":"Token disabled","code":1}"#);
    bench.append(1);
    let reason = failure(run).await;
    assert!(reason.contains("code 1 (Token disabled)"), "{reason}");
    assert!(bench.harness.dead_letters().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_partial_success_of_otlp_loses_nothing_and_sends_nothing_again() {
    let receiver = Receiver::start(otlp::Otlp).await;
    let mut bench = Bench::new();
    bench.append(4);
    let config = format!(
        "url = \"{}\"\nformat = \"otlp\"\nclient.allow_private = true\nbatch.age = \"10 ms\"\n",
        receiver.url()
    );
    let partial = r#"{"partialSuccess":{"rejectedLogRecords":"2","errorMessage":"too old\u001b[2J"}}"#;
    receiver.answer_next(200, &[], partial);
    let run = bench.start(&config).await;
    bench.committed().await;
    let dead = bench.harness.dead_letters();
    assert_eq!(dead.len(), 4);
    assert!(dead.values().all(|why| why.contains("2 of 4") && why.contains("too old [2J")), "{dead:?}");
    assert_eq!(receiver.seen().len(), 1);
    // A warning without refusals, and an answer that says nothing, are a yes.
    for body in [r#"{"partialSuccess":{"rejectedLogRecords":0,"errorMessage":"soon too old"}}"#, "", "{}"] {
        receiver.answer_next(200, &[], body);
        bench.append(2);
        bench.committed().await;
    }
    assert_eq!(bench.harness.dead_letters().len(), 4);
    Bench::stop(run).await;
}

#[tokio::test(start_paused = true)]
async fn azure_gets_a_new_token_when_the_old_one_was_revoked_and_a_wrong_audience_is_an_error() {
    let rules = Arc::new(azure::Azure::new());
    let receiver = Receiver::start(Arc::clone(&rules)).await;
    let mut bench = Bench::new();
    bench.secret("entra", azure::SECRET);
    let config = |resource: &str| {
        format!(
            "url = \"{url}\"\nformat = \"azure-logs\"\nclient.allow_private = true\nbatch.age = \"10 ms\"\n\
             azure = {{ rule = \"{}\", stream = \"{}\" }}\n[auth.entra]\ntenant = \"{}\"\n{resource}\n\
             application = {{ client_id = \"{}\", secret = {{ file = \"entra\" }}, authority = \"{url}\" }}\n",
            azure::RULE,
            azure::STREAM,
            azure::TENANT,
            azure::CLIENT,
            url = receiver.url()
        )
    };
    let mut ids = bench.append(3);
    let run = bench.start(&config("")).await;
    bench.committed().await;
    rules.entra.revoke_all();
    ids.extend(bench.append(3));
    bench.committed().await;
    assert_eq!((receiver.ids(), rules.entra.issued()), (ids, 2));
    Bench::stop(run).await;
    bench.append(1);
    let reason = failure(bench.start(&config("resource = \"https://monitor.azure.us\"")).await).await;
    assert!(reason.contains("status 403") && reason.contains("audience"), "{reason}");
    rules.entra.change_secret("another");
    let reason = failure(bench.start(&config("")).await).await;
    assert!(reason.contains("AADSTS7000215"), "{reason}");
    receiver.check();
}

#[tokio::test(start_paused = true)]
async fn a_token_of_any_authorization_server_is_asked_for_and_renewed() {
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let forms = Arc::clone(&asked);
    let server = Server::start(move |request: Request<Bytes>| {
        let forms = Arc::clone(&forms);
        async move {
            let mut forms = forms.lock().unwrap();
            if request.uri().path() == "/token" {
                forms.push(String::from_utf8(request.body().to_vec()).unwrap());
                let token = format!("token-{}", forms.len());
                return json(StatusCode::OK, &serde_json::json!({ "access_token": token, "expires_in": 3600 }));
            }
            let is_current = request.headers()["authorization"] == "Bearer token-2";
            empty(if is_current { StatusCode::OK } else { StatusCode::UNAUTHORIZED })
        }
    })
    .await;
    let mut bench = Bench::new();
    bench.secret("client", "s&cret");
    bench.append(1);
    let config = format!(
        "{}auth.oauth2 = {{ token_url = \"{}/token\", client_id = \"me\", secret.file = \"client\", scope = \"a b\" }}\n",
        ndjson(&server.url()),
        server.url()
    );
    let run = bench.start(&config).await;
    bench.committed().await;
    let form = "grant_type=client_credentials&scope=a+b&client_id=me&client_secret=s%26cret";
    assert_eq!(*asked.lock().unwrap(), [form, form]);
    Bench::stop(run).await;
}
