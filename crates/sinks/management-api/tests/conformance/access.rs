//! Who may see what.

use actlog_core::AuditRecord;
use actlog_core::config::Organization;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::service::{CLIENT, Client, FEED, SECRET, Service, TENANT, error, feed, json};
use crate::{GENERAL, OTHER};

#[tokio::test]
async fn without_a_valid_token_nothing_is_told_and_no_body_is_read() {
    let service = Service::start("").await;
    let good = service.token_of(TENANT, CLIENT).await;
    let refused = [
        None,
        Some("Bearer".to_owned()),
        Some("Bearer ".to_owned()),
        Some("Bearer x.y.z".to_owned()),
        Some(format!("Basic {good}")),
        Some(format!("Bearer {}", &good[..good.len() - 4])),
    ];
    for authorization in refused {
        let headers: Vec<_> = authorization.iter().map(|value| ("Authorization", value.as_str())).collect();
        for operation in ["subscriptions/list", "audit/x", "resources/dlpSensitiveTypes"] {
            let answer = service.send(FEED, "GET", &feed(operation), &headers, b"").await.unwrap();
            assert_eq!(answer.status, 401, "{authorization:?}");
            assert_eq!(answer.text(), r#"{"Message":"Authorization has been denied for this request."}"#);
        }
    }
    // The answer comes although the body that is announced never does.
    let start = feed("subscriptions/start?contentType=Audit.General");
    let head = format!("POST {start} HTTP/1.1\r\nHost: {FEED}\r\nContent-Length: 10000\r\n\r\n");
    assert_eq!(service.send_bytes(head.as_bytes()).await.unwrap().status, 401);
    // The scheme counts in any case.
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let authorization = format!("{scheme} {good}");
        let headers = [("Authorization", authorization.as_str())];
        let answer = service.send(FEED, "GET", &feed("subscriptions/list"), &headers, b"").await.unwrap();
        assert_eq!(answer.status, 200, "{scheme}");
    }
}

#[tokio::test]
async fn permissions_decide_by_content_type() {
    let mut service = Service::with_roles("", &["ActivityFeed.Read"]).await;
    let dlp = "b2222222-2222-2222-2222-222222222222";
    service.register(TENANT, dlp, SECRET, &["ActivityFeed.ReadDlp"]);
    service.publish_blobs("DLP.All", 1).await;
    service.publish(1).await;
    let reader = service.client().await;
    let guard = Client { token: service.token_of(TENANT, dlp).await, ..reader.clone() };
    reader.subscribe("Audit.General").await;
    guard.subscribe("DLP.All").await;
    let refused = (401, "AF10001".to_owned());
    for operation in ["content?", "notifications?"] {
        let operation = format!("subscriptions/{operation}");
        assert_eq!(error(&reader.get(&format!("{operation}contentType=DLP.All")).await), refused);
        assert_eq!(error(&guard.get(&format!("{operation}{GENERAL}")).await), refused);
    }
    assert_eq!(error(&reader.post("subscriptions/start?contentType=DLP.All", "").await), refused);
    assert_eq!(error(&guard.post(&format!("subscriptions/start?{GENERAL}"), "").await), refused);
    let of_guard = guard.list("contentType=DLP.All").await;
    let of_reader = reader.list(GENERAL).await;
    assert_eq!((of_guard.len(), of_reader.len()), (1, 1));
    let blob = |entry: &Value| format!("audit/{}", entry["contentId"].as_str().unwrap());
    assert_eq!(error(&reader.get(&blob(&of_guard[0])).await), refused);
    assert_eq!(error(&guard.get(&blob(&of_reader[0])).await), refused);
    assert_eq!(guard.fetch(&of_guard[0]).await.len(), 1);
}

#[tokio::test]
async fn a_client_without_permissions_gets_the_words_of_the_service() {
    let service = Service::with_roles("", &["ActivityFeed.ReadDlp"]).await;
    let client = service.client().await;
    let answer = client.get(&format!("subscriptions/content?{GENERAL}")).await;
    let words = json(&answer)["error"]["message"].as_str().unwrap().to_owned();
    assert!(
        words.starts_with("The permission set (") && words.ends_with("does not include the expected permission."),
        "{words}"
    );
}

#[tokio::test]
async fn a_tenant_sees_nothing_of_another() {
    let keys = format!("tenants.fabrikam.id = \"{OTHER}\"");
    let mut service = Service::prepare(&keys, &["ActivityFeed.Read"]);
    let ours = service.record();
    let theirs = AuditRecord { organization_id: Some(Uuid::from_u128(7)), ..service.record() };
    for (name, record, tenant) in [("contoso", &ours, TENANT), ("fabrikam", &theirs, OTHER)] {
        let tenant = Some(tenant.parse().unwrap());
        let organization = Organization { id: record.organization_id, tenant, ..Organization::default() };
        service.organizations.insert(name.to_owned(), organization);
    }
    let their_client = "b3333333-3333-3333-3333-333333333333";
    service.register(OTHER, their_client, SECRET, &["ActivityFeed.Read"]);
    service.run().await;
    service.append(&ours);
    service.append(&theirs);
    service.published().await;

    let we = service.client().await;
    we.subscribe("Audit.General").await;
    let entry = we.list(GENERAL).await.remove(0);
    let records = we.fetch(&entry).await;
    assert_eq!(records.iter().map(|record| record["Id"].clone()).collect::<Vec<_>>(), [json!(ours.id)]);

    let they = Client { token: service.token_of(OTHER, their_client).await, ..we.clone() };
    let own = |operation: &str| feed(operation).replace(TENANT, OTHER);
    let start = own(&format!("subscriptions/start?{GENERAL}"));
    assert_eq!(they.ask("POST", &start, &[], b"").await.status, 200);
    let listed = json(&they.ask("GET", &own(&format!("subscriptions/content?{GENERAL}")), &[], b"").await);
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(they.fetch(&listed[0]).await[0]["Id"], json!(theirs.id));
    let id = entry["contentId"].as_str().unwrap();
    assert_eq!(error(&they.ask("GET", &own(&format!("audit/{id}")), &[], b"").await), (404, "AF20050".to_owned()));
    assert_eq!(error(&they.get(&format!("audit/{id}")).await), (400, "AF20010".to_owned()));
    assert_eq!(service.ask_for_token(TENANT, their_client, SECRET).await.status, 400, "unknown in this tenant");
}

#[tokio::test]
async fn a_tenant_that_is_served_no_longer_does_not_exist() {
    let keys = "tenants.fabrikam.id = \"99999999-9999-9999-9999-999999999999\"";
    let mut service = Service::prepare(keys, &["ActivityFeed.Read"]);
    service.run().await;
    let token = service.token_of(TENANT, CLIENT).await;
    service.stop().await;
    service.leave_out_contoso();
    service.run().await;
    let client = Client { service: &service, host: FEED.to_owned(), token };
    assert_eq!(error(&client.get("subscriptions/list").await), (400, "AF20011".to_owned()));
}
