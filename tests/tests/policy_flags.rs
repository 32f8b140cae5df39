//! Audit flags of Dataverse and the policy, from the command line: files of solutions, and a live environment.

#![expect(clippy::unwrap_used, reason = "whatever is missing fails the test")]

use std::path::Path;
use std::process::{Command, Output};

use actlog_testkit::dataverse_server::DataverseServer;
use actlog_testkit::process::binary;
use actlog_testkit::{fixtures, skip};
use serde_json::Value;

const CONTACT: &str = r#"<ImportExportXml OrganizationVersion="9.2"><Entities><Entity><EntityInfo><entity Name="Contact"><attributes>
    <attribute PhysicalName="Fax"><IsAuditEnabled>0</IsAuditEnabled></attribute></attributes><IsAuditEnabled>1</IsAuditEnabled>
    <IsRetrieveAuditEnabled>1</IsRetrieveAuditEnabled><IsRetrieveMultipleAuditEnabled>0</IsRetrieveMultipleAuditEnabled>
    </entity></EntityInfo></Entity></Entities></ImportExportXml>"#;

fn actlog(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).current_dir(folder).output().unwrap()
}

fn succeed(folder: &Path, arguments: &[&str]) -> String {
    let output = actlog(folder, arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn fail(folder: &Path, arguments: &[&str]) -> String {
    let output = actlog(folder, arguments);
    assert!(!output.status.success(), "{arguments:?} succeeds");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn flags_of_a_file_come_into_the_draft_beside_what_it_says_already() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("customizations.xml"), CONTACT).unwrap();
    std::fs::write(folder.join("own.toml"), "[messages]\nadd = [\"RetrieveUserPrivileges\"]\n").unwrap();
    succeed(folder, &["policy", "draft", "own.toml"]);

    let dry = succeed(folder, &["policy", "import", "customizations.xml", "--dry-run"]);
    assert!(dry.contains("entities.contact.multiple_record: (not set) -> false") && dry.contains("dry run"), "{dry}");
    assert!(!succeed(folder, &["policy", "show", "--draft"]).contains("contact"));

    succeed(folder, &["policy", "import", "customizations.xml"]);
    let draft = succeed(folder, &["policy", "show", "--draft"]);
    assert!(draft.contains("RetrieveUserPrivileges") && draft.contains("unaudited_columns = [\"fax\"]"), "{draft}");
    assert!(succeed(folder, &["policy", "import", "customizations.xml"]).contains("nothing changes"));
    let other = ["policy", "import", "customizations.xml", "--organization", "fabrikam"];
    assert!(succeed(folder, &other).contains("organizations.fabrikam.entities.contact.multiple_record"));

    let table = succeed(folder, &["policy", "diff", "--file", "customizations.xml"]);
    let words: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["flag", "published", "draft", "file"]);
    assert!(words.contains(&vec!["contact:", "multiple", "record", "on", "off", "off"]), "{table}");
    assert!(table.ends_with("2 of 4 flags differ\n"), "{table}");
    let json = succeed(folder, &["policy", "diff", "--file", "customizations.xml", "--format", "json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["Compared"], json["Differing"].as_array().unwrap().len()), (&Value::from(4), 2));
    assert_eq!(json["Differing"][1]["Flag"], "contact.fax: auditing");
    assert_eq!(
        (&json["Differing"][1]["Published"], &json["Differing"][1]["File"]),
        (&Value::Bool(true), &Value::Bool(false))
    );
    let changes: Value = serde_json::from_str(&succeed(folder, &["policy", "diff", "--format", "json"])).unwrap();
    assert!(changes.as_array().unwrap().iter().any(|change| change.as_str().unwrap().starts_with("messages.add")));
}

#[test]
fn a_hostile_file_is_refused_and_the_draft_stays() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let bomb = format!("<!DOCTYPE x [<!ENTITY a \"aaaa\">]>{CONTACT}");
    std::fs::write(folder.join("bomb.xml"), bomb).unwrap();
    std::fs::write(folder.join("cut.zip"), b"PK\x03\x04 and no more").unwrap();
    for (file, reason) in [
        ("bomb.xml", "document type"),
        ("cut.zip", "the solution file is refused"),
        ("missing.zip", "missing.zip: No such file"),
        (".", "no file"),
    ] {
        for command in [&["policy", "import", file][..], &["policy", "diff", "--file", file]] {
            let error = fail(folder, command);
            assert!(error.contains(reason) && error.contains(file), "{command:?}: {error}");
        }
    }
    assert!(fail(folder, &["policy", "show", "--draft"]).contains("no draft"));
}

#[test]
fn a_captured_solution_before_version_9_is_imported_and_says_what_is_unknown() {
    let Some(shared) = fixtures::shared() else {
        skip!("there are no captured solutions");
    };
    let file = shared.join("fixtures/dataverse/customizations/UpsertSample_1_0_0_0_managed.zip");
    let folder = tempfile::tempdir().unwrap();
    let printed = succeed(folder.path(), &["policy", "import", file.to_str().unwrap()]);
    for expected in [
        "warning: the file names no OrganizationVersion",
        "single record auditing is unknown, so it is audited",
        "entities.sample_product.auditing: (not set) -> false",
    ] {
        assert!(printed.contains(expected), "{expected}: {printed}");
    }
    let draft = succeed(folder.path(), &["policy", "show", "--draft"]);
    let draft: toml::Table = draft.parse().unwrap();
    let entity = &draft["entities"]["sample_product"];
    assert_eq!(entity["auditing"].as_bool(), Some(false));
    assert!(entity.get("single_record").is_none() && entity.get("multiple_record").is_none(), "{entity}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_environment_is_compared_with_what_is_published_drafted_and_in_a_file() {
    let server = DataverseServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("actlog.toml"), server.organization("contoso")).unwrap();
    std::fs::write(folder.join("secret"), DataverseServer::SECRET).unwrap();
    std::fs::write(folder.join("customizations.xml"), CONTACT).unwrap();
    // Of the published version, what the policy says of this organisation is compared.
    std::fs::write(folder.join("new.toml"), "[organizations.contoso]\nstart_read_auditing = false\n").unwrap();
    succeed(folder, &["policy", "draft", "new.toml"]);
    let diff = |arguments: &[&str]| {
        let arguments = [&["policy", "diff", "--live", "--allow-private", "--format", "json"], arguments].concat();
        serde_json::from_str::<Value>(&succeed(folder, &arguments)).unwrap()
    };
    let live = diff(&[]);
    let organization = server.rows("organizations").remove(0);
    let reading =
        live["Differing"].as_array().unwrap().iter().find(|row| row["Flag"] == "organization: reading").unwrap();
    assert_eq!((&reading["Published"], &reading["Draft"]), (&Value::Bool(true), &Value::Bool(false)));
    assert_eq!(reading["Live"], organization["isreadauditenabled"]);
    assert!(live["Compared"].as_u64().unwrap() > 3, "{live}");

    let both = diff(&["--file", "customizations.xml"]);
    let fax = both["Differing"].as_array().unwrap().iter().find(|row| row["Flag"] == "contact.fax: auditing");
    assert_eq!(fax.unwrap()["File"], false);
    assert_eq!(server.violations(), Vec::<String>::new());

    let refused = fail(folder, &["policy", "diff", "--live"]);
    assert!(refused.contains("private"), "{refused}");
    let unknown = fail(folder, &["policy", "diff", "--live", "fabrikam", "--allow-private"]);
    assert!(unknown.contains("fabrikam") && unknown.contains("contoso"), "{unknown}");
    server.entra().change_secret("another secret");
    let denied = fail(folder, &["policy", "diff", "--live", "--allow-private"]);
    assert!(denied.contains("secret") && !denied.contains(DataverseServer::SECRET), "{denied}");
}
