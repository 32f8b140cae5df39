//! The organisation that the generated traffic is of: its tables, its rows, its vocabulary.

use crate::random::Random;

use super::wire::Wire;

/// What a column holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Company,
    Person,
    FirstName,
    LastName,
    Sentence,
    Memo,
    Email,
    Telephone,
    Url,
    City,
    Street,
    PostalCode,
    Iban,
    Choice(u64),
    Flag,
    Money,
    Number,
    Decimal,
    Date,
    Lookup(&'static str),
}

/// A table.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) key: &'static str,
    /// Column that a row is known by.
    pub(super) primary: (&'static str, Kind),
    pub(super) columns: &'static [(&'static str, Kind)],
    /// How often it is used, beside the others.
    pub(super) weight: u64,
}

use Kind::{
    Choice, City, Company, Date, Decimal, Email, FirstName, Flag, Iban, LastName, Lookup, Memo, Money, Number, Person,
    PostalCode, Sentence, Street, Telephone, Url,
};

const COMPANY_COLUMNS: &[(&str, Kind)] = &[
    ("telephone1", Telephone),
    ("emailaddress1", Email),
    ("websiteurl", Url),
    ("revenue", Money),
    ("numberofemployees", Number),
    ("industrycode", Choice(33)),
    ("primarycontactid", Lookup("contact")),
    ("address1_line1", Street),
    ("address1_city", City),
    ("address1_postalcode", PostalCode),
    ("customertypecode", Choice(12)),
    ("creditonhold", Flag),
    ("new_risk", Decimal),
    ("new_lastreview", Date),
    ("description", Memo),
];
const PERSON_COLUMNS: &[(&str, Kind)] = &[
    ("firstname", FirstName),
    ("lastname", LastName),
    ("emailaddress1", Email),
    ("mobilephone", Telephone),
    ("jobtitle", Sentence),
    ("parentcustomerid", Lookup("account")),
    ("birthdate", Date),
    ("gendercode", Choice(2)),
    ("address1_line1", Street),
    ("address1_city", City),
    ("address1_postalcode", PostalCode),
    ("donotbulkemail", Flag),
    ("preferredcontactmethodcode", Choice(5)),
    ("creditlimit", Money),
    ("description", Memo),
];
const DEAL_COLUMNS: &[(&str, Kind)] = &[
    ("customerid", Lookup("account")),
    ("estimatedvalue", Money),
    ("estimatedclosedate", Date),
    ("closeprobability", Number),
    ("opportunityratingcode", Choice(3)),
    ("stepname", Sentence),
    ("currentsituation", Memo),
    ("proposedsolution", Memo),
];
const CASE_COLUMNS: &[(&str, Kind)] = &[
    ("ticketnumber", PostalCode),
    ("customerid", Lookup("contact")),
    ("prioritycode", Choice(3)),
    ("caseorigincode", Choice(3)),
    ("followupby", Date),
    ("isescalated", Flag),
    ("description", Memo),
];
const ACTIVITY_COLUMNS: &[(&str, Kind)] = &[
    ("regardingobjectid", Lookup("account")),
    ("scheduledend", Date),
    ("prioritycode", Choice(3)),
    ("isworkflowcreated", Flag),
    ("actualdurationminutes", Number),
    ("description", Memo),
];
const BANK_COLUMNS: &[(&str, Kind)] = &[
    ("new_accountid", Lookup("account")),
    ("new_iban", Iban),
    ("new_holder", Person),
    ("new_limit", Money),
    ("new_verified", Flag),
    ("new_verifiedon", Date),
    ("new_remarks", Memo),
];

pub(super) const TABLES: [Table; 12] = [
    Table { name: "account", key: "accountid", primary: ("name", Company), columns: COMPANY_COLUMNS, weight: 28 },
    Table { name: "contact", key: "contactid", primary: ("fullname", Person), columns: PERSON_COLUMNS, weight: 24 },
    Table { name: "opportunity", key: "opportunityid", primary: ("name", Sentence), columns: DEAL_COLUMNS, weight: 11 },
    Table { name: "incident", key: "incidentid", primary: ("title", Sentence), columns: CASE_COLUMNS, weight: 10 },
    Table { name: "lead", key: "leadid", primary: ("fullname", Person), columns: PERSON_COLUMNS, weight: 7 },
    Table { name: "email", key: "activityid", primary: ("subject", Sentence), columns: ACTIVITY_COLUMNS, weight: 6 },
    Table { name: "task", key: "activityid", primary: ("subject", Sentence), columns: ACTIVITY_COLUMNS, weight: 5 },
    Table {
        name: "phonecall",
        key: "activityid",
        primary: ("subject", Sentence),
        columns: ACTIVITY_COLUMNS,
        weight: 3,
    },
    Table {
        name: "new_bankdetails",
        key: "new_bankdetailsid",
        primary: ("new_name", Person),
        columns: BANK_COLUMNS,
        weight: 3,
    },
    Table {
        name: "new_contract",
        key: "new_contractid",
        primary: ("new_name", Company),
        columns: DEAL_COLUMNS,
        weight: 2,
    },
    Table {
        name: "new_inspection",
        key: "new_inspectionid",
        primary: ("new_name", Sentence),
        columns: CASE_COLUMNS,
        weight: 1,
    },
    Table { name: "list", key: "listid", primary: ("listname", Sentence), columns: ACTIVITY_COLUMNS, weight: 1 },
];

/// A table, the common ones more often.
pub(super) fn any_table(random: &mut Random) -> &'static Table {
    let total = TABLES.iter().map(|table| table.weight).sum();
    let mut drawn = random.below(total);
    for table in &TABLES {
        match drawn.checked_sub(table.weight) {
            Some(rest) => drawn = rest,
            None => return table,
        }
    }
    &TABLES[0]
}

const FIRST_NAMES: [&str; 20] = [
    "Anna", "Lukas", "Mia", "José", "Zoë", "Ahmed", "Yuki", "Olga", "Peter", "Siân", "Kim", "Noah", "Lea", "Björn",
    "Aylin", "李", "Иван", "Marta", "Chloé", "Tom",
];
const LAST_NAMES: [&str; 20] = [
    "Müller",
    "Smith",
    "García",
    "Novák",
    "Yılmaz",
    "Jensen",
    "Rossi",
    "O'Brien",
    "Kowalski",
    "Glynn",
    "Weiß",
    "Dubois",
    "Tanaka",
    "Петров",
    "Nielsen",
    "Schröder",
    "Lopez",
    "Brown",
    "Virtanen",
    "王",
];
const COMPANIES: [&str; 20] = [
    "Adventure Works",
    "Contoso",
    "Fabrikam",
    "Northwind Traders",
    "Litware",
    "Tailspin Toys",
    "Wingtip Toys",
    "Proseware",
    "Blue Yonder Airlines",
    "Alpine Ski House",
    "Coho Winery",
    "Fourth Coffee",
    "Graphic Design Institute",
    "Humongous Insurance",
    "Lucerne Publishing",
    "Margie's Travel",
    "Relecloud",
    "Trey Research",
    "VanArsdel",
    "Woodgrove Bank",
];
const SUFFIXES: [&str; 8] = ["GmbH", "Ltd", "AG", "Inc.", "S.A.", "GmbH & Co. KG", "(sample)", "d.o.o."];
const CITIES: [&str; 12] = [
    "München",
    "Redmond",
    "Łódź",
    "København",
    "Zürich",
    "São Paulo",
    "London",
    "Praha",
    "Wien",
    "Oslo",
    "İzmir",
    "Lyon",
];
const STREETS: [&str; 8] = [
    "Hauptstraße",
    "Main Street",
    "Rue de l'Église",
    "Bahnhofstr.",
    "Via Roma",
    "Market Sq.",
    "Königsallee",
    "2nd Avenue",
];
const WORDS: [&str; 48] = [
    "customer",
    "asked",
    "for",
    "a",
    "new",
    "offer",
    "and",
    "the",
    "delivery",
    "of",
    "spare",
    "parts",
    "next",
    "week",
    "call",
    "back",
    "contract",
    "renewal",
    "price",
    "discount",
    "agreed",
    "with",
    "management",
    "site",
    "visit",
    "planned",
    "pump",
    "valve",
    "warranty",
    "claim",
    "open",
    "invoice",
    "paid",
    "late",
    "reminder",
    "sent",
    "by",
    "mail",
    "meeting",
    "notes",
    "see",
    "attachment",
    "Größe",
    "prüfen",
    "français",
    "OK?",
    "25 %",
    "c/o",
];

fn words(out: &mut String, random: &mut Random, count: u64) {
    for place in 0..count {
        if place > 0 {
            out.push(' ');
        }
        out.push_str(random.pick(&WORDS));
    }
}

/// A text of that kind, in place of what `out` held.
pub(super) fn text(out: &mut String, random: &mut Random, kind: Kind) {
    out.clear();
    let digits = |out: &mut String, random: &mut Random, count: u64| {
        let mut left = random.next();
        for _ in 0..count {
            out.push(char::from(b'0' + (left % 10) as u8));
            left /= 10;
        }
    };
    match kind {
        Company => {
            out.push_str(random.pick(&COMPANIES));
            out.push(' ');
            out.push_str(random.pick(&SUFFIXES));
        }
        Person => {
            out.push_str(random.pick(&FIRST_NAMES));
            out.push(' ');
            out.push_str(random.pick(&LAST_NAMES));
        }
        FirstName => out.push_str(random.pick(&FIRST_NAMES)),
        LastName => out.push_str(random.pick(&LAST_NAMES)),
        Sentence => {
            let count = random.between(2, 7);
            words(out, random, count);
        }
        Memo => {
            for line in 0..random.between(1, 4) {
                if line > 0 {
                    out.push_str("\r\n");
                }
                let count = random.between(5, 20);
                words(out, random, count);
                if random.per_mille(100) {
                    out.push_str(" \"urgent\"");
                }
                out.push('.');
            }
        }
        Email => {
            out.push_str("user");
            digits(out, random, 5);
            out.push_str("@contoso.example");
        }
        Telephone => {
            out.push_str("+49 89 ");
            digits(out, random, 7);
        }
        Url => {
            out.push_str("https://www.example.com/customers/");
            digits(out, random, 6);
        }
        City => out.push_str(random.pick(&CITIES)),
        Street => {
            out.push_str(random.pick(&STREETS));
            out.push(' ');
            digits(out, random, 2);
        }
        PostalCode => digits(out, random, 5),
        Iban => {
            out.push_str("DE");
            digits(out, random, 18);
        }
        Choice(_) | Flag | Money | Number | Decimal | Date | Lookup(_) => {}
    }
}

/// The JSON value of a column. `now` is in milliseconds.
pub(super) fn value(
    out: &mut Vec<u8>,
    scratch: &mut String,
    random: &mut Random,
    kind: Kind,
    now: u64,
    row: impl Fn(&str, u64) -> uuid::Uuid,
) {
    match kind {
        Choice(options) => {
            let value = random.below(options) + 1;
            out.option(value);
        }
        Flag => out.put(if random.per_mille(300) { "true" } else { "false" }),
        Money => {
            out.typed("Money");
            out.put(r#""Value":"#);
            out.number(random.below(5_000_000));
            out.put(if random.per_mille(500) { ".00}" } else { ".9900}" });
        }
        Number => out.number(random.below(10_000)),
        Decimal => {
            out.number(random.below(100));
            out.put(".");
            out.number(100 + random.below(900));
        }
        Date => out.date(now / 86_400_000 * 86_400_000 - random.below(1000) * 86_400_000),
        Lookup(table) => {
            let id = row(table, random.below(5000));
            out.reference(table, id);
        }
        _ => {
            text(scratch, random, kind);
            out.text(scratch);
        }
    }
}
