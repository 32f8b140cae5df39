//! Names of users: from the directory into the records, while Dataverse is there and when it is not.

#![expect(clippy::unwrap_used, reason = "whatever is missing fails the test")]

use std::path::Path;

use actlog_testkit::dataverse_server::DataverseServer;
use actlog_testkit::http::post;
use actlog_testkit::process::{Actlog, free_address, wait_until};
use actlog_tests::records;
use serde_json::{Value, json};
use uuid::Uuid;

/// A context of that user.
fn context(number: u128, user: Uuid) -> Vec<u8> {
    let body = json!({
        "MessageName": "Update",
        "PrimaryEntityName": "account",
        "PrimaryEntityId": Uuid::from_u128(number),
        "OperationId": Uuid::from_u128(number),
        "OrganizationId": DataverseServer::ORGANIZATION_ID,
        "UserId": user,
        "InitiatingUserId": user,
        "Stage": 40,
        "Mode": 1,
        "Depth": 1,
    });
    body.to_string().into_bytes()
}

fn config(organization: &str, address: std::net::SocketAddr) -> String {
    format!(
        "{organization}\n[sources.dynamics]\ntype = \"crm\"\nlisten = \"{address}\"\n\n\
         [enrichments.users]\ntype = \"directory\"\nrefresh = \"1 s\"\nclient = {{ allow_private = true }}\n\n\
         [sinks.audit]\ntype = \"file\"\npath = \"{{data_dir}}/audit/{{date}}.jsonl\"\n"
    )
}

async fn record(audit: &Path, number: u128) -> Value {
    let id = Uuid::from_u128(number).to_string();
    let mut found = None;
    wait_until(&format!("the record of {id}"), async || {
        found = records(audit).into_iter().find(|record| record["EntityId"] == *id);
        found.is_some()
    })
    .await;
    found.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_show_who_it_was_while_dataverse_answers_and_when_it_does_not() {
    let server = DataverseServer::start().await;
    let ann = server.insert(
        "systemusers",
        json!({ "domainname": "ann@contoso.com", "fullname": "Ann", "accessmode": 0,
                "azureactivedirectoryobjectid": Uuid::from_u128(7) }),
    );
    let role = server.insert(
        "roles",
        json!({ "name": "System Administrator", "_roletemplateid_value": "627090ff-40a3-4053-8790-584edc5be201" }),
    );
    server.insert("systemuserrolescollection", json!({ "systemuserid": ann, "roleid": role }));

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), DataverseServer::SECRET).unwrap();
    let (address, audit) = (free_address(), folder.path().join("actlog-data/audit"));
    let mut actlog = Actlog::start(folder.path(), &config(&server.organization("contoso"), address)).await;
    let known = async |actlog: &Actlog, user: &str| {
        let output = actlog.command(&["directory", user, "--json"]);
        output.status.success().then(|| serde_json::from_slice::<Value>(&output.stdout).unwrap())
    };
    wait_until("ann is known", async || known(&actlog, "ann@contoso.com").await.is_some()).await;
    assert_eq!(known(&actlog, "ann@contoso.com").await.unwrap()["SystemUserId"], ann.to_string());

    // Somebody who comes later is nobody at first, and is counted.
    let bob = Uuid::from_u128(0xb0b);
    assert_eq!(post(address, "/", &context(1, ann)).await.unwrap().status, 200);
    assert_eq!(post(address, "/", &context(2, bob)).await.unwrap().status, 200);
    let by_ann = record(&audit, 1).await;
    assert_eq!(by_ann["UserId"], "ann@contoso.com");
    assert_eq!(by_ann["UserUpn"], "ann@contoso.com");
    assert_eq!(by_ann["UserKey"], Uuid::from_u128(7).to_string());
    assert_eq!(by_ann["UserType"], 2);
    let by_bob = record(&audit, 2).await;
    assert_eq!((&by_bob["UserId"], &by_bob["UserUpn"]), (&bob.to_string().into(), &Value::Null));
    let metrics = actlog.metrics().await;
    let unknown = metrics.lines().find(|line| line.starts_with("actlog_directory_unknown_users_total{")).unwrap();
    assert!(unknown.ends_with(" 1"), "{unknown}");
    server.insert("systemusers", json!({ "systemuserid": bob, "domainname": "bob@contoso.com", "fullname": "Bob" }));
    wait_until("bob is known", async || known(&actlog, "bob@contoso.com").await.is_some()).await;
    // A name that is known now leads to what was captured before it was.
    assert_eq!(known(&actlog, "bob@contoso.com").await.unwrap()["SystemUserId"], by_bob["SystemUserId"]);
    assert_eq!(server.violations(), Vec::<String>::new());

    // Without Dataverse, what was known is still known, after a restart too.
    drop(server);
    wait_until("the directory shows that it can't be read", async || {
        let status: Value = serde_json::from_slice(&actlog.command(&["status", "--json"]).stdout).unwrap();
        status["enrichments"]["users"]["status"] == "degraded"
    })
    .await;
    actlog.process.kill();
    actlog.restart().await;
    assert_eq!(post(address, "/", &context(3, bob)).await.unwrap().status, 200);
    assert_eq!(record(&audit, 3).await["UserId"], "bob@contoso.com");
    actlog.stop().await;
}
