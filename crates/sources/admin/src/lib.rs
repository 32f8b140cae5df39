//! The `admin` source: administration of Dynamics 365, work of support, sign-ins, and reports that were looked at.
//!
//! None of this comes by webhook: table definitions can't be hooked, backups and environments are not in Dataverse at
//! all, reports are no messages. So the source has four ways in, of which each configured source has one:
//!
//! - **Audit table** (module `audits`): reads Dataverse's own audit log through the Web API.
//! - **Events** (module `events`): a small strict JSON format for tools of one's own.
//! - **Execution log** (module `execution_log`): rows of ExecutionLog3 of SQL Server Reporting Services.
//! - **Office records** (module `office`): what the Power Platform admin centre reports, in the Office feed's shape.
//!
//! The last three come over HTTP, from files or from standard input, which is `actlog-intake`'s work. The source stands
//! at the beginning of a record's way. It decides nothing: `Extra.AdminEvent` says which row of the specification's
//! tables a record is of, and the policy derives category and activity from that.
//!
//! Invariants: a position never gets ahead of its rows, and names the rows that it holds within the overlap, so that
//! none is journalled twice; the same event has the same Id, however often and by whomever it is read.

mod audits;
mod config;
mod event;
mod events;
mod execution_log;
mod office;

use actlog_core::{
    BuildContext, BuildError, ConfigError, Source, SourceContext, SourceError, SourcePlugin, register_source,
};
use actlog_intake::Intake;
use async_trait::async_trait;

pub use config::{AdminConfig, AdminKeys, InputFormat};

use audits::Audits;
use events::Events;
use execution_log::ExecutionLog;
use office::OfficeRecords;

register_source!(AdminSource);

/// The source, ready to run.
pub struct AdminSource(Box<dyn Source>);

impl std::fmt::Debug for AdminSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminSource")
    }
}

impl SourcePlugin for AdminSource {
    const KIND: &'static str = "admin";
    const SUMMARY: &'static str =
        "administration of Dynamics 365: audit table, report servers, admin centre, own tools";
    const EXAMPLE: &'static str = "\
organization = \"contoso\"    # whose audit table is read; it has url, tenant and application in [organizations.contoso]
";
    type Config = AdminConfig;

    fn validate(config: &AdminConfig) -> Result<(), ConfigError> {
        config::validate(config)
    }

    async fn build(config: &AdminConfig, cx: &BuildContext) -> Result<Self, BuildError> {
        if config::polls(config) {
            return Ok(Self(Box::new(Audits::build(&config.own, cx)?)));
        }
        let keys = &config.intake;
        Ok(Self(match config.own.format.unwrap_or_default() {
            InputFormat::Events => Box::new(Intake::build(keys, Events, cx).await?),
            InputFormat::ExecutionLog => Box::new(Intake::build(keys, ExecutionLog, cx).await?),
            InputFormat::Office => Box::new(Intake::build(keys, OfficeRecords, cx).await?),
        }))
    }
}

#[async_trait]
impl Source for AdminSource {
    async fn run(self: Box<Self>, cx: SourceContext) -> Result<(), SourceError> {
        self.0.run(cx).await
    }
}
