//! How fast contexts are mapped on one core: `cargo run --release -p actlog-dataverse --example mapping_speed FILE…`
//!
//! Each file is one body. Prints, per file, microseconds per record, records and MB per second; the second figure is
//! with the record encoded as JSON too.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use actlog_core::Timestamp;
use actlog_dataverse::{Envelope, MappingOptions, map_context};

fn main() -> ExitCode {
    let files: Vec<_> = std::env::args().skip(1).collect();
    if files.is_empty() {
        eprintln!("name files that hold one context each");
        return ExitCode::FAILURE;
    }
    for file in files {
        let body = match std::fs::read(&file) {
            Ok(body) => body,
            Err(error) => {
                eprintln!("{file}: {error}");
                return ExitCode::FAILURE;
            }
        };
        let envelope =
            Envelope { organization_host: Some("contoso.crm.dynamics.com"), ..Envelope::new(Timestamp::default()) };
        let options = MappingOptions::default();
        let mut out = Vec::new();
        let mapped = seconds_per_call(|| {
            black_box(map_context(black_box(&body), &envelope, &options).is_ok());
        });
        let encoded = seconds_per_call(|| {
            out.clear();
            if let Ok(record) = map_context(black_box(&body), &envelope, &options) {
                black_box(record.encode(&mut out).is_ok());
            }
        });
        println!(
            "{:6} bytes  {:7.2} µs  {:8.0} records/s  {:7.1} MB/s  {:7.2} µs encoded  {file}",
            body.len(),
            mapped * 1e6,
            1.0 / mapped,
            body.len() as f64 / mapped / 1e6,
            encoded * 1e6
        );
    }
    ExitCode::SUCCESS
}

/// The best of several rounds: what the code needs when nobody disturbs it.
fn seconds_per_call(mut call: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let (start, mut calls) = (Instant::now(), 0_u32);
        while start.elapsed() < Duration::from_millis(60) {
            for _ in 0..50 {
                call();
            }
            calls += 50;
        }
        best = best.min(start.elapsed().as_secs_f64() / f64::from(calls));
    }
    best
}
