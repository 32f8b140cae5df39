//! What is audited.
//!
//! Every record that a source emits passes [`Policy::apply`] before it is encoded and journalled. The policy decides
//! whether it is kept; it sets Category, Activity and PolicyVersion, and hashes or leaves out field values where it is
//! told to. What it leaves out is named by a rule, which the runtime counts.
//!
//! A [`PolicyDocument`] is the policy as a person writes it (TOML), a [`Policy`] the same ready for use, and the
//! [`PolicyStore`] keeps the draft and the published versions in a folder. The audit flags of Dataverse are taken over into
//! a document ([`PolicyDocument::with_flags`]), and a document states those that it asks for.
//!
//! The policy is not retention (how long records stay) and not access control (who may read them). It does no I/O but
//! through core's `Storage`.
//!
//! Invariants:
//! - Records of Workload `actlog` (access to the log itself) are always kept.
//! - A published version never changes, and its number is never used for another document.
//! - Where a value is to be hashed or left out, whatever can't be understood well enough to find the values in it is
//!   hashed or left out as a whole.

mod activity;
mod admin_event;
mod areas;
mod category;
mod compile;
mod diff;
mod document;
mod flags;
mod policy;
mod query;
mod redact;
mod rules;
mod store;

pub use activity::Activity;
pub use category::Category;
pub use compile::PolicyError;
pub use diff::{auditing_off, auditing_switched_off, changes};
pub use document::{ActivityMode, AreaSwitches, EntitySettings, MessageList, PolicyDocument, Rule, RuleAction, Values};
pub use flags::Imported;
pub use policy::{Decision, Policy};
pub use redact::OMITTED;
pub use store::{PolicyStore, PublishError, Published, StoreError};
