//! A request's parameters.

use std::borrow::Cow;

use actlog_http::Head;
use actlog_office::ContentType;
use hyper::header::ACCEPT_LANGUAGE;
use uuid::Uuid;

use crate::errors::FeedError;

/// The pairs of a query string. Names are compared without regard to case: collectors write `contentType`,
/// `contenttype`, `publisherIdentifier`, `endtime`.
pub(super) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    pub(super) fn of(head: &'a Head) -> Self {
        Self(head.query_pairs().map(|pair| (pair.name, pair.value)).collect())
    }

    /// The first value of that name; an empty one counts as absent.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.iter();
        let (_, value) = pairs.find(|(present, _)| present.eq_ignore_ascii_case(name))?;
        (!value.is_empty()).then_some(&**value)
    }

    pub(super) fn content_type(&self) -> Result<ContentType, FeedError> {
        let text = self.get("contentType").ok_or_else(|| FeedError::missing_parameter("contentType"))?;
        ContentType::parse(text).ok_or_else(FeedError::unknown_content_type)
    }

    /// What the client calls itself; zeros where it doesn't, or not by a GUID.
    pub(super) fn publisher(&self) -> Uuid {
        self.get("PublisherIdentifier").and_then(|text| text.parse().ok()).unwrap_or_default()
    }
}

/// The rule of `Accept-Language`: at most one language.
pub(super) fn check_language(head: &Head) -> Result<(), FeedError> {
    let mut languages = Vec::new();
    for value in head.headers().get_all(ACCEPT_LANGUAGE) {
        let value = value.to_str().map_err(|_| FeedError::invalid_language())?;
        languages.extend(value.split(',').map(str::trim).filter(|language| !language.is_empty()));
    }
    match languages.as_slice() {
        [] => Ok(()),
        [language] if is_language(language) => Ok(()),
        [_] => Err(FeedError::invalid_language()),
        _ => Err(FeedError::several_languages()),
    }
}

/// `en-US`, `en;q=0.8`, `*`: a language range of RFC 9110 with its weight.
fn is_language(text: &str) -> bool {
    let (range, weight) = text.split_once(';').unwrap_or((text, "q=1"));
    let is_subtag = |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let primary = range.trim_end().split('-').next().unwrap_or_default();
    let is_range = primary.bytes().all(|byte| byte.is_ascii_alphabetic()) && range.trim_end().split('-').all(is_subtag);
    let weight = weight.trim().strip_prefix(['q', 'Q']).and_then(|weight| weight.trim_start().strip_prefix('='));
    let is_weight = weight.is_some_and(|weight| {
        weight.len() <= "0.999".len() && weight.parse::<f32>().is_ok_and(|weight| (0.0..=1.0).contains(&weight))
    });
    (range.trim_end() == "*" || is_range) && is_weight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_is_told_from_what_is_none() {
        for language in ["en", "en-US", "zh-Hant-TW", "*", "en-US;q=0.8", "de; q=1.0"] {
            assert!(is_language(language), "{language}");
        }
        for wrong in ["e_n", "en-", "-", "en;q", "en;q=2", "en;x=1", "toolonglanguage", "12", "en US", "en;q=NaN"] {
            assert!(!is_language(wrong), "{wrong}");
        }
    }
}
