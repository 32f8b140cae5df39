//! Seeded audit records, for tests of sinks and of the archive.

use actlog_core::{AuditRecord, Field, Json, RECORD_TYPE_CRM, Timestamp, WORKLOAD_CRM};
use uuid::Uuid;

use crate::random::{Random, id_of};

/// Which stream of choices this is; the generator of traffic has others.
const PURPOSE: u64 = 1;
/// Monday, 2 March 2026, 07:00 UTC.
const FIRST: i64 = 1_772_434_800_000;

/// An endless series of audit records. The same seed gives the same records for ever.
#[derive(Clone, Debug)]
pub struct Records {
    seed: u64,
    next: u64,
    nasty: bool,
}

impl Records {
    /// Records as they come from a healthy organisation.
    pub fn new(seed: u64) -> Self {
        Self { seed, next: 0, nasty: false }
    }

    /// The same with values that break careless writers: line ends and other control characters, quotation marks,
    /// what a spreadsheet takes for a formula, several scripts, empty and absent values, and one in forty that is
    /// 64 KiB long.
    #[must_use]
    pub fn nasty(self) -> Self {
        Self { nasty: true, ..self }
    }

    /// The next record.
    pub fn next_record(&mut self) -> AuditRecord<'static> {
        let number = self.next;
        self.next += 1;
        let mut random = Random::new(self.seed, PURPOSE, number);
        let user = id_of(self.seed, PURPOSE, random.below(100));
        let entity = random.pick(&["account", "contact", "incident", "opportunity", "new_bankdetails"]);
        let (operation, category) = random.pick(&[
            ("Update", "Update"),
            ("Create", "Create"),
            ("Retrieve", "Read"),
            ("RetrieveMultiple", "ReadMultiple"),
            ("Delete", "Delete"),
            ("ExportToExcel", "Export"),
        ]);
        let elapsed = number * 700 + random.below(700);
        let mut record = AuditRecord {
            id: id_of(self.seed, PURPOSE + 1, number),
            record_type: RECORD_TYPE_CRM,
            version: 1,
            workload: WORKLOAD_CRM.into(),
            creation_time: Timestamp::from_unix_milliseconds(FIRST).plus_milliseconds(elapsed as i64),
            operation: operation.into(),
            message: Some(operation.into()),
            organization_id: Some(id_of(self.seed, PURPOSE + 2, 0)),
            crm_organization_unique_name: Some("contoso".into()),
            user_id: Some(user.to_string().into()),
            system_user_id: Some(user),
            result_status: Some("Success".into()),
            correlation_id: Some(random.uuid()),
            item_type: Some(entity.into()),
            entity_name: Some(entity.into()),
            user_agent: Some(self.text(&mut random, "Mozilla/5.0 (Windows NT 10.0; Win64; x64)").into()),
            category: Some(category.into()),
            ..AuditRecord::default()
        };
        match category {
            "Create" | "Update" => {
                record.entity_id = Some(random.uuid());
                for _ in 0..random.between(1, 8) {
                    let name = random.pick(&["name", "emailaddress1", "telephone1", "description", "new_iban"]);
                    let value = (!random.per_mille(50)).then(|| self.text(&mut random, "Contoso Ltd").into());
                    record.fields.push(Field { name: name.into(), value });
                }
            }
            "ReadMultiple" | "Export" => {
                let filter = r#"<filter type="and"><condition column="statecode" operator="eq" value="0" /></filter>"#;
                record.query = Some(self.text(&mut random, filter).into());
                let rows = random.below(50);
                record.query_results = (0..rows).map(|_| random.uuid()).collect();
            }
            _ => record.entity_id = Some(random.uuid()),
        }
        if self.nasty && random.per_mille(500) {
            record.extra.insert("Note", Json::from(self.text(&mut random, "")));
        }
        record
    }

    /// The given text, or a nasty one in its place.
    fn text(&self, random: &mut Random, plain: &str) -> String {
        const NASTY: [&str; 16] = [
            "two\nlines",
            "carriage\r\nreturn",
            "a \"quoted\" word",
            "comma, semicolon; tab\there",
            "=1+1",
            "+49 30 1234",
            "-5",
            "@SUM(A1:A9)",
            "\t=cmd",
            "",
            " ",
            "null\u{0}byte and \u{1b}[31mred\u{7f}",
            "Grüße, 漢字, שלום, 🦀",
            "line\u{2028}and\u{2029}paragraph\u{85}",
            "back\\slash 'single'",
            "\u{feff}mark \u{202e}reversed",
        ];
        match self.nasty {
            false => plain.to_owned(),
            true if random.per_mille(25) => "long ".repeat(64 * 1024 / 5),
            true => random.pick(&NASTY).to_owned(),
        }
    }

    /// The id of the record of that number, counted from 0, without making the record.
    pub fn id(&self, number: u64) -> Uuid {
        id_of(self.seed, PURPOSE + 1, number)
    }
}

impl Iterator for Records {
    type Item = AuditRecord<'static>;

    fn next(&mut self) -> Option<AuditRecord<'static>> {
        Some(self.next_record())
    }
}
