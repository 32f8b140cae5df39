//! The Office 365 feed, with everything that makes a collector lose or double records, and `kill -9` in the middle.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use actlog_core::{Clock, SystemClock};
use actlog_testkit::office_server::{ContentPlan, OfficeOptions, OfficeServer};
use actlog_testkit::office_torture::{OfficeTorture, torture};
use actlog_testkit::process::{Actlog, wait_until};
use actlog_tests::{lines, records};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_id_of_the_feed_is_in_the_files_exactly_once_and_every_gap_is_stated() {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    // Another seed each time; to see one again, put the printed number here.
    let seed = now.as_secs();
    let plan = OfficeTorture {
        records: 50_000,
        seed,
        every: Duration::from_secs(1),
        faults_per_mille: 30,
        ahead: if seed.is_multiple_of(2) { 600_000 } else { -600_000 },
        patience: Duration::from_secs(120),
    };
    let outcome = torture(folder.path(), &plan, |_, _| ()).await;
    println!("seed {seed}: {outcome}");
    assert!(outcome.is_good(), "seed {seed}: {outcome}");
    assert!(outcome.kills > 0 && outcome.failures > 0 && outcome.expired > 0, "seed {seed}: {outcome}");
}

/// A key of the tests of `actlog-http`, made for them.
const KEY: &str = include_str!("../../crates/http/tests/data/rsa-key.pkcs8.pem");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_or_a_certificate_at_either_token_endpoint_brings_the_same_records() {
    let now = SystemClock.now();
    let content = ContentPlan::new(7, 300, now.plus_milliseconds(-3_600_000), now.plus_milliseconds(-60_000));
    let server = OfficeServer::start(OfficeOptions::new(content, now)).await;
    let expected: BTreeSet<String> = server.content().available().into_iter().map(|id| id.to_string()).collect();
    let key = rcgen::KeyPair::from_pem(KEY).unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["actlog".to_owned()]).unwrap().self_signed(&key).unwrap();
    for credential in
        ["secret = { file = \"secret\" }", "certificate = \"certificate.pem\", key = { file = \"key.pem\" }"]
    {
        for endpoint in ["v1", "v2"] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("secret"), OfficeServer::SECRET).unwrap();
            std::fs::write(folder.path().join("key.pem"), KEY).unwrap();
            std::fs::write(folder.path().join("certificate.pem"), certificate.pem()).unwrap();
            let (url, tenant, client) = (server.url(), OfficeServer::TENANT, OfficeServer::CLIENT_ID);
            let config = format!(
                "[sources.office]\ntype = \"office365\"\nbase_url = \"{url}\"\npoll = \"200 ms\"\n\
                 token_endpoint = \"{endpoint}\"\nclient.allow_private = true\n\n[sources.office.tenants.contoso]\n\
                 id = \"{tenant}\"\napplication = {{ client_id = \"{client}\", {credential}, authority = \"{url}\" }}\n\n\
                 [sinks.audit]\ntype = \"file\"\npath = \"{{data_dir}}/audit/{{date}}.jsonl\"\n"
            );
            let audit = folder.path().join("actlog-data/audit");
            let mut actlog = Actlog::start(folder.path(), &config).await;
            let all_are_there = async || lines(&audit) >= expected.len();
            wait_until(&format!("all records by {endpoint} and {credential}"), all_are_there).await;
            actlog.stop().await;
            let records = records(&audit);
            let found: BTreeSet<String> =
                records.iter().map(|record| record["Id"].as_str().unwrap().to_owned()).collect();
            assert_eq!(found, expected, "{endpoint}, {credential}");
        }
    }
    assert_eq!(server.violations(), Vec::<String>::new());
}
