//! A text of the configuration that may be a secret.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use actlog_core::{ConfigError, Secret, SecretReference};
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, de};

/// A value that stands in the configuration, or a secret that stands elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(untagged)]
pub enum Value {
    /// `"text"`.
    Text(String),
    /// `{ file = "…" }` or `{ env = "…" }`.
    Secret(SecretReference),
}

impl Value {
    /// The text, and whether it is a secret.
    ///
    /// # Errors
    /// When the secret can't be read.
    pub(crate) fn load(&self, folder: &Path) -> Result<(Secret, bool), ConfigError> {
        match self {
            Self::Text(text) => Ok((Secret::new(text.as_bytes()), false)),
            Self::Secret(reference) => Ok((reference.load(folder)?, true)),
        }
    }
}

/// By hand, so that the error for a wrong secret says what is wrong with it.
impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, { file = \"…\" } or { env = \"…\" }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Text(text.to_owned()))
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Value, E> {
                Err(number())
            }

            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Value, E> {
                Err(number())
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Value, E> {
                Err(number())
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
                SecretReference::deserialize(MapAccessDeserializer::new(map)).map(Value::Secret)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// The error for a number, which may be a secret and must not be repeated.
fn number<E: de::Error>() -> E {
    E::custom(
        "a number is not a text; put it in quotation marks, or a secret where { file = \"…\" } or { env = \"…\" } says",
    )
}

/// A text that another system wrote, as far as people should see it: one line, and not too long.
pub(crate) fn excerpt(text: &str) -> Cow<'_, str> {
    const LONGEST: usize = 300;
    if text.len() <= LONGEST && !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut short: String = text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    Cow::Owned(short)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_a_text_or_the_place_of_a_secret() {
        let read = |value: serde_json::Value| actlog_core::config::deserialize::<Value>(value);
        assert_eq!(read(json!("plain")), Ok(Value::Text("plain".into())));
        assert_eq!(read(json!({ "env": "KEY" })), Ok(Value::Secret(SecretReference::Env("KEY".into()))));
        for (wrong, reason) in
            [(json!(4711), "quotation marks"), (json!({ "path": "a" }), "`path`"), (json!({}), "missing")]
        {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains(reason) && !error.contains("4711"), "{error}");
        }
    }

    #[test]
    fn what_others_wrote_is_shown_on_one_line_and_cut() {
        assert_eq!(excerpt("as it is"), "as it is");
        assert_eq!(excerpt("a\nb\u{1b}[2J"), "a b [2J");
        let long = excerpt(&"é".repeat(10_000)).into_owned();
        assert!(long.chars().count() == 301 && long.ends_with('…'));
    }
}
