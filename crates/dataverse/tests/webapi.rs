//! The Web API client against the stand-in, and against servers that misbehave.
#![cfg(feature = "client")]
#![expect(clippy::unwrap_used, reason = "whatever is missing fails the test")]

use std::path::Path;
use std::time::Duration;

use actlog_core::Organization;
use actlog_dataverse::webapi::{WebApi, WebApiError, literal};
use actlog_http::client::{Client, ClientConfig};
use actlog_testkit::dataverse_server::DataverseServer;
use actlog_testkit::entra::Entra;
use actlog_testkit::server::{Request, Server, StatusCode, empty, json as answer};
use serde_json::{Value, json};
use uuid::Uuid;

fn organization(url: &str) -> Organization {
    serde_json::from_value(json!({
        "tenant": DataverseServer::TENANT,
        "url": url,
        "application": {
            "client_id": DataverseServer::CLIENT_ID, "secret": { "file": "secret" }, "authority": url,
        },
    }))
    .unwrap()
}

/// The Web API at that URL; the folder holds the secret and must live as long.
fn connect(url: &str) -> (WebApi, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), DataverseServer::SECRET).unwrap();
    let config = ClientConfig { allow_private: true, ..ClientConfig::default() };
    let client = Client::new(&config, folder.path()).unwrap();
    (WebApi::connect(&organization(url), client, folder.path()).unwrap(), folder)
}

async fn ids(api: &WebApi, query: &str, page_size: u32) -> Result<Vec<i64>, WebApiError> {
    let mut pages = api.pages::<Value>(query, page_size);
    let mut found = Vec::new();
    while let Some(page) = pages.next().await? {
        assert!(page.len() <= page_size as usize);
        found.extend(page.iter().map(|row| row["action"].as_i64().unwrap()));
    }
    Ok(found)
}

#[tokio::test]
async fn every_row_comes_once_however_the_pages_are_cut_and_however_busy_the_environment_is() {
    let server = DataverseServer::start().await;
    for action in 0..50 {
        let created = format!("2026-01-01T00:00:{:02}Z", action % 7);
        server.insert("audits", json!({ "action": action, "operation": 4, "createdon": created }));
    }
    let (api, _folder) = connect(&server.url());
    server.refuse_at_random(7, 200, 0);
    for page_size in [1, 7, 50, 5000] {
        let query =
            "audits?$select=action&$filter=action ge 10 and (operation eq 4 or action eq 3)&$orderby=createdon asc";
        let mut found = ids(&api, query, page_size).await.unwrap();
        found.sort_unstable();
        assert_eq!(found, (10..50).collect::<Vec<_>>(), "pages of {page_size}");
    }
    assert!(server.requests().iter().any(|request| request.status == 429));
    assert_eq!((server.violations(), server.entra().issued()), (vec![], 1));
}

#[tokio::test]
async fn a_busy_environment_is_waited_for_as_long_as_it_says_and_not_beyond_the_bound() {
    let server = DataverseServer::start().await;
    let (api, _folder) = connect(&server.url());
    server.fail_next(1, 503, Some(Duration::from_secs(1)));
    server.fail_next(2, 429, Some(Duration::ZERO));
    api.get::<Value>("organizations").await.unwrap();
    assert_eq!(server.requests().iter().map(|request| request.status).collect::<Vec<_>>(), [503, 429, 429, 200]);
    server.fail_next(1, 429, Some(Duration::from_secs(3600)));
    let error = api.get::<Value>("organizations").await.unwrap_err();
    let WebApiError::Refused { status: 429, retry_after: Some(after), .. } = &error else { panic!("{error}") };
    assert!(after.as_secs() == 3600 && !error.is_permanent());
    // What may have been done is not done again.
    server.fail_next(1, 503, None);
    let error = api.create("serviceendpoints", &json!({})).await.unwrap_err();
    assert_eq!(error.status(), Some(503));
    // A server that is busy for ever doesn't hold the caller for ever.
    server.fail_next(1000, 429, Some(Duration::ZERO));
    let error = api.get::<Value>("organizations").await.unwrap_err();
    assert!(error.to_string().contains("busy"), "{error}");
}

#[tokio::test]
async fn a_token_that_is_refused_is_renewed_once() {
    let server = DataverseServer::start().await;
    let (api, folder) = connect(&server.url());
    api.get::<Value>("organizations").await.unwrap();
    server.entra().revoke_all();
    api.get::<Value>("organizations").await.unwrap();
    assert_eq!(server.entra().issued(), 2);
    // An environment that takes no token at all is asked twice, not for ever.
    server.fail_next(100, 401, None);
    let error = api.get::<Value>("organizations").await.unwrap_err();
    assert!(error.status() == Some(401) && error.to_string().contains("application user"), "{error}");
    assert_eq!(server.requests().iter().filter(|request| request.status == 401).count(), 3);
    // A wrong secret is said, and not repeated.
    server.entra().change_secret("another");
    server.entra().revoke_all();
    server.fail_next(0, 401, None);
    let (api, _other) = connect(&server.url());
    let error = api.get::<Value>("organizations").await.unwrap_err();
    assert!(error.is_permanent() && error.to_string().contains("7000215"), "{error}");
    assert!(!format!("{error} {error:?} {api:?}").contains(DataverseServer::SECRET));
    drop(folder);
}

#[tokio::test]
async fn rows_are_created_changed_and_deleted() {
    let server = DataverseServer::start().await;
    let (api, _folder) = connect(&server.url());
    let body = json!({ "name": "hook", "url": "https://x.example/", "contract": 8, "authtype": 4, "authvalue": "k" });
    let id = api.create("serviceendpoints", &body).await.unwrap();
    api.update(&format!("serviceendpoints({id})"), &json!({ "url": "https://y.example/" })).await.unwrap();
    let row: Value = api.get(&format!("serviceendpoints({id})?$select=name,url")).await.unwrap();
    assert_eq!((&row["url"], row.get("authvalue")), (&json!("https://y.example/"), None));
    let read = api.get::<Value>("serviceendpoints?$select=authvalue").await.unwrap_err();
    assert_eq!(read.status(), Some(400));
    api.delete(&format!("serviceendpoints({id})")).await.unwrap();
    let gone = api.delete(&format!("serviceendpoints({id})")).await.unwrap_err();
    assert!(gone.is_not_found() && gone.is_permanent(), "{gone}");
    let updated = api.update(&format!("serviceendpoints({id})"), &json!({ "url": "https://z.example/" })).await;
    assert!(updated.unwrap_err().is_not_found(), "an update must not create");
    let wrong = api.create("serviceendpoints", &json!({ "Name": "x" })).await.unwrap_err();
    let WebApiError::Refused { status: 400, code, message, .. } = &wrong else { panic!("{wrong}") };
    assert!(code == "0x80048d19" && message.contains("'Name'"), "{wrong}");
    api.action::<_, ()>("PublishAllXml", &json!({})).await.unwrap();
    assert_eq!(server.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn values_with_quotes_and_ampersands_are_no_part_of_the_query() {
    let server = DataverseServer::start().await;
    let (api, _folder) = connect(&server.url());
    let name = "O'Hara & Söhne) or (fullname ne null #1+1=2%";
    server.insert("systemusers", json!({ "fullname": name, "domainname": "a@b" }));
    server.insert("systemusers", json!({ "fullname": "somebody else" }));
    let path = format!("systemusers?$select=domainname&$filter=fullname eq {}", literal(name));
    let found = api.pages::<Value>(&path, 10).all(10).await.unwrap();
    assert_eq!((found.len(), &found[0]["domainname"]), (1, &json!("a@b")));
    // Nor does a path leave the Web API.
    for path in ["../../../evil", "/../../../../evil"] {
        let error = api.get::<Value>(path).await.unwrap_err();
        assert!(matches!(error, WebApiError::Elsewhere { .. }), "{path}: {error}");
    }
}

#[tokio::test]
async fn a_link_that_leads_elsewhere_is_not_followed_and_gets_no_token() {
    let elsewhere = DataverseServer::start().await;
    for link in [
        format!("{}/api/data/v9.2/audits?$skiptoken=x", elsewhere.url()),
        "https://evil.example/api/data/v9.2/audits".to_owned(),
        "OWN@evil.example/api/data/v9.2/audits".to_owned(),
        "OWN.evil.example/api/data/v9.2/audits".to_owned(),
        "OWN/api/data/v9.2/../../other".to_owned(),
        "OWN/api/data/v9.20/audits".to_owned(),
        "/api/data/v9.2/audits".to_owned(),
        // For ever in a circle.
        "OWN/api/data/v9.2/audits".to_owned(),
    ] {
        let entra = Entra::new(DataverseServer::TENANT, DataverseServer::CLIENT_ID, DataverseServer::SECRET);
        let server = Server::start(move |request: Request<_>| {
            let own = format!("http://{}", request.headers()["host"].to_str().unwrap());
            let response = match entra.answer(request.uri().path(), request.body()) {
                Some((status, token)) => answer(status, &token),
                None => answer(
                    StatusCode::OK,
                    &json!({ "value": [{ "action": 1 }], "@odata.nextLink": link.replace("OWN", &own) }),
                ),
            };
            async move { response }
        })
        .await;
        let (api, _folder) = connect(&server.url());
        let error = ids(&api, "audits", 10).await.unwrap_err();
        assert!(matches!(error, WebApiError::Elsewhere { .. } | WebApiError::Answer { .. }), "{error}");
    }
    assert_eq!(elsewhere.requests(), []);
}

#[tokio::test]
async fn answers_that_are_none_are_errors_that_say_where() {
    let entra = Entra::new(DataverseServer::TENANT, DataverseServer::CLIENT_ID, DataverseServer::SECRET);
    let server = Server::start(move |request: Request<_>| {
        let response = match (entra.answer(request.uri().path(), request.body()), request.uri().path()) {
            (Some((status, token)), _) => answer(status, &token),
            (None, "/api/data/v9.2/text") => {
                let mut response = empty(StatusCode::OK);
                *response.body_mut() = "<html>".into();
                response
            }
            (None, "/api/data/v9.2/failing") => {
                let mut response = empty(StatusCode::BAD_GATEWAY);
                *response.body_mut() = "<html>\u{1b}[2J".into();
                response
            }
            _ => empty(StatusCode::OK),
        };
        async move { response }
    })
    .await;
    let (api, _folder) = connect(&server.url());
    for (path, said) in [("text?$filter=secret", "GET text"), ("nothing", "GET nothing: the answer is empty")] {
        let error = api.get::<Value>(path).await.err().map(|error| error.to_string());
        if path == "nothing" {
            // An empty answer can be read as null.
            assert_eq!(error, None);
            let error = api.get::<Vec<Value>>(path).await.unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        } else {
            let error = error.unwrap();
            assert!(error.contains(said) && !error.contains("secret") && !error.contains("html"), "{error}");
        }
    }
    let error = api.get::<Value>("failing").await.unwrap_err();
    assert_eq!((error.status(), error.to_string().as_str()), (Some(502), "GET failing: status 502"));
    let error = api.create("things", &json!({})).await.unwrap_err();
    assert!(error.to_string().contains("id of what was created"), "{error}");
}

#[test]
fn what_signing_in_needs_is_said_at_its_key() {
    let client = Client::new(&ClientConfig::default(), Path::new(".")).unwrap();
    let whole = serde_json::to_value(organization("https://contoso.crm.dynamics.com")).unwrap();
    let key = |change: &dyn Fn(&mut Value)| {
        let mut changed = whole.clone();
        change(&mut changed);
        let organization: Organization = serde_json::from_value(changed).unwrap();
        let error = WebApi::connect(&organization, client.clone(), Path::new("/nonexistent"));
        error.unwrap_err().path
    };
    assert_eq!(key(&|o| o["url"] = Value::Null), "url");
    assert_eq!(key(&|o| o["tenant"] = Value::Null), "tenant");
    assert_eq!(key(&|o| o["application"] = Value::Null), "application");
    assert!(key(&|o| o["application"]["secret"] = Value::Null).starts_with("application"));
    assert!(key(&|o| o["url"] = json!("https://contoso.crm.dynamics.com/")).starts_with("application"));
    for url in ["contoso.crm.dynamics.com", "https://x.example/main.aspx", "https://u:p@x.example", "mailto:x@y"] {
        assert_eq!(key(&|o| o["url"] = json!(url)), "url", "{url}");
    }
}

#[tokio::test]
async fn audit_flags_are_read_from_the_live_definitions() {
    let server = DataverseServer::start().await;
    let (api, _folder) = connect(&server.url());
    let account = server.rows("EntityDefinitions").into_iter().find(|row| row["LogicalName"] == "account").unwrap();
    let id = Uuid::try_parse(account["MetadataId"].as_str().unwrap()).unwrap();
    server.change("EntityDefinitions", id, json!({ "IsRetrieveAuditEnabled": true }));
    let flags = api.audit_flags().await.unwrap();
    assert_eq!(flags.source, server.url());
    assert_eq!(flags.organization.read, Some(true));
    let account = &flags.entities["account"];
    assert_eq!((account.audit.value, account.audit.can_be_changed), (Some(false), Some(true)));
    assert_eq!((account.retrieve, account.retrieve_multiple), (Some(true), Some(false)));
    assert_eq!(account.attributes["description"].value, Some(true));
    assert_eq!(account.attributes["createdon"].can_be_changed, Some(false));
    assert_eq!(flags.entities["asyncoperation"].audit.can_be_changed, Some(false));
    assert_eq!(server.violations(), Vec::<String>::new());
}
