//! The plugin crates of this host, each behind the feature of its name.
//!
//! A crate that nothing mentions is dropped by the linker, and its plugin with it, in silence; `use … as _` keeps it.
//! That no crate is forgotten here is seen to by `deny(unused_crate_dependencies)` in `lib.rs`.

#[cfg(feature = "command-dataverse")]
use actlog_command_dataverse as _;
#[cfg(feature = "enrichment-directory")]
use actlog_enrichment_directory as _;
#[cfg(feature = "sink-file")]
use actlog_sink_file as _;
#[cfg(feature = "sink-http")]
use actlog_sink_http as _;
#[cfg(feature = "sink-management-api")]
use actlog_sink_management_api as _;
#[cfg(feature = "sink-syslog")]
use actlog_sink_syslog as _;
#[cfg(feature = "source-admin")]
use actlog_source_admin as _;
#[cfg(feature = "source-crm")]
use actlog_source_crm as _;
#[cfg(feature = "source-mse")]
use actlog_source_mse as _;
#[cfg(feature = "source-office365")]
use actlog_source_office365 as _;
#[cfg(feature = "source-records")]
use actlog_source_records as _;

use actlog_runtime::Known;

/// What the project's plugins are called, and the feature that brings each: for the error when one is not compiled in.
pub(crate) const KNOWN: Known<'static> = Known {
    sources: &[
        ("admin", "source-admin"),
        ("crm", "source-crm"),
        ("mse", "source-mse"),
        ("office365", "source-office365"),
        ("records", "source-records"),
    ],
    sinks: &[
        ("file", "sink-file"),
        ("http", "sink-http"),
        ("management-api", "sink-management-api"),
        ("syslog", "sink-syslog"),
    ],
    enrichments: &[("directory", "enrichment-directory")],
};
