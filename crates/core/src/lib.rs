//! The vocabulary of actlog.
mod entry;
mod record;
mod storage;
mod time;
pub use entry::{Entry, EntryKind, Statement};
pub use record::{AuditRecord, Extra, Field, Json, RECORD_TYPE_CRM, WORKLOAD_ACTLOG, WORKLOAD_CRM};
pub use storage::{FileEntry, OpenMode, Storage, StorageFile};
pub use time::{Clock, SystemClock, Timestamp};
