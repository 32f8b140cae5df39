//! The page that says what captures each row of the specification, and which test shows it.
//!
//! The rows are the specification's; they stand here as facts, so that none can be lost from the page unnoticed.

/// The page.
pub(crate) const PAGE: &str = "docs/coverage.md";

/// A table of the specification: its heading, and the names of its rows.
struct Required {
    heading: &'static str,
    rows: &'static [&'static str],
}

const REQUIRED: [Required; 5] = [
    Required {
        heading: "Admin-related events",
        rows: &[
            "Publishing customizations",
            "Attribute deletes",
            "Team, user management",
            "Configure instance",
            "Backup and restore",
            "Manage applications",
        ],
    },
    Required {
        heading: "User and support-related events",
        rows: &[
            "Create, read, update, delete (CRUD)",
            "Multiple record view",
            "Export to Excel",
            "SDK calls via surround or custom apps",
            "All support CRUD activities",
            "Admin activities",
            "Backend commands",
            "Report Viewed",
            "Report Viewer Export",
            "Report Viewer Render Image",
        ],
    },
    Required {
        heading: "Microsoft Social Engagement logging",
        rows: &[
            "Search Topic Category",
            "Search Topic",
            "Custom Source",
            "Blocked Keyword",
            "Blocked Domain",
            "Stream",
            "Post (acquired)",
            "Post (published)",
            "Author",
            "Activity Map",
            "Alert",
            "Preference",
            "Social Profile",
            "User",
            "Azure Event Hubs",
            "Dynamics 365",
            "Allowed Domain",
            "Automation Rule",
            "AR Notification",
            "Tag",
            "Label",
            "Search Language",
            "Adaptive Sentiment",
            "Other Global Settings",
        ],
    },
    Required {
        heading: "Base schema",
        rows: &[
            "Date",
            "IP address",
            "Id",
            "Result Status",
            "Organization Id",
            "ClientIP",
            "CorrelationId",
            "CreationTime",
            "Operation",
            "UserKey",
            "UserType",
            "User",
        ],
    },
    Required {
        heading: "Dynamics 365 schema",
        rows: &[
            "User Id",
            "Crm Organization Unique Name",
            "Instance Url",
            "Item Url",
            "Item Type",
            "Message",
            "User Agent",
            "EntityId",
            "EntityName",
            "Fields",
            "Id",
            "Query",
            "QueryResults",
            "ServiceContextId",
            "ServiceContextIdType",
            "ServiceName",
            "SystemUserId",
            "UserAgent",
            "UserId",
            "UserUpn",
        ],
    },
];

/// Rows that the page lacks, rows without a test, and tests that are not in the tree. `file` gives a file's text.
pub(crate) fn check<'a>(page: &str, file: impl Fn(&str) -> Option<&'a str>) -> Vec<String> {
    let mut findings = Vec::new();
    for Required { heading, rows } in &REQUIRED {
        let table = table(page, heading);
        for wanted in *rows {
            let found: Vec<_> = table.iter().filter(|cells| cells.first() == Some(wanted)).collect();
            let [cells] = found[..] else {
                findings.push(format!("{PAGE}: {heading:?} has {} rows for {wanted:?}, not 1", found.len()));
                continue;
            };
            if cells.iter().any(|cell| cell.is_empty()) {
                findings.push(format!("{PAGE}: {heading:?}, {wanted:?}: a cell is empty"));
            }
            let tests: Vec<_> = cells.last().map_or("", |cell| cell).split('`').skip(1).step_by(2).collect();
            if tests.is_empty() {
                findings.push(format!("{PAGE}: {heading:?}, {wanted:?}: the last cell names no test, `FILE::NAME`"));
            }
            for test in tests.iter().filter(|test| !exists(test, &file)) {
                findings.push(format!("{PAGE}: {heading:?}, {wanted:?}: there is no test {test}"));
            }
        }
    }
    findings
}

/// The cells of the rows behind a heading, up to the next one.
fn table<'a>(page: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let lines =
        page.lines().skip_while(|line| line.trim_start_matches('#').trim() != heading || !line.starts_with('#'));
    let lines = lines.skip(1).take_while(|line| !line.starts_with('#'));
    let rows = lines.filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    rows.map(|row| row.split('|').map(str::trim).collect()).collect()
}

/// Whether `FILE::NAME` is a function that is marked as a test.
fn exists<'a>(test: &str, file: impl Fn(&str) -> Option<&'a str>) -> bool {
    let Some((path, name)) = test.split_once("::") else { return false };
    let Some(text) = file(path) else { return false };
    let function = format!("fn {name}(");
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    lines.iter().enumerate().any(|(place, line)| {
        let above = lines[..place].iter().rev().take_while(|line| line.starts_with('#'));
        line.contains(&function) && above.into_iter().any(|line| line.contains("test"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TESTS: &str = "#[test]\nfn it_works() {}\n#[tokio::test(flavor = \"multi_thread\")]\n#[ignore]\nasync fn so_does_this() {}\nfn helper() {}\n";

    fn file(path: &str) -> Option<&'static str> {
        (path == "tests/tests/a.rs").then_some(TESTS)
    }

    /// A page that has every row, each with this test.
    fn page(test: &str) -> String {
        let tables = REQUIRED.iter().map(|Required { heading, rows }| {
            let rows: String = rows.iter().map(|row| format!("| {row} | `crm` | {test} |\n")).collect();
            format!("## {heading}\n\n| Row | Source | Test |\n|---|---|---|\n{rows}\n")
        });
        tables.collect()
    }

    #[test]
    fn a_page_with_every_row_and_tests_that_exist_is_good() {
        assert_eq!(check(&page("`tests/tests/a.rs::it_works`, `tests/tests/a.rs::so_does_this`"), file), [""; 0]);
    }

    #[test]
    fn rows_that_are_missing_or_have_no_test_are_found() {
        let good = page("`tests/tests/a.rs::it_works`");
        let row = "| Backup and restore | `crm` | `tests/tests/a.rs::it_works` |\n";
        for (page, finding) in [
            (good.replace(row, ""), "has 0 rows for \"Backup and restore\""),
            (good.replace(row, &row.repeat(2)), "has 2 rows for \"Backup and restore\""),
            (good.replace(row, "| Backup and restore | `crm` | none |\n"), "names no test"),
            (good.replace(row, "| Backup and restore | | `tests/tests/a.rs::it_works` |\n"), "a cell is empty"),
        ] {
            let findings = check(&page, file);
            assert!(findings.len() == 1 && findings[0].contains(finding), "{finding}: {findings:?}");
        }
        assert_eq!(check("", file).len(), 72, "the specification's rows");
    }

    #[test]
    fn tests_that_are_not_in_the_tree_are_found() {
        for test in ["tests/tests/b.rs::it_works", "tests/tests/a.rs::it_work", "tests/tests/a.rs::helper", "it_works"]
        {
            let findings = check(&page(&format!("`{test}`")), file);
            assert_eq!(findings.len(), 72, "{test}");
            assert!(findings[0].ends_with(&format!("there is no test {test}")), "{findings:?}");
        }
    }
}
