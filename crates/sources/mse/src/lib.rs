//! The `mse` source: actions on the entities of Microsoft Social Engagement.
//!
//! The specification names 24 entities and the actions on each that are logged ([`ENTITIES`]). No public format of such
//! events exists, so this one is ours: small, strict, and described in `docs/social-engagement.md`. `actlog-intake` takes
//! posts and reads files; here an event is checked and becomes a record. It is no client of the service.
//!
//! Invariants: a record names one of the 24 entities and one of its actions, in one spelling; an event with anything
//! unknown in it is refused by its name; the same event gives the same Id each time.

mod entities;
mod event;

use actlog_core::{
    AuditRecord, BuildContext, BuildError, ConfigError, Source, SourceContext, SourceError, SourcePlugin, Timestamp,
    register_source,
};
use actlog_intake::{Arrival, Format, Intake, IntakeConfig, NoKeys};
use async_trait::async_trait;

pub use entities::{Action, ENTITIES, Entity};

register_source!(MseSource);

/// `Workload` of the records.
pub const WORKLOAD: &str = "SocialEngagement";
/// `RecordType` of the records: Office's list has none for Social Engagement, and begins with 1.
pub const RECORD_TYPE: i32 = 0;

/// Configuration of the `mse` source.
pub type MseConfig = IntakeConfig<NoKeys>;

/// The source, ready to run.
#[derive(Debug)]
pub struct MseSource(Intake<Events>);

impl SourcePlugin for MseSource {
    const KIND: &'static str = "mse";
    const SUMMARY: &'static str = "Microsoft Social Engagement: actions on its entities, as a tool of yours tells them";
    const EXAMPLE: &'static str = "\
listen = \"127.0.0.1:7073\"
headers = { x-key = { env = \"ACTLOG_MSE_KEY\" } }
";
    type Config = MseConfig;

    fn validate(config: &MseConfig) -> Result<(), ConfigError> {
        config.intake.validate()
    }

    async fn build(config: &MseConfig, cx: &BuildContext) -> Result<Self, BuildError> {
        Ok(Self(Intake::build(&config.intake, Events, cx).await?))
    }
}

#[async_trait]
impl Source for MseSource {
    async fn run(self: Box<Self>, cx: SourceContext) -> Result<(), SourceError> {
        Box::new(self.0).run(cx).await
    }
}

/// Events in JSON.
#[derive(Debug)]
struct Events;

impl Format for Events {
    const ELEMENT: &'static str = "an event in JSON";
    const REFUSAL: &'static str = "not-an-event";
    type Envelope<'a> = Timestamp;

    fn envelope<'a>(&self, arrival: Arrival<'a>) -> Timestamp {
        arrival.received
    }

    fn map<'a>(&self, element: &'a [u8], received: &Timestamp) -> Result<AuditRecord<'a>, String> {
        event::record(element, *received)
    }
}
