//! The stand-in for a Dataverse environment refuses what the platform refuses.

#![expect(clippy::unwrap_used, reason = "whatever is missing fails the test")]

use std::net::SocketAddr;

use actlog_testkit::dataverse_server::DataverseServer;
use actlog_testkit::http::{Connection, Response};
use serde_json::{Value, json};
use uuid::Uuid;

struct Client {
    address: SocketAddr,
    bearer: String,
}

impl Client {
    async fn of(server: &DataverseServer) -> Self {
        let address = server.url().strip_prefix("http://").unwrap().parse().unwrap();
        let secret = DataverseServer::SECRET.replace('%', "%25").replace('+', "%2B").replace('&', "%26");
        let form = format!(
            "grant_type=client_credentials&client_id={}&client_secret={secret}&scope={}/.default",
            DataverseServer::CLIENT_ID,
            server.url()
        );
        let path = format!("/{}/oauth2/v2.0/token", DataverseServer::TENANT);
        let answer = send(address, "POST", &path, &[], form.as_bytes()).await;
        let token: Value = serde_json::from_slice(&answer.body).unwrap();
        Self { address, bearer: format!("Bearer {}", token["access_token"].as_str().unwrap()) }
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> Response {
        let mut headers = vec![
            ("Authorization", self.bearer.as_str()),
            ("OData-Version", "4.0"),
            ("Accept", "application/json"),
            ("Prefer", "odata.maxpagesize=2"),
            ("MSCRM.MergeLabels", "true"),
        ];
        if !body.is_empty() {
            headers.push(("Content-Type", "application/json"));
        }
        let path = path.replace(' ', "%20");
        send(self.address, method, &format!("/api/data/v9.2/{path}"), &headers, body.as_bytes()).await
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.ask("GET", path, "").await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }

    async fn create(&self, set: &str, row: &Value) -> Result<Uuid, String> {
        let answer = self.ask("POST", set, &row.to_string()).await;
        match answer.header("odata-entityid") {
            Some(location) => Ok(location.rsplit('(').next().unwrap().trim_end_matches(')').parse().unwrap()),
            None => Err(answer.text()),
        }
    }
}

async fn send(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    Connection::open(address).await.unwrap().request(method, path, headers, body).await.unwrap()
}

#[tokio::test]
async fn requests_that_the_platform_does_not_understand_are_refused() {
    let server = DataverseServer::start().await;
    let client = Client::of(&server).await;
    for (path, status) in [
        ("audits?$select=auditid,action", 200),
        ("audits?$filter=createdon ge 2026-01-01T00:00:00Z and (action eq 64 or action eq 65)", 200),
        ("sdkmessages?$filter=not (name eq 'Create') and startswith(name,'Re')", 200),
        ("EntityDefinitions?$filter=IsAuditEnabled/Value eq false", 200),
        ("EntityDefinitions(LogicalName='account')/Attributes?$select=LogicalName", 200),
        ("audits?$select=nothing", 400),
        ("audits?$filter=nothing eq 1", 400),
        ("audits?$filter=Action eq 1", 400),
        ("audits?$filter=action eq '64'", 400),
        ("audits?$filter=auditid eq 'x'", 400),
        ("audits?$filter=action eq 1 and", 400),
        ("audits?$filter=(action eq 1", 400),
        ("audits?$filter=action like 1", 400),
        ("audits?$orderby=nothing", 400),
        ("audits?$expand=userid", 400),
        ("audits?$apply=aggregate($count as n)", 400),
        ("EntityDefinitions?$filter=IsAuditEnabled eq false", 400),
        ("serviceendpoints?$select=authvalue", 400),
        ("Attributes", 404),
        ("nothing", 404),
        ("audits(00000000-0000-0000-0000-000000000001)", 404),
        ("audits(x)", 400),
    ] {
        let answer = client.ask("GET", path, "").await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
    }
    assert_eq!(server.violations(), Vec::<String>::new());
    let nobody = Client { bearer: String::new(), ..client };
    assert_eq!(nobody.ask("GET", "audits", "").await.status, 401);
    assert_eq!(server.violations().len(), 1);
}

#[tokio::test]
async fn pages_go_on_behind_the_last_row_whatever_came_in_between() {
    let server = DataverseServer::start().await;
    let client = Client::of(&server).await;
    let insert = |second: u32| {
        let created = format!("2026-01-01T00:00:{second:02}Z");
        server.insert("audits", json!({ "createdon": created, "action": second }));
    };
    [10, 20, 30, 40, 50].into_iter().for_each(insert);
    let first = client.get("audits?$select=action&$orderby=createdon asc").await;
    let link = first["@odata.nextLink"].as_str().unwrap();
    // One before the place where the page ended, and one behind.
    [15, 25].into_iter().for_each(insert);
    let second = client.get(link.split_once("/v9.2/").unwrap().1).await;
    let actions = |page: &Value| {
        page["value"].as_array().unwrap().iter().map(|row| row["action"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!((actions(&first), actions(&second)), (vec![10, 20], vec![25, 30]));
    // The token is escaped once more than clients expect who decode it.
    let decoded = link.replace("%25", "%");
    let answer = client.ask("GET", decoded.split_once("/v9.2/").unwrap().1, "").await;
    assert_eq!(answer.status, 400, "{}", answer.text());
}

#[tokio::test]
async fn steps_that_the_platform_refuses_are_refused() {
    let server = DataverseServer::start().await;
    let client = Client::of(&server).await;
    let value = "<settings><setting name=\"x-key\" value=\"a&amp;b\"/></settings>";
    let webhook = json!({ "name": "h", "url": "https://x.example/", "contract": 8, "authtype": 5, "authvalue": value });
    for (column, wrong) in [
        ("authvalue", json!("a")),
        ("authvalue", json!(value.replace("&amp;", "&"))),
        ("authtype", json!(9)),
        ("Url", json!("x")),
    ] {
        let mut row = webhook.clone();
        row[column] = wrong;
        assert!(client.create("serviceendpoints", &row).await.is_err(), "{row}");
    }
    let endpoint = client.create("serviceendpoints", &webhook).await.unwrap();
    let messages = server.rows("sdkmessages");
    let message = |name: &str| {
        let row = messages.iter().find(|row| row["name"] == name).unwrap();
        format!("/sdkmessages({})", row["sdkmessageid"].as_str().unwrap())
    };
    let step = json!({
        "name": "s", "stage": 40, "mode": 1, "rank": 1, "supporteddeployment": 0, "asyncautodelete": true,
        "eventhandler_serviceendpoint@odata.bind": format!("/serviceendpoints({endpoint})"),
        "sdkmessageid@odata.bind": message("Create"),
    });
    for (column, wrong) in [
        ("stage", json!(20)),
        ("stage", json!("40")),
        ("mode", json!(2)),
        ("colour", json!(1)),
        ("filteringattributes", json!("name")),
        ("SdkMessageId@odata.bind", json!(message("Create"))),
        ("sdkmessageid@odata.bind", json!(message("Execute"))),
        ("sdkmessageid@odata.bind", json!(message("ImportSolution"))),
        ("sdkmessageid@odata.bind", json!(format!("/sdkmessages({endpoint})"))),
        ("_sdkmessageid_value", json!(endpoint)),
    ] {
        let mut row = step.clone();
        row[column] = wrong;
        assert!(client.create("sdkmessageprocessingsteps", &row).await.is_err(), "{row}");
    }
    let id = client.create("sdkmessageprocessingsteps", &step).await.unwrap();
    assert!(client.create("sdkmessageprocessingsteps", &step).await.is_err(), "the same twice");
    let listed = client.get(&format!("serviceendpoints({endpoint})/serviceendpoint_sdkmessageprocessingstep")).await;
    assert_eq!(listed["value"][0]["sdkmessageprocessingstepid"], json!(id));
    assert_eq!(client.ask("DELETE", &format!("serviceendpoints({endpoint})"), "").await.status, 400);
    assert_eq!(client.ask("DELETE", &format!("sdkmessageprocessingsteps({id})"), "").await.status, 204);
    assert_eq!(client.ask("DELETE", &format!("serviceendpoints({endpoint})"), "").await.status, 204);
}

#[tokio::test]
async fn definitions_are_replaced_whole_and_hold_once_they_are_published() {
    let server = DataverseServer::start().await;
    let client = Client::of(&server).await;
    let path = "EntityDefinitions(LogicalName='account')";
    let mut whole = client.get(path).await;
    whole["IsAuditEnabled"]["Value"] = json!(true);
    let mut part = whole.clone();
    part.as_object_mut().unwrap().remove("SchemaName");
    assert_eq!(client.ask("PUT", path, &part.to_string()).await.status, 400);
    assert_eq!(client.ask("PATCH", path, &whole.to_string()).await.status, 405);
    assert_eq!(client.ask("PUT", path, &whole.to_string()).await.status, 204);
    let value = async || client.get(path).await["IsAuditEnabled"]["Value"].clone();
    assert_eq!(value().await, false);
    let publish = |table: &str| {
        let xml = format!("<importexportxml><entities><entity>{table}</entity></entities></importexportxml>");
        json!({ "ParameterXml": xml }).to_string()
    };
    assert_eq!(client.ask("POST", "PublishXml", &publish("contact")).await.status, 204);
    assert_eq!(value().await, false);
    assert_eq!(client.ask("POST", "PublishXml", &publish("account")).await.status, 204);
    assert_eq!(value().await, true);
    let fixed = "EntityDefinitions(LogicalName='asyncoperation')";
    let mut whole = client.get(fixed).await;
    whole["IsAuditEnabled"]["Value"] = json!(true);
    assert_eq!(client.ask("PUT", fixed, &whole.to_string()).await.status, 403);
}

#[tokio::test]
async fn users_come_with_their_roles() {
    let server = DataverseServer::start().await;
    let client = Client::of(&server).await;
    let user = server.insert("systemusers", json!({ "fullname": "Alice", "islicensed": true, "accessmode": 0 }));
    let other = server.insert("systemusers", json!({ "fullname": "Bob" }));
    let role = server.insert("roles", json!({ "name": "System Administrator" }));
    server.insert("systemuserrolescollection", json!({ "systemuserid": user, "roleid": role }));
    let found = client
        .get("systemusers?$select=fullname&$expand=systemuserroles_association($select=name)&$orderby=fullname desc")
        .await;
    let [bob, alice] = &found["value"].as_array().unwrap()[..] else { panic!("{found}") };
    assert_eq!((&bob["systemuserid"], &bob["systemuserroles_association"]), (&json!(other), &json!([])));
    assert_eq!(alice["systemuserroles_association"][0]["name"], "System Administrator");
    assert_eq!(alice.get("accessmode"), None);
}
