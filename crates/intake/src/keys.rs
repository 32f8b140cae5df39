//! One flat table of keys, of which some are the intake's and some the source's own.

use std::fmt;
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::config::IntakeKeys;

/// Configuration of a source that takes things in by HTTP, from files or from standard input: the keys that all of them
/// have, and the source's own, in one table.
///
/// Serde's `flatten` would read the same tables, but can neither refuse unknown keys by their names nor say where in a
/// value an error is.
#[derive(Clone, Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct IntakeConfig<T> {
    /// The keys that all sources of this kind have.
    #[schemars(flatten)]
    pub intake: IntakeKeys,
    /// The source's own.
    #[schemars(flatten)]
    pub own: T,
}

/// Keys of a configuration that can be read one by one; none of them is required. [`keys!`](crate::keys) implements it.
pub trait Keys: Default {
    /// The names of the keys.
    const NAMES: &'static [&'static str];

    /// Reads the value of a key into its field. False, with nothing read, where the key is none of these.
    ///
    /// # Errors
    /// When the value is of another type than the field.
    fn read<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error>;
}

/// Implements [`Keys`] for a struct: `keys!(MyKeys { first, second })`, with all of its fields.
#[macro_export]
macro_rules! keys {
    ($type:ty { $($field:ident),* $(,)? }) => {
        impl $crate::Keys for $type {
            const NAMES: &'static [&'static str] = &[$(stringify!($field)),*];

            fn read<'de, A: $crate::MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
                // Names all fields, so that none can be forgotten.
                let Self { $($field),* } = self;
                match name {
                    $(stringify!($field) => *$field = map.next_value()?,)*
                    _ => return Ok(false),
                }
                Ok(true)
            }
        }
    };
}

/// A source without keys of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub struct NoKeys {}

impl Keys for NoKeys {
    const NAMES: &'static [&'static str] = &[];

    fn read<'de, A: MapAccess<'de>>(&mut self, _: &str, _: &mut A) -> Result<bool, A::Error> {
        Ok(false)
    }
}

impl<'de, T: Keys> Deserialize<'de> for IntakeConfig<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Table<T>(PhantomData<T>);
        impl<'de, T: Keys> Visitor<'de> for Table<T> {
            type Value = IntakeConfig<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut config = IntakeConfig { intake: IntakeKeys::default(), own: T::default() };
                while let Some(name) = map.next_key::<String>()? {
                    if !config.intake.read(&name, &mut map)? && !config.own.read(&name, &mut map)? {
                        let known = [IntakeKeys::NAMES, T::NAMES].concat();
                        return Err(unknown(&name, &known));
                    }
                }
                Ok(config)
            }
        }
        deserializer.deserialize_map(Table(PhantomData))
    }
}

fn unknown<E: de::Error>(name: &str, known: &[&str]) -> E {
    let known: Vec<String> = known.iter().map(|known| format!("`{known}`")).collect();
    E::custom(format_args!("unknown field `{name}`, expected one of {}", known.join(", ")))
}

/// A value that may stand alone or in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> std::ops::Deref for OneOrMany<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    /// With the errors of the value itself.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value, or a list of values")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<T>, E> {
                Ok(vec![T::deserialize(de::value::StrDeserializer::new(text))?])
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Vec<T>, E> {
                Ok(vec![T::deserialize(de::value::I64Deserializer::new(number))?])
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Vec<T>, E> {
                Ok(vec![T::deserialize(de::value::U64Deserializer::new(number))?])
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vec<T>, A::Error> {
                Ok(vec![T::deserialize(MapAccessDeserializer::new(map))?])
            }

            fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<Vec<T>, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(sequence))
            }
        }
        deserializer.deserialize_any(Either(PhantomData)).map(Self)
    }
}

/// What the schema of such a value is made from.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) enum OneOrManySchema<T> {
    One(T),
    Many(Vec<T>),
}

#[cfg(test)]
mod tests {
    use actlog_core::config_keys;
    use serde_json::json;

    use super::*;

    #[derive(Clone, Debug, Default, PartialEq, JsonSchema)]
    #[schemars(default)]
    struct Own {
        /// How loud.
        volume: Option<u8>,
        /// Where to.
        target: Target,
    }

    #[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
    #[serde(default, deny_unknown_fields)]
    struct Target {
        /// The floor.
        floor: i32,
    }

    keys!(Own { volume, target });

    fn read(value: serde_json::Value) -> Result<IntakeConfig<Own>, actlog_core::ConfigError> {
        actlog_core::config::deserialize(value)
    }

    #[test]
    fn shared_and_own_keys_stand_in_one_table() {
        let config = read(json!({ "stdin": true, "volume": 7, "target": { "floor": -1 } })).unwrap();
        assert!(config.intake.stdin);
        assert_eq!(config.own, Own { volume: Some(7), target: Target { floor: -1 } });
        let schema = schemars::schema_for!(IntakeConfig<Own>);
        let paths: Vec<String> = config_keys(schema.as_value()).into_iter().map(|key| key.path).collect();
        for name in [IntakeKeys::NAMES, Own::NAMES].concat() {
            assert!(paths.iter().any(|path| path == name), "{name}: {paths:?}");
        }
        assert!(paths.contains(&"target.floor".to_owned()) && paths.contains(&"limits.max_body".to_owned()));
        assert_eq!(schema.get("additionalProperties"), Some(&json!(false)));
    }

    #[test]
    fn errors_of_shared_and_own_keys_name_the_key_path() {
        for (value, path, text) in [
            (json!({ "colour": 1 }), "", "`colour`, expected one of `listen`"),
            (json!({ "volume": "loud" }), "volume", "u8"),
            (json!({ "target": { "floor": "x" } }), "target.floor", "i32"),
            (json!({ "target": { "flour": 1 } }), "target.flour", "floor"),
            (json!({ "limits": { "max_headers": -1 } }), "limits.max_headers", "usize"),
            (json!({ "key": [{ "env": "A" }, { "env": 1 }] }), "key[1].env", "string"),
        ] {
            let error = read(value).unwrap_err();
            assert!(error.path == path && error.message.contains(text), "{path}: {error:?}");
        }
    }
}
