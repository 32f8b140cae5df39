//! The service endpoint: where the environment posts to, and what it proves itself with.

use std::path::{Path, PathBuf};

use actlog_core::{Secret, SecretReference};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::Failure;
use crate::plan::ENDPOINT;
use crate::rows::Endpoint;

/// A webhook, not a queue or a topic.
const CONTRACT: i32 = 8;
/// The key is sent as `?code=…`.
const WEBHOOK_KEY: i32 = 4;
/// The key is sent in a header.
const HTTP_HEADER: i32 = 5;
/// Texts are sent as UTF-8.
const UTF8: i32 = 1;
/// Shorter keys can be guessed.
const SHORTEST_KEY: usize = 16;

/// Where to post to, and with what key.
#[derive(clap::Args)]
pub(crate) struct WebhookArguments {
    /// URL that the environment posts to: that of a crm source, as the Internet sees it
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// File that holds the key
    #[arg(long, value_name = "FILE", conflicts_with = "key_env")]
    key_file: Option<PathBuf>,
    /// Environment variable that holds the key
    #[arg(long, value_name = "NAME")]
    key_env: Option<String>,
    /// Header that carries the key
    #[arg(long, value_name = "NAME", default_value = "x-activity-log-key")]
    header: String,
    /// Send the key as ?code=… in place of a header; URLs end up in the logs of proxies
    #[arg(long, conflicts_with = "header")]
    webhook_key: bool,
}

/// The webhook that is wanted.
pub(crate) struct Webhook {
    url: Option<String>,
    header: Option<String>,
    key: Option<Secret>,
}

/// What has to be done to the endpoint.
pub(crate) struct EndpointChange {
    /// Columns to write; with the key, so never to be shown.
    pub(crate) columns: Map<String, Value>,
    /// What it is, for a person.
    pub(crate) what: String,
}

impl WebhookArguments {
    /// Reads the key and checks what can be checked here.
    pub(crate) fn webhook(&self, allow_private: bool) -> Result<Webhook, Failure> {
        if let Some(url) = &self.url {
            check_url(url, allow_private)?;
        }
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if self.header.is_empty() || self.header.len() > 100 || !self.header.bytes().all(is_token) {
            return Err(Failure(format!("--header {:?} is no name of a header", self.header)));
        }
        let reference = match (&self.key_file, &self.key_env) {
            (Some(file), _) => Some(SecretReference::File(file.clone())),
            (None, Some(name)) => Some(SecretReference::Env(name.clone())),
            (None, None) => None,
        };
        let key = match reference {
            None => None,
            Some(reference) => Some(reference.load(Path::new(".")).map_err(|error| Failure(error.message))?),
        };
        if let Some(key) = &key {
            check_key(key.expose())?;
        }
        let header = (!self.webhook_key).then(|| self.header.clone());
        Ok(Webhook { url: self.url.clone(), header, key })
    }
}

/// Dataverse posts to ports 80 and 443 of public hosts only.
fn check_url(url: &str, allow_private: bool) -> Result<(), Failure> {
    let refuse = |problem: &str| Err(Failure(format!("--url: {problem}")));
    let Ok(parsed) = url::Url::parse(url) else { return refuse("this is no URL") };
    if !parsed.username().is_empty() || parsed.password().is_some() || parsed.fragment().is_some() {
        return refuse("a user name, a password or a fragment has no place in it");
    }
    if parsed.scheme() == "http" && allow_private {
        return Ok(());
    }
    if parsed.scheme() != "https" {
        return refuse("Dataverse would post contents in the clear; use https");
    }
    if parsed.port().is_some() && !allow_private {
        return refuse("Dataverse posts to port 443 only");
    }
    Ok(())
}

/// A key must fit into a header, and must not be guessed.
fn check_key(key: &[u8]) -> Result<(), Failure> {
    if key.len() < SHORTEST_KEY {
        return Err(Failure(format!(
            "the key has fewer than {SHORTEST_KEY} characters; use a random one, such as 64 hexadecimal digits"
        )));
    }
    if !key.iter().all(u8::is_ascii_graphic) {
        return Err(Failure("the key has characters that can't stand in a header; use letters and digits".to_owned()));
    }
    Ok(())
}

impl Webhook {
    fn authtype(&self) -> i32 {
        if self.header.is_some() { HTTP_HEADER } else { WEBHOOK_KEY }
    }

    fn means(&self) -> String {
        match &self.header {
            Some(header) => format!("the header {header}"),
            None => "?code=…".to_owned(),
        }
    }

    /// What the endpoint's description says, so that a later run can tell whether the key is the same: the key itself
    /// can't be read back. 32 bits of a digest say nothing about a random key.
    fn description(&self, key: &Secret) -> String {
        let mut digest = Sha256::new();
        digest.update(b"actlog webhook key\0");
        digest.update(self.header.as_deref().unwrap_or_default());
        digest.update(b"\0");
        digest.update(key.expose());
        format!("activity log collector, key {}", hex::encode(&digest.finalize()[..4]))
    }

    /// What Dataverse stores of the key: for a header, XML.
    fn authvalue(&self, key: &Secret) -> String {
        // Checked to be ASCII.
        let key = String::from_utf8_lossy(key.expose());
        match &self.header {
            None => key.into_owned(),
            Some(header) => {
                let (name, value) = (escaped(header), escaped(&key));
                format!("<settings><setting name=\"{name}\" value=\"{value}\"/></settings>")
            }
        }
    }

    /// What has to be done so that `present` is as wanted; none where it is.
    pub(crate) fn difference(&self, present: Option<&Endpoint>) -> Result<Option<EndpointChange>, Failure> {
        let Some(present) = present else {
            let missing = |what: &str| Failure(format!("there is no webhook yet; {what}"));
            let url = self.url.as_deref().ok_or_else(|| missing("say where it leads with --url"))?;
            let key = self.key.as_ref().ok_or_else(|| missing("give its key with --key-file or --key-env"))?;
            let row = json!({
                "name": ENDPOINT, "contract": CONTRACT, "url": url, "authtype": self.authtype(),
                "authvalue": self.authvalue(key), "messageformat": 2, "messagecharset": UTF8, "connectionmode": 1,
                "description": self.description(key),
            });
            let Value::Object(columns) = row else { return Err(missing("")) };
            return Ok(Some(EndpointChange { columns, what: format!("{url}, with the key in {}", self.means()) }));
        };
        let mut columns = Map::new();
        let mut what = Vec::new();
        if let Some(url) = self.url.as_ref().filter(|url| present.url.as_ref() != Some(url)) {
            columns.insert("url".to_owned(), json!(url));
            what.push(format!("url becomes {url}"));
        }
        if present.messagecharset != Some(UTF8) {
            columns.insert("messagecharset".to_owned(), json!(UTF8));
            what.push("texts are sent as UTF-8".to_owned());
        }
        if let Some(key) = &self.key {
            let description = self.description(key);
            if present.authtype != Some(self.authtype()) || present.description.as_ref() != Some(&description) {
                columns.insert("authtype".to_owned(), json!(self.authtype()));
                columns.insert("authvalue".to_owned(), json!(self.authvalue(key)));
                columns.insert("description".to_owned(), json!(description));
                what.push(format!("another key, in {}", self.means()));
            }
        }
        Ok((!columns.is_empty()).then(|| EndpointChange { columns, what: what.join(", ") }))
    }

    /// A text without the key, in whatever form it could be in it.
    pub(crate) fn without_key(&self, text: &str) -> String {
        let Some(key) = &self.key else { return text.to_owned() };
        let key = String::from_utf8_lossy(key.expose());
        text.replace(&escaped(&key), "…").replace(&*key, "…")
    }

    /// Whether a key was given, so that it could be compared.
    pub(crate) fn has_key(&self) -> bool {
        self.key.is_some()
    }
}

/// Text for an attribute's value in XML.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhook(url: Option<&str>, key: Option<&str>) -> Webhook {
        Webhook { url: url.map(str::to_owned), header: Some("x-key".to_owned()), key: key.map(Secret::new) }
    }

    /// The endpoint as the environment gives it back after `columns` were written.
    fn present(columns: &Map<String, Value>) -> Endpoint {
        let mut row = Value::Object(columns.clone());
        row["serviceendpointid"] = json!(uuid::Uuid::nil());
        row["authvalue"] = Value::Null;
        serde_json::from_value(row).unwrap()
    }

    const KEY: &str = "0123456789abcdef&<>\"'";

    #[test]
    fn a_new_webhook_needs_url_and_key_and_its_key_is_escaped() {
        assert!(webhook(None, Some(KEY)).difference(None).is_err_and(|error| error.0.contains("--url")));
        assert!(webhook(Some("https://x.example/"), None).difference(None).is_err_and(|e| e.0.contains("--key-file")));
        let change = webhook(Some("https://x.example/"), Some(KEY)).difference(None).unwrap().unwrap();
        let value =
            "<settings><setting name=\"x-key\" value=\"0123456789abcdef&amp;&lt;&gt;&quot;&apos;\"/></settings>";
        assert_eq!(change.columns["authvalue"], value);
        assert_eq!((&change.columns["contract"], &change.columns["authtype"]), (&json!(8), &json!(5)));
        assert!(!change.what.contains(KEY) && !change.columns["description"].to_string().contains("0123"));
        let plain = Webhook { header: None, ..webhook(Some("https://x.example/"), Some(KEY)) };
        let change = plain.difference(None).unwrap().unwrap();
        assert_eq!((&change.columns["authvalue"], &change.columns["authtype"]), (&json!(KEY), &json!(4)));
    }

    #[test]
    fn what_the_environment_says_is_repeated_without_the_key() {
        let webhook = webhook(None, Some(KEY));
        for said in [KEY.to_owned(), escaped(KEY), format!("not a url: {KEY}, {}", escaped(KEY))] {
            let repeated = webhook.without_key(&said);
            assert!(!repeated.contains("abcdef") && repeated.contains('…'), "{repeated}");
        }
    }

    #[test]
    fn only_what_differs_is_written() {
        let wanted = webhook(Some("https://x.example/"), Some(KEY));
        let there = present(&wanted.difference(None).unwrap().unwrap().columns);
        assert!(wanted.difference(Some(&there)).unwrap().is_none());
        // Without a key there is nothing to compare it with; without a URL it stays.
        assert!(webhook(None, None).difference(Some(&there)).unwrap().is_none());
        let moved = webhook(Some("https://y.example/"), None).difference(Some(&there)).unwrap().unwrap();
        assert_eq!(moved.columns, json!({ "url": "https://y.example/" }).as_object().unwrap().clone());
        let rotated = webhook(None, Some("another key of some length")).difference(Some(&there)).unwrap().unwrap();
        let mut columns: Vec<_> = rotated.columns.keys().map(String::as_str).collect();
        columns.sort_unstable();
        assert_eq!(columns, ["authtype", "authvalue", "description"]);
        let renamed = Webhook { header: Some("x-other".to_owned()), ..webhook(None, Some(KEY)) };
        assert!(renamed.difference(Some(&there)).unwrap().is_some());
    }

    #[test]
    fn urls_that_dataverse_would_not_post_to_are_refused() {
        for (url, allow_private, good) in [
            ("https://collector.example.com/dataverse?x=1", false, true),
            ("https://collector.example.com:443/", false, true),
            ("https://collector.example.com:8443/", false, false),
            ("http://collector.example.com/", false, false),
            ("http://127.0.0.1:7071/", true, true),
            ("https://u:p@collector.example.com/", false, false),
            ("https://collector.example.com/#x", false, false),
            ("ftp://collector.example.com/", true, false),
            ("collector.example.com", false, false),
        ] {
            assert_eq!(check_url(url, allow_private).is_ok(), good, "{url}");
        }
    }

    #[test]
    fn weak_keys_and_those_that_fit_no_header_are_refused_without_showing_them() {
        for key in ["short", "has a space in it somewhere", "söme thing of length 20"] {
            let error = check_key(key.as_bytes()).unwrap_err();
            assert!(!error.0.contains(key), "{error}");
        }
        assert!(check_key(KEY.as_bytes()).is_ok());
    }
}
