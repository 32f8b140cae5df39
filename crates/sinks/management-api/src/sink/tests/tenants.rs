//! Whose feed records are in, and what becomes of those that nobody claims.

use super::*;

#[tokio::test(start_paused = true)]
async fn records_that_no_tenant_claims_are_kept_counted_and_shown() {
    let bench = Bench::new();
    bench.append(&mut Records::new(1), 30);
    let run = bench.start();
    let degraded = |status: &Status| matches!(status, Status::Degraded { .. });
    let Status::Degraded { reason } = bench.healthy(&run.health, degraded).await else { unreachable!() };
    assert!(reason.contains("10 records") && reason.contains("tailspin"), "{reason}");
    assert!(bench.harness.metrics_text().contains("actlog_management_api_unclaimed{"));
    assert!(bench.harness.metrics_text().lines().any(|line| line.contains("_unclaimed{") && line.ends_with(" 10")));
    assert_eq!(bench.feeds()[&Uuid::nil()].len(), 10);
    assert!(!bench.feeds()[&A].iter().any(|id| bench.feeds()[&Uuid::nil()].contains(id)));
    drop(run);
}

#[tokio::test(start_paused = true)]
async fn records_are_served_from_the_start_on_whose_configuration_claims_them() {
    let bench = Bench::new();
    bench.append(&mut Records::new(1), 30);
    bench.run().await.unwrap();
    let claimed = bench.clone().claimed("tailspin", B);
    let run = claimed.start();
    let served = || claimed.feeds().get(&B).map_or(0, Vec::len) == claimed.expected()[&B].len();
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !served() {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", claimed.feeds());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    claimed.healthy(&run.health, |status| *status == Status::Ok).await;
    assert!(!claimed.feeds().contains_key(&Uuid::nil()));
    drop(run);
    // And only once, however often it starts.
    claimed.append(&mut Records::new(2), 10);
    claimed.run().await.unwrap();
    let sorted = |feeds: BTreeMap<Uuid, Vec<Uuid>>| {
        feeds.into_iter().map(|(tenant, mut ids)| {
            ids.sort_unstable();
            (tenant, ids)
        })
    };
    // Those that were claimed later come later.
    assert!(sorted(claimed.feeds()).eq(sorted(claimed.expected())));
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_records_are_claimed_neither_loses_nor_doubles_them() {
    let prepared = Bench::new();
    prepared.append(&mut Records::new(1), 30);
    prepared.run().await.unwrap();
    let claimed = prepared.clone().claimed("tailspin", B);
    let mut step = 0;
    loop {
        let bench = claimed.on(claimed.storage.fork());
        bench.storage.halt_at(bench.storage.steps() + step);
        let ended = bench.run().await;
        let survivor = bench.on(if step % 2 == 0 { bench.storage.kill() } else { bench.storage.crash(step) });
        survivor.run().await.unwrap();
        let (mut feed, mut expected) = (survivor.feeds()[&B].clone(), survivor.expected()[&B].clone());
        feed.sort_unstable();
        expected.sort_unstable();
        assert!(feed == expected, "step {step}: {} instead of {}", feed.len(), expected.len());
        assert!(!survivor.feeds().contains_key(&Uuid::nil()));
        if ended.is_ok() && step > 20 {
            break;
        }
        step += 1;
    }
}
