//! No secret shows: not in logs of any level, errors, metrics, answers, commands' output, the journal, the dead letters or
//! what sinks write; not while everything works, and not when credentials are wrong, answers are refused, TLS fails and
//! bodies are bad.

#![expect(clippy::unwrap_used, reason = "whatever is missing fails the test")]

#[path = "secrets/canary.rs"]
mod canary;
#[path = "secrets/sinks.rs"]
mod sinks;
#[path = "secrets/world.rs"]
mod world;

use std::path::PathBuf;
use std::time::Duration;

use actlog_testkit::fixtures::workspace;
use actlog_testkit::process::wait_until;
use canary::{Canaries, percent_encoded};
use world::World;

/// An RSA key of the repository's tests, in PEM.
fn rsa_key() -> PathBuf {
    workspace().join("crates/http/tests/data/rsa-key.pkcs8.pem")
}

/// Where the private exponent begins in its DER form.
const RSA_SECRET_AT: usize = 304;

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_stands_in_the_configuration_itself_is_refused_and_not_repeated() {
    let mut canaries = Canaries::default();
    let secret = canaries.text("inline");
    let quoted = toml::Value::String(secret.clone()).to_string();
    let application = "client_id = \"6f0b1c7e-2d1c-4f9a-9a55-0f0c2f6f5d11\"";
    let folder = tempfile::tempdir().unwrap();
    for config in [
        format!("[sources.a]\ntype = \"crm\"\nlisten = \"127.0.0.1:1\"\nkey = {quoted}\n"),
        format!("[sources.a]\ntype = \"crm\"\nlisten = \"127.0.0.1:1\"\nkey = [{quoted}]\n"),
        format!("[sources.a]\ntype = \"crm\"\nlisten = \"127.0.0.1:1\"\nheaders = {{ X-Key = {quoted} }}\n"),
        format!("[sources.a]\ntype = \"records\"\nlisten = \"127.0.0.1:1\"\ncredentials = [{{ key = {quoted} }}]\n"),
        format!("[policy]\nhash_key = {quoted}\n"),
        format!("[organizations.a]\napplication = {{ {application}, secret = {quoted} }}\n"),
        format!("[organizations.a]\napplication = {{ {application}, certificate = \"a\", key = {quoted} }}\n"),
        format!(
            "[sources.a]\ntype = \"office365\"\n[sources.a.tenants.b]\nid = \"6f0b1c7e-2d1c-4f9a-9a55-0f0c2f6f5d11\"\n\
             application = {{ {application}, secret = {quoted} }}\n"
        ),
        format!(
            "[enrichments.a]\ntype = \"directory\"\nclient = {{ proxy = \"http://user:{}@proxy.example:3128\" }}\n",
            percent_encoded(&secret)
        ),
    ] {
        std::fs::write(folder.path().join("actlog.toml"), &config).unwrap();
        let output = world::actlog(folder.path(), &["validate"]);
        let printed = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&printed);
        assert!(!output.status.success(), "accepted: {config}");
        assert!(text.contains("actlog.toml:"), "the place is named: {text}");
        assert_eq!(canaries.found("the error", &printed), [""; 0], "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_shows_in_any_output() {
    let mut world = World::start().await;
    world.post_good_and_bad().await;
    world.wait_for_records_of_every_source().await;
    world.run_commands(world::WORKING);

    // Every token is refused at once, then every secret; the interfaces fail in other ways too.
    world.collect_tokens();
    world.dataverse.entra().revoke_all();
    world.office.entra().revoke_all();
    for status in [401, 403, 500, 503] {
        world.dataverse.fail_next(3, status, Some(Duration::ZERO));
    }
    world.office.set_faults(500);
    world.run_commands("while requests fail");
    world.collect_tokens();
    world.change_secrets(false);
    wait_until("sign-in is refused", async || world.log().contains("AADSTS7000215")).await;
    world.office.set_down(true);
    world.run_commands("while signing in fails");
    let metrics = world.actlog.metrics().await;
    world.keep("metrics", metrics.as_bytes());
    world.restart_with_json_logs().await;
    world.post_good_and_bad().await;
    world.collect_tokens();
    world.change_secrets(false);
    wait_until("sign-in is refused again", async || world.log().contains("AADSTS7000215")).await;
    world.actlog.stop().await;
    world.run_commands("when nothing runs");

    let found = world.found();
    assert_eq!(found, [""; 0], "{}", found.join("\n"));
}
