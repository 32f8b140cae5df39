//! How the source is configured.

use std::time::Duration;

use actlog_core::{ConfigError, Span};
use actlog_http::client::ClientConfig;
use actlog_intake::{IntakeConfig, IntakeKeys, keys};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Configuration of the `admin` source. With one of `listen`, `path` and `stdin`, events come from there; without any,
/// the audit table of an organisation is read.
pub type AdminConfig = IntakeConfig<AdminKeys>;

/// The keys that only this source has.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(default)]
pub struct AdminKeys {
    /// What comes by `listen`, `path` or `stdin`; `events` when left out.
    pub format: Option<InputFormat>,
    /// Name of the organisation, from `[organizations]`, whose audit table is read; may be left out where there is only
    /// one.
    pub organization: Option<String>,
    /// Tables whose rows' creation, change and deletion are read too, by logical name.
    pub tables: Vec<String>,
    /// How long to wait between two looks at the audit table.
    pub poll: Span,
    /// How much of what was read before is read again each time, since rows can appear late. What is known is not taken
    /// twice.
    pub overlap: Span,
    /// How far back the first start reaches.
    pub since: Span,
    /// How many rows are asked for at once, up to 5000.
    pub page_size: u32,
    /// How requests are sent to the environment.
    pub client: ClientConfig,
}

keys!(AdminKeys { format, organization, tables, poll, overlap, since, page_size, client });

impl Default for AdminKeys {
    fn default() -> Self {
        let minutes = |minutes: u64| Span(Duration::from_secs(60 * minutes));
        Self {
            format: None,
            organization: None,
            tables: ["systemuser", "team", "role"].map(str::to_owned).into(),
            poll: minutes(1),
            overlap: minutes(10),
            since: minutes(24 * 60),
            page_size: 500,
            client: ClientConfig::default(),
        }
    }
}

/// What comes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum InputFormat {
    /// Events of tools of one's own, as JSON.
    #[default]
    Events,
    /// Rows of ExecutionLog3 of SQL Server Reporting Services, as CSV or JSON.
    ExecutionLog,
    /// Records of the Power Platform admin centre in the shape of the Office 365 feed.
    Office,
}

/// Whether the audit table is read.
pub(crate) fn polls(config: &AdminConfig) -> bool {
    let intake = &config.intake;
    intake.listen.is_none() && intake.path.is_empty() && !intake.stdin
}

/// The most tables that are named: the query is a URL.
const MAXIMUM_TABLES: usize = 50;
/// Rows of one page at most, as the platform has it.
const MAXIMUM_PAGE: u32 = 5000;

/// What is wrong with it, as far as that can be seen without any input or output.
pub(crate) fn validate(config: &AdminConfig) -> Result<(), ConfigError> {
    if polls(config) { validate_polling(config) } else { validate_intake(config) }
}

fn validate_intake(config: &AdminConfig) -> Result<(), ConfigError> {
    config.intake.validate()?;
    let unused = AdminKeys { format: config.own.format, ..AdminKeys::default() };
    if config.own != unused {
        let message = "organization, tables, poll, overlap, since, page_size and client belong to the audit table, \
                       which is read where neither listen nor path nor stdin is given; leave them out here";
        return Err(ConfigError::new("", message));
    }
    Ok(())
}

fn validate_polling(config: &AdminConfig) -> Result<(), ConfigError> {
    if config.intake != IntakeKeys::default() || config.own.format.is_some() {
        let message = "say where events come from, by one of listen = \"127.0.0.1:7072\", path = \"events/*.ndjson\" \
                       and stdin = true; or leave out what belongs to them, and the audit table is read";
        return Err(ConfigError::new("", message));
    }
    let keys = &config.own;
    keys.client.validate().map_err(|error| error.within("client"))?;
    let (minute, day) = (Duration::from_secs(60), Duration::from_secs(24 * 3600));
    for (key, span, least, most) in [
        ("poll", keys.poll, Duration::from_millis(100), day),
        ("overlap", keys.overlap, minute, day),
        ("since", keys.since, Duration::ZERO, day * 36_500),
    ] {
        if !(least..=most).contains(&span.0) {
            return Err(ConfigError::new(key, format!("must be between {} and {}", Span(least), Span(most))));
        }
    }
    if !(1..=MAXIMUM_PAGE).contains(&keys.page_size) {
        return Err(ConfigError::new("page_size", format!("must be between 1 and {MAXIMUM_PAGE}")));
    }
    if keys.tables.len() > MAXIMUM_TABLES {
        return Err(ConfigError::new("tables", format!("at most {MAXIMUM_TABLES} tables can be named")));
    }
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let is_name = |name: &String| !name.is_empty() && name.len() <= 128 && name.bytes().all(fits);
    match keys.tables.iter().position(|name| !is_name(name)) {
        None => Ok(()),
        Some(place) => {
            let message = format!("{:?} is no logical name, such as businessunit", keys.tables[place]);
            Err(ConfigError::new(format!("tables[{place}]"), message))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(table: serde_json::Value) -> Result<bool, ConfigError> {
        let config: AdminConfig = actlog_core::config::deserialize(table)?;
        validate(&config)?;
        Ok(polls(&config))
    }

    #[test]
    fn without_another_way_in_the_audit_table_is_read() {
        assert!(check(json!({})).unwrap());
        assert!(check(json!({ "organization": "contoso", "tables": [], "poll": "5 min" })).unwrap());
        assert!(!check(json!({ "listen": "127.0.0.1:7072" })).unwrap());
        assert!(!check(json!({ "path": "log.csv", "format": "execution-log" })).unwrap());
    }

    #[test]
    fn keys_of_another_way_in_are_refused() {
        for table in [
            json!({ "stdin": true, "organization": "contoso" }),
            json!({ "stdin": true, "poll": "5 min" }),
            json!({ "format": "office" }),
            json!({ "key": { "env": "K" } }),
            json!({ "listen": "127.0.0.1:7072", "stdin": true }),
        ] {
            assert!(check(table.clone()).is_err(), "{table}");
        }
    }

    #[test]
    fn what_cannot_work_is_named_by_its_key() {
        for (table, key) in [
            (json!({ "format": "csv", "stdin": true }), "format"),
            (json!({ "poll": "1 ms" }), "poll"),
            (json!({ "overlap": "0 s" }), "overlap"),
            (json!({ "page_size": 0 }), "page_size"),
            (json!({ "tables": ["team", "Account"] }), "tables[1]"),
            (json!({ "tables": ["a'b"] }), "tables[0]"),
            (json!({ "client": { "timeout": "1 ms" } }), "client.timeout"),
        ] {
            assert_eq!(check(table).unwrap_err().path, key);
        }
    }
}
