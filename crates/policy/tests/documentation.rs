//! The page about the policy says what the policy does.

#![allow(clippy::unwrap_used, reason = "tests end where something is not as expected")]

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use actlog_policy::{Activity, Category, Policy, PolicyDocument};
use common::KEY;

const PAGE: &str = include_str!("../../../docs/policy.md");

#[test]
fn every_example_of_a_policy_is_valid_and_gives_no_warning() {
    let examples: Vec<_> = PAGE.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() >= 5, "{}", examples.len());
    for example in examples {
        let policy = PolicyDocument::parse(example).and_then(|document| Policy::compile(&document, 1, Some(KEY)));
        assert_eq!(policy.unwrap().warnings(), Vec::<String>::new(), "{example}");
    }
}

#[test]
fn every_activity_and_every_message_that_is_not_logged_is_on_the_page() {
    for activity in [
        Activity::OutOfBoxEntity,
        Activity::CustomEntity,
        Activity::AdminEntity,
        Activity::BulkActions,
        Activity::OtherEntityType,
        Activity::AdminCenter,
        Activity::InternalManagementTool,
        Activity::SignedInOrOut,
        Activity::ProcessOrPlugIn,
    ] {
        assert!(PAGE.contains(activity.as_str()), "{}", activity.as_str());
    }
    for message in actlog_dataverse::tables::messages().iter().filter(|message| message.not_logged) {
        assert!(PAGE.contains(&format!("- {}\n", message.request)), "{}", message.request);
    }
}

#[test]
fn the_list_of_messages_by_category_is_that_of_the_message_table() {
    let mut by_category = BTreeMap::<_, Vec<_>>::new();
    for message in actlog_dataverse::tables::messages() {
        let category = Category::of(message.request, None);
        // What the prefix table places is not listed: the table says it shorter.
        let prefixes = ["Retrieve", "ExportToExcel", "Rollup", "ExecuteFetch", "Search", "Get", "Export"];
        if !prefixes.iter().any(|prefix| message.request.starts_with(prefix)) {
            by_category.entry(category.as_str()).or_default().push(message.request);
        }
    }
    let mut expected = String::new();
    for (category, messages) in by_category {
        writeln!(expected, "- **{category}**: {}", messages.join(", ")).unwrap();
    }
    let listed = PAGE.split_once("<!-- messages by category -->\n").unwrap().1;
    let listed = listed.split_once("<!-- end -->").unwrap().0;
    assert!(listed == expected, "the list in docs/policy.md should be\n{expected}");
}
