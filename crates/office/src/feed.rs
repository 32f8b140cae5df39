//! The feed's own names: content types, content entries, subscriptions, and how it spells points in time.

use std::borrow::Cow;

use actlog_core::Timestamp;
use serde::{Deserialize, Serialize};

/// The content types that can be subscribed to. Dynamics 365 is in `Audit.General`; `DLP.All` needs a permission of its
/// own, `ActivityFeed.ReadDlp`.
pub const CONTENT_TYPES: [&str; 5] =
    ["Audit.AzureActiveDirectory", "Audit.Exchange", "Audit.SharePoint", "Audit.General", "DLP.All"];

/// One of the feed's content types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContentType {
    /// Sign-ins and changes of Entra.
    AzureActiveDirectory,
    /// Exchange.
    Exchange,
    /// SharePoint and OneDrive.
    SharePoint,
    /// All that has no content type of its own, Dynamics 365 among it.
    General,
    /// Events of data loss prevention; they need a permission of their own.
    Dlp,
}

impl ContentType {
    /// Every content type, in the order of [`CONTENT_TYPES`].
    pub const ALL: [Self; 5] = [Self::AzureActiveDirectory, Self::Exchange, Self::SharePoint, Self::General, Self::Dlp];

    /// Its name in the interface, such as `Audit.General`.
    pub const fn as_str(self) -> &'static str {
        CONTENT_TYPES[self as usize]
    }

    /// The content type of that name, in any case of letters.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(name))
    }
}

/// A blob as the list of content names it. Unknown members are passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Content<'a> {
    /// Where the blob is. Its host has to be checked before a token is sent there.
    #[serde(borrow)]
    pub content_uri: Cow<'a, str>,
    /// The blob's id, the same in each listing.
    #[serde(borrow)]
    pub content_id: Cow<'a, str>,
    /// One of [`CONTENT_TYPES`].
    #[serde(borrow)]
    pub content_type: Cow<'a, str>,
    /// When the blob became available. Its events may be older by hours or days.
    #[serde(serialize_with = "as_content_time")]
    pub content_created: Timestamp,
    /// Until when it can be fetched.
    #[serde(serialize_with = "as_content_time")]
    pub content_expiration: Timestamp,
}

/// A subscription as `/subscriptions/list` and `/subscriptions/start` show it. Unknown members are passed over.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subscription {
    /// One of [`CONTENT_TYPES`].
    pub content_type: String,
    /// `enabled` or `disabled`; a documented sample leaves it out, so that it may be empty.
    #[serde(default)]
    pub status: String,
}

impl Subscription {
    /// Whether content is being made available.
    pub fn is_enabled(&self) -> bool {
        self.status.eq_ignore_ascii_case("enabled")
    }
}

/// A time as the list of content prints it: `2017-10-13T18:00:51.748Z`, always with milliseconds. Widely used clients
/// parse exactly this form.
pub fn content_time(time: Timestamp) -> String {
    time.to_datetime().format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// A time as the interface's parameters `startTime` and `endTime` take it: `2017-10-13T18:00:51`. UTC, cut to the
/// second.
pub fn parameter_time(time: Timestamp) -> String {
    time.to_datetime().format("%Y-%m-%dT%H:%M:%S").to_string()
}

fn as_content_time<S: serde::Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&content_time(*time))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = concat!(
        r#"{"contentUri":"https://manage.office.com/api/v1.0/t/activity/feed/audit/1$2","contentId":"1$2","#,
        r#""contentType":"Audit.General","contentCreated":"2017-10-13T18:00:51.748Z","#,
        r#""contentExpiration":"2017-10-20T18:00:51.000Z"}"#
    );

    #[test]
    fn a_content_entry_is_written_as_the_service_writes_it() {
        let entry: Content<'_> = serde_json::from_str(ENTRY).unwrap();
        assert!(matches!(entry.content_uri, Cow::Borrowed(_)));
        assert_eq!(serde_json::to_string(&entry).unwrap(), ENTRY);
    }

    #[test]
    fn content_types_are_known_by_name_in_any_case() {
        for (content_type, name) in ContentType::ALL.into_iter().zip(CONTENT_TYPES) {
            assert_eq!((content_type.as_str(), ContentType::parse(&name.to_lowercase())), (name, Some(content_type)));
        }
        assert_eq!(ContentType::parse("Audit.Dynamics"), None);
    }

    #[test]
    fn times_of_parameters_have_neither_fraction_nor_zone() {
        let time = Timestamp::parse("2026-11-22T12:55:12.999Z").unwrap();
        assert_eq!(parameter_time(time), "2026-11-22T12:55:12");
        assert_eq!(content_time(time), "2026-11-22T12:55:12.999Z");
    }

    #[test]
    fn a_subscription_without_a_status_is_not_enabled() {
        let listed: Vec<Subscription> = serde_json::from_str(
            r#"[{"contentType":"Audit.General","status":"enabled","webhook":null},{"contentType":"Audit.Exchange"}]"#,
        )
        .unwrap();
        assert_eq!(listed.iter().map(Subscription::is_enabled).collect::<Vec<_>>(), [true, false]);
    }
}
