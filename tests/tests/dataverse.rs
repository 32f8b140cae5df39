//! `actlog dataverse`, from registration to records, against the stand-in for a Dataverse environment.

#![expect(clippy::unwrap_used, reason = "whatever is missing fails the test")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use actlog_testkit::dataverse_server::{DataverseServer, Posted};
use actlog_testkit::generator::{Expected, Generator};
use actlog_testkit::process::{Actlog, binary, free_address, wait_until};
use actlog_tests::records;
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

const KEY: &str = "canary-0123456789abcdef0123456789abcdef";

/// An environment, and a folder with a configuration for it.
struct Setting {
    environment: DataverseServer,
    folder: TempDir,
    webhook: SocketAddr,
}

/// What a command printed, and how it ended.
struct Ran {
    code: i32,
    text: String,
}

impl Setting {
    async fn new() -> Self {
        let environment = DataverseServer::start().await;
        let folder = tempfile::tempdir().unwrap();
        let webhook = free_address();
        std::fs::write(folder.path().join("secret"), DataverseServer::SECRET).unwrap();
        std::fs::write(folder.path().join("webhook.key"), KEY).unwrap();
        let setting = Self { environment, folder, webhook };
        std::fs::write(setting.folder.path().join("actlog.toml"), setting.config()).unwrap();
        setting
    }

    fn config(&self) -> String {
        format!(
            "{}\n[sources.dynamics]\ntype = \"crm\"\nlisten = \"{}\"\n\
             headers = {{ x-activity-log-key = {{ file = \"webhook.key\" }} }}\n\n\
             [sinks.audit]\ntype = \"file\"\npath = \"{{data_dir}}/audit/{{date}}.jsonl\"\nstatements = true\n",
            self.environment.organization("contoso"),
            self.webhook,
        )
    }

    fn audit(&self) -> PathBuf {
        self.folder.path().join("actlog-data/audit")
    }

    /// `actlog dataverse …` in the folder.
    fn run(&self, arguments: &[&str]) -> Ran {
        let mut all = vec!["dataverse", "--allow-private"];
        all.extend(arguments);
        ran(&actlog(self.folder.path(), &all))
    }

    fn register(&self, more: &[&str]) -> Ran {
        let url = format!("http://{}/dataverse", self.webhook);
        let mut arguments = vec!["register", "--url", &url, "--key-file", "webhook.key"];
        arguments.extend(more);
        self.run(&arguments)
    }

    fn steps(&self) -> Vec<Value> {
        self.environment.rows("sdkmessageprocessingsteps")
    }

    fn step(&self, name: &str) -> Value {
        let steps = self.steps();
        let found = steps.iter().find(|step| step["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {steps:?}")).clone()
    }

    /// The next event of the generator happens in the environment.
    async fn post(&self, generator: &mut Generator) -> (Expected, Posted) {
        let mut body = Vec::new();
        let event = generator.body(&mut body);
        let posted = self.environment.post(&body, &generator.headers(&event), &event).await;
        (event, posted)
    }

    /// Requests that change something, since the last call.
    fn writes(&self) -> Vec<String> {
        let requests = self.environment.requests();
        self.environment.clear_requests();
        let writes = requests.iter().filter(|request| request.method != "GET");
        writes.map(|request| format!("{} {}", request.method, request.path)).collect()
    }

    /// Actions that the journal states, in the order of the file.
    fn actions(&self) -> Vec<String> {
        let all = records(&self.audit());
        let actions = all.iter().filter(|line| line["Statement"] == "administration");
        actions.map(|line| line["Action"].as_str().unwrap().to_owned()).collect()
    }
}

fn actlog(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).current_dir(folder).output().unwrap()
}

fn ran(output: &Output) -> Ran {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains(KEY) && !text.contains(DataverseServer::SECRET), "a secret shows in: {text}");
    Ran { code: output.status.code().unwrap_or(-1), text }
}

fn id(row: &Value, column: &str) -> Uuid {
    row[column].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registration_is_shown_first_done_once_and_then_only_its_difference() {
    let setting = Setting::new().await;
    let shown = setting.register(&[]);
    assert_eq!(shown.code, 0, "{}", shown.text);
    assert!(
        shown.text.contains("+ activity-log: Create of any entity") && shown.text.contains("--apply"),
        "{}",
        shown.text
    );
    assert_eq!((setting.writes(), setting.steps()), (vec![], vec![]));

    let done = setting.register(&["--apply"]);
    assert_eq!(done.code, 0, "{}", done.text);
    let steps = setting.steps();
    let names: Vec<&str> = steps.iter().map(|step| step["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"activity-log: RetrieveMultiple of any entity"), "{names:?}");
    for never in
        ["Execute", "WhoAmI", "RetrieveEntityChanges", "SetStateDynamicEntity", "ImportSolution", "CreateMultiple"]
    {
        assert!(!names.iter().any(|name| name.contains(&format!(": {never} of"))), "{never} in {names:?}");
    }
    assert!(steps.iter().all(|step| step["mode"] == 1 && step["stage"] == 40 && step["asyncautodelete"] == true));
    let [endpoint] = &setting.environment.rows("serviceendpoints")[..] else { panic!("one webhook") };
    assert_eq!(
        (&endpoint["contract"], &endpoint["authtype"], &endpoint["messagecharset"]),
        (&json!(8), &json!(5), &json!(1))
    );
    assert!(
        endpoint["authvalue"].as_str().unwrap().contains(KEY)
            && !endpoint["description"].as_str().unwrap().contains(KEY)
    );

    setting.writes();
    let again = setting.register(&["--apply"]);
    assert!(again.code == 0 && again.text.contains("nothing to do"), "{}", again.text);
    assert_eq!(setting.writes(), Vec::<String>::new());

    // Another key: the webhook alone is written. Other steps: they alone.
    std::fs::write(setting.folder.path().join("webhook.key"), format!("{KEY}-rotated")).unwrap();
    let rotated = setting.register(&["--apply"]);
    assert!(rotated.code == 0 && rotated.text.contains("another key"), "{}", rotated.text);
    assert_eq!(setting.writes(), [format!("PATCH serviceendpoints({})", id(endpoint, "serviceendpointid"))]);
    let update = setting.step("activity-log: Update of any entity");
    let update = id(&update, "sdkmessageprocessingstepid");
    setting.environment.remove("sdkmessageprocessingsteps", update);
    let synchronous = setting.register(&["--apply", "--synchronous", "Retrieve"]);
    assert!(
        synchronous.code == 0 && synchronous.text.contains("warning: Retrieve synchronous"),
        "{}",
        synchronous.text
    );
    let retrieve = setting.step("activity-log: Retrieve of any entity");
    let changed = format!("PATCH sdkmessageprocessingsteps({})", id(&retrieve, "sdkmessageprocessingstepid"));
    let mut writes = setting.writes();
    writes.sort();
    assert_eq!(writes, [changed, "POST sdkmessageprocessingsteps".to_owned()]);
    assert_eq!((&retrieve["mode"], &retrieve["asyncautodelete"]), (&json!(0), &json!(false)));
    assert_eq!(setting.environment.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_forecast_counts_what_the_audit_table_has_and_says_what_it_does_not_know() {
    let setting = Setting::new().await;
    for operation in [1, 2, 2, 2] {
        setting.environment.insert("audits", json!({ "operation": operation, "action": operation }));
    }
    setting.environment.insert("audits", json!({ "operation": 1, "action": 1, "createdon": "2020-01-01T00:00:00Z" }));
    let known = setting.register(&[]).text;
    assert!(known.contains("Create 1, Update 3, Delete 0") && known.contains("not known for"), "{known}");
    setting.environment.change("organizations", DataverseServer::ORGANIZATION_ID, json!({ "isauditenabled": false }));
    let off = setting.register(&[]).text;
    assert!(off.contains("not known: auditing is off") && !off.contains("Create 1"), "{off}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_policy_leaves_out_is_not_registered() {
    let setting = Setting::new().await;
    let policy = "start_read_auditing = false\nall_entities.auditing = false\nentities.account.auditing = true\n";
    std::fs::write(setting.folder.path().join("draft.toml"), policy).unwrap();
    for arguments in [&["policy", "draft", "draft.toml"][..], &["policy", "publish"]] {
        // The first start writes the default policy, which the draft is published over.
        let output = actlog(setting.folder.path(), arguments);
        assert!(output.status.success(), "{}", ran(&output).text);
    }
    let done = setting.register(&["--apply"]);
    assert_eq!(done.code, 0, "{}", done.text);
    let names: Vec<String> = setting.steps().iter().map(|step| step["name"].as_str().unwrap().to_owned()).collect();
    assert!(names.contains(&"activity-log: Create of account".to_owned()), "{names:?}");
    assert!(!names.iter().any(|name| name.contains("contact") || name.contains("Retrieve")), "{names:?}");
    assert!(done.text.contains("policy version 2") && done.text.contains("audits only these"), "{}", done.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_posted_event_becomes_a_record_and_failed_ones_are_recovered() {
    let setting = Setting::new().await;
    let mut running = Actlog::start(setting.folder.path(), &setting.config()).await;
    let registered = running.command(&[
        "dataverse",
        "--allow-private",
        "register",
        "--apply",
        "--url",
        &format!("http://{}/dataverse", setting.webhook),
        "--key-file",
        &setting.folder.path().join("webhook.key").display().to_string(),
    ]);
    assert!(registered.status.success(), "{}", ran(&registered).text);

    let mut generator = Generator::new(5);
    let mut taken = Vec::new();
    while taken.len() < 20 {
        let (event, posted) = setting.post(&mut generator).await;
        match posted {
            Posted::Taken(1) => taken.push(event.correlation_id),
            Posted::NoStep => {}
            other => panic!("{event:?}: {other:?}"),
        }
    }
    let captured = |of: &[Uuid]| {
        let all = records(&setting.audit());
        of.iter().filter(|id| all.iter().any(|record| record["CorrelationId"] == id.to_string())).count()
    };
    wait_until("the records are in the file", async || captured(&taken) == 20).await;

    // While nothing listens, the environment's jobs fail.
    running.stop().await;
    let mut missed = Vec::new();
    while missed.len() < 5 {
        let (event, posted) = setting.post(&mut generator).await;
        if posted == Posted::Failed(1) {
            missed.push(event.correlation_id);
        }
    }
    // One job is of those that the platform doesn't resume.
    let create = setting.step("activity-log: Create of any entity");
    setting.environment.insert_stuck_job(json!({
        "name": "stuck", "createdon": "2026-01-02T03:04:05Z", "message": "Web hook call failed.\u{1b}[2J",
        "_owningextensionid_value": create["sdkmessageprocessingstepid"],
    }));
    // Somebody else's failed job is none of our business.
    setting.environment.insert("asyncoperations", json!({ "name": "theirs", "statuscode": 31, "statecode": 3 }));
    running.restart().await;
    assert_eq!(captured(&missed), 0);

    let status = setting.run(&["status", "--format", "json"]);
    let json: Value = serde_json::from_str(&status.text).unwrap();
    assert_eq!((status.code, &json["failed_jobs"]["count"], &json["drift"]), (3, &json!(6), &json!([])), "{json}");
    setting.writes();
    let shown = setting.run(&["recover"]);
    assert!(shown.code == 0 && shown.text.contains("6 failed system jobs"), "{}", shown.text);
    assert_eq!(setting.writes(), Vec::<String>::new());

    let recovered = setting.run(&["recover", "--apply"]);
    assert!(recovered.text.contains("5 delivered, 1 lost, 0 still running"), "{}", recovered.text);
    assert!(recovered.code == 1 && !recovered.text.contains('\u{1b}'), "{}", recovered.text);
    wait_until("what was missed is in the file", async || captured(&missed) == 5).await;
    let is_gap = |line: &Value| line["Statement"] == "gap" && line["Reason"] == "failed-jobs";
    wait_until("the gap is in the file", async || records(&setting.audit()).iter().any(is_gap)).await;
    let gap = records(&setting.audit()).into_iter().find(is_gap).unwrap();
    assert_eq!((&gap["From"], &gap["To"]), (&json!("2026-01-02T03:04:05Z"), &json!("2026-01-02T03:04:05Z")));
    assert!(gap["Detail"].as_str().unwrap().contains("1 of 6"), "{gap}");
    // Each event is there once, although it was posted twice.
    let all = records(&setting.audit());
    for id in taken.iter().chain(&missed) {
        let of_it = all.iter().filter(|record| record["CorrelationId"] == id.to_string());
        let ids: std::collections::BTreeSet<_> = of_it.clone().map(|record| record["Id"].to_string()).collect();
        assert_eq!(ids.len(), of_it.count());
    }
    let actions = setting.actions();
    assert!(actions.iter().any(|action| action.starts_with("dataverse register contoso")), "{actions:?}");
    assert!(actions.iter().any(|action| action.contains("resume 6 failed system jobs")), "{actions:?}");
    assert_eq!(setting.environment.violations(), Vec::<String>::new());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drift_is_shown_and_ends_with_3_and_registering_again_mends_it() {
    let setting = Setting::new().await;
    let before = setting.run(&["status"]);
    assert!(before.code == 3 && before.text.contains("webhook: none"), "{}", before.text);
    assert_eq!(setting.register(&["--apply"]).code, 0);
    let good = setting.run(&["status"]);
    assert!(good.code == 0 && good.text.contains("as the policy wants them"), "{}", good.text);
    assert!(
        good.text.contains("auditing in the environment: on") && good.text.contains("for 30 days"),
        "{}",
        good.text
    );

    let change = |name: &str, columns: Value| {
        let step = id(&setting.step(name), "sdkmessageprocessingstepid");
        setting.environment.change("sdkmessageprocessingsteps", step, columns);
        step
    };
    change("activity-log: Update of any entity", json!({ "statecode": 1, "statuscode": 2 }));
    let delete = id(&setting.step("activity-log: Delete of any entity"), "sdkmessageprocessingstepid");
    setting.environment.remove("sdkmessageprocessingsteps", delete);
    let send = setting.step("activity-log: Send of any entity");
    let filter = setting
        .environment
        .rows("sdkmessagefilters")
        .into_iter()
        .find(|filter| filter["_sdkmessageid_value"] == send["_sdkmessageid_value"])
        .unwrap();
    change(
        "activity-log: Send of any entity",
        json!({
            "_sdkmessagefilterid_value": filter["sdkmessagefilterid"], "name": "activity-log: Send of email",
        }),
    );
    let drifted = setting.run(&["status", "--format", "json"]);
    let status: Value = serde_json::from_str(&drifted.text).unwrap();
    let mut kinds: Vec<String> = status["drift"]
        .as_array()
        .unwrap()
        .iter()
        .map(|drift| format!("{} {}", drift["kind"].as_str().unwrap(), drift["step"].as_str().unwrap()))
        .collect();
    kinds.sort();
    assert_eq!(drifted.code, 3);
    assert_eq!(
        kinds,
        [
            "changed activity-log: Update of any entity",
            "missing activity-log: Delete of any entity",
            "missing activity-log: Send of any entity",
            "surplus activity-log: Send of email",
        ]
    );
    assert_eq!(setting.register(&["--apply"]).code, 0);
    assert_eq!(setting.run(&["status"]).code, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unregistering_removes_what_is_ours_and_nothing_else() {
    let setting = Setting::new().await;
    assert_eq!(setting.register(&["--apply"]).code, 0);
    let count = setting.steps().len();
    let shown = setting.run(&["unregister"]);
    assert!(shown.code == 0 && shown.text.contains("- activity-log: Create of any entity"), "{}", shown.text);
    assert_eq!(setting.steps().len(), count);

    // A step of somebody else on our webhook: it stays, and so does the webhook.
    let create = setting.step("activity-log: Create of any entity");
    let create = id(&create, "sdkmessageprocessingstepid");
    setting.environment.change("sdkmessageprocessingsteps", create, json!({ "name": "theirs" }));
    let partly = setting.run(&["unregister", "--apply"]);
    assert!(partly.code == 0 && partly.text.contains("the webhook stays"), "{}", partly.text);
    assert_eq!((setting.steps().len(), setting.environment.rows("serviceendpoints").len()), (1, 1));
    setting.environment.remove("sdkmessageprocessingsteps", create);
    assert_eq!(setting.run(&["unregister", "--apply"]).code, 0);
    assert_eq!(setting.environment.rows("serviceendpoints"), Vec::<Value>::new());
    let nothing = setting.run(&["unregister", "--apply"]);
    assert!(nothing.code == 0 && nothing.text.contains("nothing to do"), "{}", nothing.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn audit_switches_travel_both_ways() {
    let setting = Setting::new().await;
    let policy = "all_entities.auditing = false\n[entities.account]\nauditing = true\nsingle_record = true\n\
                  multiple_record = false\nunaudited_columns = [\"description\"]\n";
    std::fs::write(setting.folder.path().join("draft.toml"), policy).unwrap();
    for arguments in [&["policy", "draft", "draft.toml"][..], &["policy", "publish"]] {
        let output = actlog(setting.folder.path(), arguments);
        assert!(output.status.success(), "{}", ran(&output).text);
    }
    let definition = |set: &str, name: &str| {
        setting.environment.rows(set).into_iter().find(|row| row["LogicalName"] == name).unwrap()
    };
    setting.environment.change(
        "organizations",
        DataverseServer::ORGANIZATION_ID,
        json!({ "isreadauditenabled": false }),
    );
    let shown = setting.run(&["apply-policy"]);
    assert!(shown.code == 0 && shown.text.contains("account: auditing becomes on"), "{}", shown.text);
    assert!(shown.text.contains("organization: reading becomes on"), "{}", shown.text);
    assert_eq!(setting.writes(), Vec::<String>::new());
    assert_eq!(definition("EntityDefinitions", "account")["IsAuditEnabled"]["Value"], false);

    let one = setting.run(&["apply-policy", "--apply", "--tables", "account"]);
    assert!(one.code == 0 && one.text.contains("published"), "{}", one.text);
    let account = definition("EntityDefinitions", "account");
    assert_eq!((&account["IsAuditEnabled"]["Value"], &account["IsRetrieveAuditEnabled"]), (&json!(true), &json!(true)));
    let description = setting
        .environment
        .rows("Attributes")
        .into_iter()
        .find(|row| row["LogicalName"] == "description" && row["_entity"] == account["MetadataId"])
        .unwrap();
    assert_eq!(description["IsAuditEnabled"]["Value"], false);
    let organization = &setting.environment.rows("organizations")[0];
    assert_eq!(organization["isreadauditenabled"], false, "only the table was named");

    let all = setting.run(&["apply-policy", "--apply"]);
    assert_eq!(all.code, 0, "{}", all.text);
    assert_eq!(setting.environment.rows("organizations")[0]["isreadauditenabled"], true);
    let fixed = setting.run(&["apply-policy"]);
    assert!(
        fixed.text.contains("nothing to do") && fixed.text.contains("asyncoperation: can't be changed here"),
        "{}",
        fixed.text
    );

    // And back: what the environment has becomes the draft.
    let contact = id(&definition("EntityDefinitions", "contact"), "MetadataId");
    setting.environment.change(
        "EntityDefinitions",
        contact,
        json!({ "IsAuditEnabled": { "Value": true, "CanBeChanged": true } }),
    );
    let imported = setting.run(&["import-policy"]);
    assert!(imported.code == 0 && imported.text.contains("entities.contact.auditing"), "{}", imported.text);
    let draft = ran(&actlog(setting.folder.path(), &["policy", "show", "--draft"])).text;
    assert!(draft.contains("[entities.contact]"), "{draft}");
    let file = setting.run(&["import-policy", "--output", "imported.toml"]);
    assert_eq!(file.code, 0, "{}", file.text);
    let written = std::fs::read_to_string(setting.folder.path().join("imported.toml")).unwrap();
    assert_eq!(written.trim(), draft.trim());
    assert_eq!(setting.environment.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_changed_that_cannot_be_stated_and_errors_say_what_to_do() {
    let setting = Setting::new().await;
    // The journal can't be opened, so nothing can be stated.
    let in_the_way = setting.folder.path().join("actlog-data/journal");
    std::fs::create_dir(in_the_way.parent().unwrap()).unwrap();
    std::fs::write(&in_the_way, "").unwrap();
    let refused = setting.register(&["--apply"]);
    assert!(refused.code == 1 && refused.text.contains("can't be stated"), "{}", refused.text);
    assert_eq!(setting.writes(), Vec::<String>::new());
    std::fs::remove_file(&in_the_way).unwrap();

    std::fs::write(setting.folder.path().join("secret"), "wrong").unwrap();
    let wrong = setting.register(&[]);
    assert!(wrong.code == 1 && wrong.text.contains("AADSTS7000215"), "{}", wrong.text);
    let forbidden = ran(&actlog(setting.folder.path(), &["dataverse", "status"]));
    assert!(forbidden.code == 1 && forbidden.text.contains("allow_private"), "{}", forbidden.text);
    let unknown = setting.run(&["status", "--organization", "fabrikam"]);
    assert!(unknown.code == 1 && unknown.text.contains("contoso"), "{}", unknown.text);
    std::fs::write(setting.folder.path().join("webhook.key"), "short").unwrap();
    let weak = setting.register(&[]);
    assert!(weak.code == 1 && weak.text.contains("fewer than 16"), "{}", weak.text);
    let usage = setting.run(&["regsiter"]);
    assert!(usage.code == 2 && usage.text.contains("register"), "{}", usage.text);
}
