//! The plugin crates of this host, each behind the feature of its name.
//!
//! A crate that nothing mentions is dropped by the linker, and its plugin with it, in silence; `use … as _` keeps it.
//! That no crate is forgotten here is seen to by `deny(unused_crate_dependencies)` in `lib.rs`.

#[cfg(feature = "sink-file")]
use actlog_sink_file as _;
#[cfg(feature = "source-crm")]
use actlog_source_crm as _;

use actlog_runtime::Known;

/// What the project's plugins are called, and the feature that brings each: for the error when one is not compiled in.
pub(crate) const KNOWN: Known<'static> = Known { sources: &[("crm", "source-crm")], sinks: &[("file", "sink-file")] };
