//! The `crm` source: execution contexts of Dynamics 365 (Dataverse), as webhook posts or from files.
//!
//! It stands at the beginning of a record's way and is itself small: `actlog-intake` takes posts and reads files, and
//! `actlog-dataverse` knows what a context means. Here is what connects them: what the headers of Dataverse's posts say,
//! and the keys of the configuration. What is audited is decided behind it.
//!
//! Every answer to a post is listed in `docs/webhooks.md`. In files and on standard input, each line is a context.
//!
//! Invariants: those of `actlog-intake`; and a context gives the same record by whatever way it comes, but for what only
//! the headers of its post said.

use actlog_core::{
    AuditRecord, BuildContext, BuildError, ConfigError, Source, SourceContext, SourceError, SourcePlugin,
    register_source,
};
use actlog_dataverse::{Envelope, MappingOptions, map_context};
use actlog_intake::{Arrival, Format, Intake, IntakeConfig, keys};
use async_trait::async_trait;
use schemars::JsonSchema;

register_source!(CrmSource);

/// Configuration of the `crm` source.
pub type CrmConfig = IntakeConfig<CrmKeys>;

/// The keys that only this source has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(default)]
pub struct CrmKeys {
    /// Repair texts that arrive as UTF-8 read as Windows-1252.
    pub repair_text: bool,
    /// Append the filters of linked entities to Query; the specification's form has the outermost filter only.
    pub extended_query: bool,
}

keys!(CrmKeys { repair_text, extended_query });

/// The source, ready to run.
#[derive(Debug)]
pub struct CrmSource(Intake<Contexts>);

impl SourcePlugin for CrmSource {
    const KIND: &'static str = "crm";
    const SUMMARY: &'static str = "Dynamics 365 (Dataverse) execution contexts: webhook posts, or files of them";
    const EXAMPLE: &'static str = "\
listen = \"127.0.0.1:7071\"
key = { env = \"ACTLOG_WEBHOOK_KEY\" }
";
    type Config = CrmConfig;

    fn validate(config: &CrmConfig) -> Result<(), ConfigError> {
        config.intake.validate()
    }

    async fn build(config: &CrmConfig, cx: &BuildContext) -> Result<Self, BuildError> {
        let CrmKeys { repair_text, extended_query } = config.own;
        let contexts = Contexts { options: MappingOptions { repair_text, extended_query } };
        Ok(Self(Intake::build(&config.intake, contexts, cx).await?))
    }
}

#[async_trait]
impl Source for CrmSource {
    async fn run(self: Box<Self>, cx: SourceContext) -> Result<(), SourceError> {
        Box::new(self.0).run(cx).await
    }
}

/// Execution contexts in JSON.
#[derive(Debug)]
struct Contexts {
    options: MappingOptions,
}

impl Format for Contexts {
    const ELEMENT: &'static str = "an execution context in JSON";
    const REFUSAL: &'static str = "not-a-context";
    type Envelope<'a> = Envelope<'a>;

    /// What the headers say. Of a batch they can only say what all its contexts share.
    fn envelope<'a>(&self, arrival: Arrival<'a>) -> Envelope<'a> {
        let mut envelope = Envelope::new(arrival.received);
        let Some(head) = arrival.head else { return envelope };
        envelope.organization_host = head.header("x-ms-dynamics-organization");
        if !arrival.is_batch {
            envelope.entity_name = head.header("x-ms-dynamics-entity-name");
            envelope.request_name = head.header("x-ms-dynamics-request-name");
            envelope.correlation_id = head.header("x-ms-correlation-request-id").and_then(|id| id.parse().ok());
            envelope.size_exceeded = head.headers().contains_key("x-ms-dynamics-msg-size-exceeded");
        }
        envelope
    }

    fn map<'a>(&self, element: &'a [u8], envelope: &Envelope<'a>) -> Result<AuditRecord<'a>, String> {
        map_context(element, envelope, &self.options).map_err(|error| error.to_string())
    }
}
