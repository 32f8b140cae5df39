//! What is kept and what is left out.
#![allow(clippy::unwrap_used, reason = "tests end where something is not as expected")]

mod common;

use actlog_core::{AuditRecord, WORKLOAD_ACTLOG};
use actlog_policy::{Policy, PolicyDocument};
use common::{applied, decide, policy, record};
use uuid::Uuid;

/// The specification's list.
const THE_25: [&str; 25] = [
    "WhoAmI",
    "RetrieveFilteredForms",
    "TriggerServiceEndpointCheck",
    "QueryExpressionToFetchXml",
    "FetchXmlToQueryExpression",
    "FireNotificationEvent",
    "RetrieveMetadataChanges",
    "RetrieveEntityChanges",
    "RetrieveProvisionedLanguagePackVersion",
    "RetrieveInstalledLanguagePackVersion",
    "RetrieveProvisionedLanguages",
    "RetrieveAvailableLanguages",
    "RetrieveDeprovisionedLanguages",
    "RetrieveInstalledLanguagePacks",
    "GetAllTimeZonesWithDisplayName",
    "GetTimeZoneCodeByLocalizedName",
    "IsReportingDataConnectorInstalled",
    "LocalTimeFromUtcTime",
    "IsBackOfficeInstalled",
    "FormatAddress",
    "IsSupportUserRole",
    "IsComponentCustomizable",
    "ConfigureReportingDataConnector",
    "CheckClientCompatibility",
    "RetrieveAttribute",
];

fn sign_in() -> AuditRecord<'static> {
    record("UserLoggedIn", "authentication")
}

#[test]
fn the_default_text_is_the_policy_of_an_empty_document() {
    let written = policy(PolicyDocument::DEFAULT_TEXT);
    let empty = policy("");
    assert!(written.warnings().is_empty());
    for (operation, entity) in [("Create", "account"), ("Retrieve", "new_x"), ("WhoAmI", ""), ("Win", "opportunity")] {
        assert_eq!(decide(&written, record(operation, entity)), decide(&empty, record(operation, entity)));
        let (mut by_written, mut by_empty) = (record(operation, entity), record(operation, entity));
        written.apply(&mut by_written);
        empty.apply(&mut by_empty);
        assert_eq!(by_written, by_empty);
    }
}

#[test]
fn the_default_policy_keeps_every_known_message_but_the_25() {
    let policy = policy("");
    for message in actlog_dataverse::tables::messages() {
        let expected = match THE_25.contains(&message.request) {
            true => format!("message:{}", message.request),
            false => "kept".to_owned(),
        };
        assert_eq!(decide(&policy, record(message.request, "account")), expected);
    }
}

#[test]
fn each_of_the_25_is_left_out_in_any_case_of_letters_and_as_pipeline_name() {
    let policy = policy("");
    for name in THE_25 {
        let label = format!("message:{name}");
        for spelling in [name.to_owned(), name.to_lowercase(), name.to_uppercase()] {
            assert_eq!(decide(&policy, record(&spelling, "")), label);
        }
        let by_pipeline_name = AuditRecord { operation: "Something".into(), ..record(name, "") };
        assert_eq!(decide(&policy, by_pipeline_name), label);
    }
    assert_eq!(decide(&policy, record("RetrieveAttributeX", "")), "kept");
}

#[test]
fn the_list_of_messages_can_be_extended_and_cut() {
    let policy = policy(
        "[messages]
         add = ['Win', 'contoso_Ping', 'RetrieveMultiple']
         remove = ['WhoAmI', 'RETRIEVEATTRIBUTE']",
    );
    let win = AuditRecord { operation: "WinOpportunity".into(), ..record("Win", "opportunity") };
    assert_eq!(decide(&policy, win), "message:Win");
    assert_eq!(decide(&policy, record("CONTOSO_PING", "")), "message:contoso_Ping");
    assert_eq!(decide(&policy, record("WhoAmI", "")), "kept");
    assert_eq!(decide(&policy, record("RetrieveAttribute", "")), "kept");
    assert_eq!(decide(&policy, record("FormatAddress", "")), "message:FormatAddress");
    // The rows of an export are that export's, not a list's.
    let rows = AuditRecord { operation: "ExportToExcel".into(), ..record("RetrieveMultiple", "account") };
    assert_eq!(decide(&policy, rows), "kept");
    assert_eq!(decide(&policy, record("RetrieveMultiple", "account")), "message:RetrieveMultiple");
}

#[test]
fn start_auditing_off_leaves_out_everything_but_the_log_of_access() {
    let policy = policy("start_auditing = false");
    assert_eq!(decide(&policy, record("Create", "account")), "start-auditing");
    assert_eq!(decide(&policy, record("PublishAllXml", "")), "start-auditing");
    assert_eq!(decide(&policy, sign_in()), "start-auditing");
    let own = AuditRecord { workload: WORKLOAD_ACTLOG.into(), ..record("WhoAmI", "account") };
    assert_eq!(applied(&policy, own).policy_version, Some(7));
}

#[test]
fn user_access_is_signing_in_and_out_of_any_product() {
    let policy = policy("audit_user_access = false\n[messages]\nremove = ['WhoAmI']");
    assert_eq!(decide(&policy, sign_in()), "user-access");
    assert_eq!(decide(&policy, record("WhoAmI", "")), "user-access");
    let entra = AuditRecord {
        record_type: 15,
        workload: "AzureActiveDirectory".into(),
        operation: "UserLoggedIn".into(),
        ..AuditRecord::default()
    };
    assert_eq!(decide(&policy, entra), "user-access");
    assert_eq!(decide(&policy, record("Create", "account")), "kept");
}

#[test]
fn start_read_auditing_off_leaves_out_reads_of_every_kind() {
    let policy = policy("start_read_auditing = false");
    for operation in
        ["Retrieve", "retrieve", "RetrieveMultiple", "Rollup", "Search", "GetQuantityDecimal", "ExportToExcel"]
    {
        assert_eq!(decide(&policy, record(operation, "account")), "read-auditing", "{operation}");
        assert_eq!(decide(&policy, record(operation, "")), "read-auditing", "{operation}");
    }
    let rows = AuditRecord { operation: "ExportToExcel".into(), ..record("RetrieveMultiple", "account") };
    assert_eq!(decide(&policy, rows), "read-auditing");
    for operation in ["Create", "Update", "Delete", "CancelContract"] {
        assert_eq!(decide(&policy, record(operation, "account")), "kept", "{operation}");
    }
}

#[test]
fn single_and_multiple_record_auditing_are_apart_and_by_entity() {
    let policy = policy(
        "[entities.account]
         single_record = false
         [entities.contact]
         multiple_record = false
         [entities.lead]
         auditing = false",
    );
    for (operation, entity, expected) in [
        ("Retrieve", "account", "single-record"),
        ("ExportToWord", "account", "single-record"),
        ("RetrieveMultiple", "account", "kept"),
        ("Update", "account", "kept"),
        ("Retrieve", "contact", "kept"),
        ("RetrieveMultiple", "contact", "multiple-record"),
        ("ExportToExcel", "contact", "multiple-record"),
        ("RollUp", "contact", "multiple-record"),
        ("Rollup", "Contact", "multiple-record"),
        ("Create", "contact", "kept"),
        ("Retrieve", "lead", "entity"),
        ("RetrieveMultiple", "lead", "entity"),
        ("QualifyLead", "lead", "entity"),
        ("Create", "opportunity", "kept"),
    ] {
        assert_eq!(decide(&policy, record(operation, entity)), expected, "{operation} of {entity}");
    }
}

#[test]
fn what_names_no_entity_is_not_subject_to_entity_switches() {
    let policy = policy("[all_entities]\nauditing = false\nsingle_record = false\nmultiple_record = false");
    assert_eq!(decide(&policy, record("Update", "account")), "entity");
    for entity in ["", "none", "Unknown"] {
        for operation in ["Retrieve", "RetrieveMultiple", "PublishAllXml"] {
            assert_eq!(decide(&policy, record(operation, entity)), "kept", "{operation} of {entity:?}");
        }
    }
}

#[test]
fn an_entity_follows_its_own_switch_then_its_area_then_the_default() {
    let policy = policy(
        "[areas]
         common = false
         sales = true
         [all_entities]
         auditing = false
         [entities.account]
         auditing = true
         [entities.quote]
         auditing = false
         [entities.contact]
         single_record = false",
    );
    for (entity, expected) in [
        ("account", "kept"),
        ("contact", "entity"),
        ("systemuser", "entity"),
        ("opportunity", "kept"),
        ("quote", "entity"),
        ("campaign", "entity"),
        ("new_thing", "entity"),
    ] {
        assert_eq!(decide(&policy, record("Update", entity)), expected, "{entity}");
    }
}

#[test]
fn each_area_switches_its_own_group() {
    for (area, inside, outside) in [
        ("common", "activitypointer", "opportunity"),
        ("sales", "leadtoopportunitysalesprocess", "account"),
        ("marketing", "campaign", "campaignresponse"),
        ("customer-service", "incident", "contact"),
        ("security", "businessunit", "role"),
    ] {
        let policy = policy(&format!("areas.{area} = false"));
        assert_eq!(decide(&policy, record("Create", inside)), "entity", "{inside} is in {area}");
        assert_eq!(decide(&policy, record("Create", outside)), "kept", "{outside} is not in {area}");
    }
}

#[test]
fn other_products_are_not_subject_to_the_switches_of_entities_and_reading() {
    let policy =
        policy("start_read_auditing = false\n[all_entities]\nauditing = false\n[messages]\nadd = ['FileAccessed']");
    let of_exchange = |operation: &'static str| AuditRecord {
        record_type: 50,
        workload: "Exchange".into(),
        operation: operation.into(),
        entity_name: Some("account".into()),
        ..AuditRecord::default()
    };
    let kept = applied(&policy, of_exchange("RetrieveSomething"));
    assert_eq!((kept.category, kept.activity, kept.policy_version), (None, None, Some(7)));
    let own = AuditRecord { category: Some("Delete".into()), ..of_exchange("HardDelete") };
    assert_eq!(applied(&policy, own).category.as_deref(), Some("Delete"), "its source's");
    assert_eq!(decide(&policy, of_exchange("FileAccessed")), "message:FileAccessed");
}

#[test]
fn an_organisation_overrides_key_by_key_by_unique_name_or_id() {
    let id = Uuid::from_u128(0x0a0d8709_711e_e811_a952_000d3a732d76);
    let policy = policy(&format!(
        "audit_user_access = false
         areas.marketing = false
         [entities.account]
         single_record = false
         unaudited_columns = ['fax']
         [messages]
         add = ['Assign']
         [organizations.Contoso]
         start_read_auditing = false
         areas.marketing = true
         [organizations.Contoso.entities.account]
         single_record = true
         multiple_record = false
         [organizations.Contoso.messages]
         add = ['WinOpportunity']
         remove = ['Assign', 'TriggerServiceEndpointCheck']
         [organizations.{id}]
         start_auditing = false"
    ));
    let at = |name: Option<&'static str>, organization_id: Option<Uuid>, operation: &str, entity: &str| {
        let organization = AuditRecord {
            crm_organization_unique_name: name.map(Into::into),
            organization_id,
            ..record(operation, entity)
        };
        decide(&policy, organization)
    };
    let contoso = |operation: &str, entity: &str| at(Some("CONTOSO"), None, operation, entity);
    let other = |operation: &str, entity: &str| at(Some("fabrikam"), Some(Uuid::from_u128(1)), operation, entity);
    assert_eq!(contoso("Retrieve", "account"), "read-auditing");
    assert_eq!(contoso("UserLoggedIn", "authentication"), "user-access");
    assert_eq!(contoso("Create", "campaign"), "kept");
    assert_eq!(contoso("Assign", "account"), "kept");
    assert_eq!(contoso("TriggerServiceEndpointCheck", ""), "kept");
    assert_eq!(contoso("WinOpportunity", "opportunity"), "message:WinOpportunity");
    assert_eq!(other("Retrieve", "account"), "single-record");
    assert_eq!(other("RetrieveMultiple", "account"), "kept");
    assert_eq!(other("Create", "campaign"), "entity");
    assert_eq!(other("Assign", "account"), "message:Assign");
    assert_eq!(at(Some("contoso"), Some(id), "Create", "account"), "start-auditing");
    assert_eq!(at(None, None, "Assign", "account"), "message:Assign");
}

#[test]
fn rules_recognise_users_and_tools_by_every_criterion() {
    let user = Uuid::from_u128(5);
    let policy = policy(&format!(
        "[[rules]]
         name = 'support'
         action = 'support-user'
         user_upns = ['*@support.example.com']
         [[rules]]
         name = 'sync'
         action = 'internal-tool'
         system_user_ids = ['{user}']
         user_agents = ['*(DataverseSvcClient:*']
         [[rules]]
         name = 'center'
         action = 'admin-center'
         service_names = ['bap']
         [[rules]]
         name = 'robot'
         action = 'exclude'
         app_names = ['robot-?']"
    ));
    let by_upn = AuditRecord { user_id: Some("Ann@Support.Example.com".into()), ..record("Update", "account") };
    let by_upn = applied(&policy, by_upn);
    assert_eq!((by_upn.user_type, by_upn.activity.as_deref()), (Some(3), Some("Accessed out-of-box entity")));

    let agent = "sync/1.0.(DataverseSvcClient:1.1.0.11)";
    let tool = |user_agent: &'static str, initiating_user_id| AuditRecord {
        user_agent: Some(user_agent.into()),
        initiating_user_id,
        ..record("Update", "account")
    };
    let activity = |record| applied(&policy, record).activity.unwrap().into_owned();
    assert_eq!(activity(tool(agent, Some(user))), "Accessed internal management tool");
    assert_eq!(activity(tool(agent, None)), "Accessed out-of-box entity");
    assert_eq!(activity(tool("Mozilla/5.0", Some(user))), "Accessed out-of-box entity");

    let center = AuditRecord { service_name: Some("BAP".into()), ..record("Update", "account") };
    assert_eq!(activity(center), "Accessed Dynamics 365 admin center");
    let robot = |name: &'static str| AuditRecord { app_name: Some(name.into()), ..record("Update", "account") };
    assert_eq!(decide(&policy, robot("Robot-7")), "rule:robot");
    assert_eq!(decide(&policy, robot("Robot-77")), "kept");
}

#[test]
fn an_organisation_replaces_a_rule_by_its_name_and_adds_others() {
    let rule =
        |name: &str, action: &str, app: &str| format!("name = '{name}'\naction = '{action}'\napp_names = ['{app}']\n");
    let policy = policy(&format!(
        "[[rules]]\n{}[[rules]]\n{}[[organizations.contoso.rules]]\n{}",
        rule("a", "exclude", "one"),
        rule("b", "exclude", "two"),
        rule("a", "exclude", "three"),
    ));
    let at = |organization: &'static str, app: &'static str| {
        let record = AuditRecord {
            crm_organization_unique_name: Some(organization.into()),
            app_name: Some(app.into()),
            ..record("Update", "account")
        };
        decide(&policy, record)
    };
    assert_eq!([at("contoso", "one"), at("contoso", "two"), at("contoso", "three")], ["kept", "rule:b", "rule:a"]);
    assert_eq!([at("other", "one"), at("other", "two"), at("other", "three")], ["rule:a", "rule:b", "kept"]);
}

#[test]
fn unaudited_columns_are_not_in_fields() {
    let policy = policy(
        "[all_entities]
         unaudited_columns = ['modifiedon']
         [entities.account]
         unaudited_columns = ['fax']",
    );
    let columns = |entity: &str| {
        let mut record = record("Update", entity);
        record.fields = ["name", "Fax", "modifiedon"].map(|name| actlog_core::Field::new(name, "1")).to_vec();
        applied(&policy, record).fields.into_iter().map(|field| field.name.into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(columns("account"), ["name"]);
    assert_eq!(columns("contact"), ["name", "Fax"]);
    assert_eq!(columns(""), ["name", "Fax"]);
}

#[test]
fn errors_name_the_key_and_what_is_allowed() {
    let error = |text: &str| match PolicyDocument::parse(text).and_then(|document| Policy::compile(&document, 1, None))
    {
        Ok(_) => panic!("{text} was accepted"),
        Err(error) => error.to_string(),
    };
    for (text, parts) in [
        ("start_auditing = 'yes'", vec!["`start_auditing`", "boolean", "line 1"]),
        ("start_audting = true", vec!["start_audting", "start_auditing"]),
        ("[entities.account]\nsingle = true", vec!["`entities.account", "single_record", "line 2"]),
        ("[entities.account]\nvalues = 'drop'", vec!["`entities.account.values`", "keep", "hash", "omit"]),
        ("[organizations.c.entities.a]\nvalues = 1", vec!["`organizations.c.entities.a.values`"]),
        ("x = [", vec!["line 1"]),
        ("[entities.Account]\nauditing = true", vec!["`entities.Account`", "lower-case"]),
        ("[entities.a]\nunaudited_columns = ['A B']", vec!["`entities.a.unaudited_columns`", "A B"]),
        ("[entities.a.columns]\nFax = 'omit'", vec!["`entities.a.columns.Fax`"]),
        ("[entities.a]\nvalues = 'hash'", vec!["`entities.a.values`", "hash key", "omit"]),
        ("[organizations.c.all_entities.columns]\nfax = 'hash'", vec!["`organizations.c.all_entities.columns.fax`"]),
        ("[organizations.a.organizations.b]", vec!["`organizations.a.organizations`"]),
        ("[organizations.A]\n[organizations.a]", vec!["`organizations.a`", "once"]),
        ("messages.add = ['']", vec!["`messages`"]),
        ("[[rules]]\nname = 'x'\naction = 'exclude'", vec!["`rules[0]`", "user_upns"]),
        ("[[rules]]\nname = 'X y'\naction = 'exclude'\napp_names = ['a']", vec!["`rules[0].name`"]),
        (
            "[[rules]]\nname = 'x'\naction = 'drop'\napp_names = ['a']",
            vec!["`rules[0].action`", "support-user", "exclude"],
        ),
        ("[[rules]]\nname = 'x'\naction = 'exclude'\napp_names = ['[']", vec!["`rules[0].app_names`"]),
    ] {
        let error = error(text);
        assert!(parts.iter().all(|part| error.contains(part)), "{text}\n gave {error}\n without one of {parts:?}");
    }
    let twice = "[[rules]]\nname = 'x'\naction = 'exclude'\napp_names = ['a']\n".repeat(2);
    assert!(error(&twice).contains("rule:x"));
    assert!(error(&format!("# {}", "x".repeat(PolicyDocument::MAX_BYTES))).contains("1048576"));
    let entities: String = (0..2000).map(|number| format!("[entities.e{number}]\n")).collect();
    let columns: String = (0..2000).map(|number| format!("c{number} = 'omit'\n")).collect();
    let organizations: String = (0..5000).map(|number| format!("[organizations.o{number}]\n")).collect();
    assert!(Policy::compile(&PolicyDocument::parse(&organizations).unwrap(), 1, None).is_ok());
    assert!(error(&format!("{entities}{organizations}")).contains("more than 1000000"));
    assert!(error(&format!("{entities}[all_entities.columns]\n{columns}")).contains("more than 1000000"));
    let short = Policy::compile(&PolicyDocument::default(), 1, Some(b"short")).unwrap_err();
    assert!(short.to_string().contains("at least 16"), "{short}");
}

#[test]
fn unknown_names_are_legal_and_warned_of_with_the_nearest_known_one() {
    let policy = policy(
        "[entities.acount]
         auditing = false
         [entities.new_anything]
         auditing = false
         [messages]
         add = ['RetreiveMultiple', 'contoso_Ping', 'Assign']
         remove = ['WhoAmi', 'WhoIAm']
         [organizations.contoso.entities.zzzzzzzz]
         auditing = false",
    );
    let warnings = policy.warnings();
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    assert!(warnings[0].contains("entities.acount") && warnings[0].ends_with("did you mean account?"), "{warnings:?}");
    assert!(warnings[1].contains("RetreiveMultiple") && warnings[1].ends_with("did you mean RetrieveMultiple?"));
    assert!(warnings[2].contains("WhoIAm") && warnings[2].ends_with("did you mean WhoAmI?"));
    assert!(warnings[3].contains("organizations.contoso.entities.zzzzzzzz") && !warnings[3].contains("mean"));
}

#[test]
fn the_json_schema_describes_every_key() {
    let schema = schemars::schema_for!(PolicyDocument);
    let definitions = schema.get("$defs").unwrap().as_object().unwrap().values();
    let objects = definitions.chain([schema.as_value()]).filter_map(|schema| schema.get("properties")?.as_object());
    let mut keys = 0;
    for (key, property) in objects.flatten() {
        assert!(property.get("description").is_some_and(|text| !text.as_str().unwrap().is_empty()), "{key}");
        keys += 1;
    }
    assert!(keys >= 30, "{keys}");
}
