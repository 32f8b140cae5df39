//! One `RemoteExecutionContext` as posted: a shell whose members stay slices of the body.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::json::{self, Members, Pair, Text};

/// How deep brackets may be nested in a body. Real contexts, with chains of parents, need about thirty.
pub(crate) const MAX_DEPTH: usize = 128;
/// How many enclosing contexts are read; the rest of a longer chain is left out.
const MAX_PARENTS: usize = 16;
/// How many members that a context doesn't have by its contract are kept before the body is no context.
const MAX_UNKNOWN_MEMBERS: usize = 256;
/// How many parameters a request may have. No SDK request has more than a few dozen.
const MAX_PARAMETERS: usize = 4096;

/// Why a body is no execution context. The text is fit for the answer to whoever posted it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// The body is not JSON.
    #[error("the body is not JSON: {reason}")]
    NotJson {
        /// What is wrong, with line and column.
        reason: String,
    },
    /// Brackets are nested too deep.
    #[error("the JSON is nested deeper than {limit} levels")]
    TooDeep {
        /// The deepest nesting that is read.
        limit: usize,
    },
    /// The body is JSON, but no execution context.
    #[error("the body is not an execution context: {missing}")]
    NotAContext {
        /// What a context must have and this body doesn't.
        missing: &'static str,
    },
    /// There is more of something than any real context has.
    #[error("{what} holds more than {limit} elements")]
    TooMany {
        /// The key path of the collection.
        what: &'static str,
        /// How many are read.
        limit: usize,
    },
}

/// The members of a context that are used; by their names in the contract.
#[derive(Debug, Default)]
pub(crate) struct Context<'a> {
    pub(crate) business_unit_id: Option<&'a RawValue>,
    pub(crate) correlation_id: Option<&'a RawValue>,
    pub(crate) depth: Option<&'a RawValue>,
    pub(crate) initiating_user_agent: Option<&'a RawValue>,
    pub(crate) initiating_user_entra_id: Option<&'a RawValue>,
    pub(crate) initiating_user_id: Option<&'a RawValue>,
    pub(crate) input_parameters: Vec<Pair<'a>>,
    pub(crate) message_name: Option<&'a RawValue>,
    pub(crate) mode: Option<&'a RawValue>,
    pub(crate) operation_created_on: Option<&'a RawValue>,
    pub(crate) operation_id: Option<&'a RawValue>,
    pub(crate) organization_id: Option<&'a RawValue>,
    pub(crate) organization_name: Option<&'a RawValue>,
    pub(crate) output_parameters: Vec<Pair<'a>>,
    pub(crate) owning_extension: Option<&'a RawValue>,
    pub(crate) parent: Option<Box<Context<'a>>>,
    pub(crate) post_entity_images: Option<&'a RawValue>,
    pub(crate) pre_entity_images: Option<&'a RawValue>,
    pub(crate) primary_entity_id: Option<&'a RawValue>,
    pub(crate) primary_entity_name: Option<&'a RawValue>,
    pub(crate) request_id: Option<&'a RawValue>,
    pub(crate) secondary_entity_name: Option<&'a RawValue>,
    pub(crate) shared_variables: Vec<Pair<'a>>,
    pub(crate) stage: Option<&'a RawValue>,
    pub(crate) user_entra_id: Option<&'a RawValue>,
    pub(crate) user_id: Option<&'a RawValue>,
    /// Members that the contract doesn't have, and known ones of an unexpected shape.
    pub(crate) unknown: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Context<'a> {
    /// Reads a body.
    pub(crate) fn parse(body: &'a str) -> Result<Self, ContextError> {
        if json::nested_deeper_than(body, MAX_DEPTH) {
            return Err(ContextError::TooDeep { limit: MAX_DEPTH });
        }
        let mut reader = serde_json::Deserializer::from_str(body);
        let strict =
            ContextSeed { level: 0 }.deserialize(&mut reader).and_then(|context| reader.end().map(|()| context));
        let context = match strict {
            Ok(context) => context,
            Err(error) if error.is_data() => Self::parse_leniently(body, 0)?,
            Err(error) => return Err(ContextError::NotJson { reason: error.to_string() }),
        };
        if context.unknown.len() > MAX_UNKNOWN_MEMBERS {
            return Err(ContextError::TooMany { what: "the context (unknown members)", limit: MAX_UNKNOWN_MEMBERS });
        }
        for (what, parameters) in [
            ("InputParameters", &context.input_parameters),
            ("OutputParameters", &context.output_parameters),
            ("SharedVariables", &context.shared_variables),
        ] {
            if parameters.len() > MAX_PARAMETERS {
                return Err(ContextError::TooMany { what, limit: MAX_PARAMETERS });
            }
        }
        Ok(context)
    }

    /// Reads a body in which a collection or the parent has a shape of its own: that member becomes an unknown one, and
    /// the rest is read as usual.
    fn parse_leniently(body: &'a str, level: usize) -> Result<Self, ContextError> {
        if !body.trim_ascii_start().starts_with('{') {
            // Valid JSON is checked first, so that "x" is told as no JSON and [] as no object.
            serde_json::from_str::<&RawValue>(body)
                .map_err(|error| ContextError::NotJson { reason: error.to_string() })?;
            return Err(ContextError::NotAContext { missing: "it is not a JSON object" });
        }
        let Members(members) =
            serde_json::from_str(body).map_err(|error| ContextError::NotJson { reason: error.to_string() })?;
        let mut context = Self::default();
        for (name, value) in members {
            if context.set(name.clone(), Kept(value), level).is_err() {
                context.unknown.push((name, value));
            }
        }
        Ok(context)
    }

    /// Stores a member by its name. Of a name that comes twice the last counts, as for most readers of JSON.
    fn set<M: Member<'a>>(&mut self, name: Cow<'a, str>, member: M, level: usize) -> Result<(), M::Error> {
        match name.as_ref() {
            "BusinessUnitId" => self.business_unit_id = member.read()?,
            "CorrelationId" => self.correlation_id = member.read()?,
            "Depth" => self.depth = member.read()?,
            "InitiatingUserAgent" => self.initiating_user_agent = member.read()?,
            "InitiatingUserAzureActiveDirectoryObjectId" => self.initiating_user_entra_id = member.read()?,
            "InitiatingUserId" => self.initiating_user_id = member.read()?,
            "InputParameters" => self.input_parameters = member.read::<Option<_>>()?.unwrap_or_default(),
            "MessageName" => self.message_name = member.read()?,
            "Mode" => self.mode = member.read()?,
            "OperationCreatedOn" => self.operation_created_on = member.read()?,
            "OperationId" => self.operation_id = member.read()?,
            "OrganizationId" => self.organization_id = member.read()?,
            "OrganizationName" => self.organization_name = member.read()?,
            "OutputParameters" => self.output_parameters = member.read::<Option<_>>()?.unwrap_or_default(),
            "OwningExtension" => self.owning_extension = member.read()?,
            "ParentContext" if level < MAX_PARENTS => self.parent = member.context(level + 1)?.map(Box::new),
            "PostEntityImages" => self.post_entity_images = member.read()?,
            "PreEntityImages" => self.pre_entity_images = member.read()?,
            "PrimaryEntityId" => self.primary_entity_id = member.read()?,
            "PrimaryEntityName" => self.primary_entity_name = member.read()?,
            "RequestId" => self.request_id = member.read()?,
            "SecondaryEntityName" => self.secondary_entity_name = member.read()?,
            "SharedVariables" => self.shared_variables = member.read::<Option<_>>()?.unwrap_or_default(),
            "Stage" => self.stage = member.read()?,
            "UserAzureActiveDirectoryObjectId" => self.user_entra_id = member.read()?,
            "UserId" => self.user_id = member.read()?,
            // The same in every webhook, or told by Mode; of no use to an auditor.
            "IsExecutingOffline" | "IsInTransaction" | "IsOfflinePlayback" | "IsolationMode" | "ParentContext" => {
                member.read::<serde::de::IgnoredAny>()?;
            }
            _ => {
                let value = member.read()?;
                // One more than is allowed is enough to be refused.
                if self.unknown.len() <= MAX_UNKNOWN_MEMBERS {
                    self.unknown.push((name, value));
                }
            }
        }
        Ok(())
    }

    /// The pipeline's name of the message.
    pub(crate) fn message(&self) -> Option<Cow<'a, str>> {
        self.message_name.and_then(json::non_empty_text)
    }

    /// The primary entity, unless there is none.
    pub(crate) fn primary_entity(&self) -> Option<Cow<'a, str>> {
        self.primary_entity_name.and_then(json::non_empty_text).filter(|name| name != "none")
    }

    /// The primary row, unless there is none.
    pub(crate) fn primary_id(&self) -> Option<Uuid> {
        self.primary_entity_id.and_then(json::non_zero_guid)
    }

    /// An input parameter that is there and not null.
    pub(crate) fn input(&self, name: &str) -> Option<&'a RawValue> {
        json::lookup(&self.input_parameters, name)
    }

    /// An output parameter that is there and not null.
    pub(crate) fn output(&self, name: &str) -> Option<&'a RawValue> {
        json::lookup(&self.output_parameters, name)
    }

    /// Whether there is an input parameter of that name, be it null.
    pub(crate) fn has_input(&self, name: &str) -> bool {
        self.input_parameters.iter().any(|pair| pair.key.0 == name)
    }

    /// The enclosing contexts, from the nearest on.
    pub(crate) fn ancestors(&self) -> impl Iterator<Item = &Context<'a>> {
        std::iter::successors(self.parent.as_deref(), |context| context.parent.as_deref())
    }
}

/// Where a member's value is read from: the running parse, or a slice that it left.
trait Member<'a>: Sized {
    type Error;

    fn read<T: Deserialize<'a>>(self) -> Result<T, Self::Error>;

    fn context(self, level: usize) -> Result<Option<Context<'a>>, Self::Error>;
}

/// The value that comes next in the parse.
struct Next<'m, A>(&'m mut A);

impl<'a, A: MapAccess<'a>> Member<'a> for Next<'_, A> {
    type Error = A::Error;

    fn read<T: Deserialize<'a>>(self) -> Result<T, Self::Error> {
        self.0.next_value()
    }

    fn context(self, level: usize) -> Result<Option<Context<'a>>, Self::Error> {
        self.0.next_value_seed(OptionalContext { level })
    }
}

/// A value that was kept as it stands in the body.
struct Kept<'a>(&'a RawValue);

impl<'a> Member<'a> for Kept<'a> {
    type Error = ();

    fn read<T: Deserialize<'a>>(self) -> Result<T, Self::Error> {
        json::read(self.0).ok_or(())
    }

    fn context(self, level: usize) -> Result<Option<Context<'a>>, Self::Error> {
        if self.0.get() == "null" {
            return Ok(None);
        }
        Context::parse_leniently(self.0.get(), level).map(Some).map_err(|_| ())
    }
}

/// Reads an object as a context, `level` parents away from the outermost one.
#[derive(Clone, Copy)]
struct ContextSeed {
    level: usize,
}

impl<'de> DeserializeSeed<'de> for ContextSeed {
    type Value = Context<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ContextSeed {
    type Value = Context<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an execution context")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut context = Context::default();
        while let Some(Text(name)) = map.next_key()? {
            context.set(name, Next(&mut map), self.level)?;
        }
        Ok(context)
    }
}

/// Reads an object as a context, and null as none.
struct OptionalContext {
    level: usize,
}

impl<'de> DeserializeSeed<'de> for OptionalContext {
    type Value = Option<Context<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for OptionalContext {
    type Value = Option<Context<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an execution context or null")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        ContextSeed { level: self.level }.deserialize(deserializer).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_of_an_unexpected_shape_is_kept_and_the_rest_is_read() {
        let body = r#"{"MessageName":"Create","InputParameters":{"a":1},"Depth":[1],
            "ParentContext":{"MessageName":"Create","SharedVariables":7,"Stage":30}}"#;
        let context = Context::parse(body).unwrap();
        assert_eq!(context.message().unwrap(), "Create");
        assert_eq!(context.unknown.len(), 1);
        assert_eq!((context.unknown[0].0.as_ref(), context.unknown[0].1.get()), ("InputParameters", r#"{"a":1}"#));
        let parent = context.parent.unwrap();
        assert_eq!(parent.stage.unwrap().get(), "30");
        assert_eq!(parent.unknown[0].0, "SharedVariables");
    }

    #[test]
    fn what_is_no_context_is_told_apart() {
        let reason = |body: &str| Context::parse(body).unwrap_err().to_string();
        assert!(reason("{\"MessageName\": x}").contains("line 1 column 17"), "{}", reason("{\"MessageName\": x}"));
        assert!(reason("").contains("not JSON"));
        assert!(reason("{} {}").contains("not JSON"));
        assert!(reason("[]").contains("not a JSON object"));
        assert!(reason("\"x\"").contains("not a JSON object"));
        assert!(reason("[").contains("not JSON"));
    }

    #[test]
    fn nesting_a_hundred_thousand_deep_is_an_error_wherever_it_stands() {
        let deep = |open: &str, close: &str| open.repeat(100_000) + "1" + &close.repeat(100_000);
        for nested in [deep("[", "]"), deep("{\"a\":", "}"), deep("{\"ParentContext\":", "}"), deep("[{\"key\":", "}]")]
        {
            for (before, after) in [
                ("", ""),
                ("{\"MessageName\":\"X\",\"Unknown\":", "}"),
                ("{\"MessageName\":\"X\",\"ParentContext\":", "}"),
                ("{\"MessageName\":\"X\",\"InputParameters\":[{\"key\":\"Target\",\"value\":", "}]}"),
            ] {
                let body = format!("{before}{nested}{after}");
                assert_eq!(Context::parse(&body).unwrap_err(), ContextError::TooDeep { limit: MAX_DEPTH });
            }
        }
        assert_eq!(Context::parse(&"[".repeat(100_000)).unwrap_err(), ContextError::TooDeep { limit: MAX_DEPTH });
    }

    #[test]
    fn a_long_chain_of_parents_is_read_to_its_limit() {
        let body = "{\"ParentContext\":".repeat(100) + "{}" + &"}".repeat(100);
        assert_eq!(Context::parse(&body).unwrap().ancestors().count(), MAX_PARENTS);
    }

    #[test]
    fn counts_beyond_any_real_context_are_refused_by_name() {
        let unknown: Vec<_> = (0..300).map(|number| format!("\"m{number}\":1")).collect();
        let error = Context::parse(&format!("{{{}}}", unknown.join(","))).unwrap_err();
        assert_eq!(error, ContextError::TooMany { what: "the context (unknown members)", limit: MAX_UNKNOWN_MEMBERS });
        let many = vec![r#"{"key":"a","value":1}"#; MAX_PARAMETERS + 1].join(",");
        let error = Context::parse(&format!("{{\"InputParameters\":[{many}]}}")).unwrap_err();
        assert_eq!(error.to_string(), "InputParameters holds more than 4096 elements");
    }
}
