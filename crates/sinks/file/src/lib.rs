//! The sink `file`: audit records as files, for people, spreadsheets and other systems to read.
//!
//! It pulls the journal's entries, puts each on a line of its own (JSONL with the exact stored bytes, CSV, or the table
//! layout of the specification's examples), and rotates, compresses and removes files as it is told. It is not an
//! archive: it does not search, and it never changes a line.
//!
//! ```text
//! journal ─► SinkContext::next ─► Writer (routes, lines, buffers) ─► Storage: write, sync
//!              ▲                                                        │
//!              └──── SinkContext::commit(cursor + lengths of files) ◄───┘
//! ```
//!
//! Promises, whatever happens to the process, the machine or the disk:
//!
//! - The files together hold every record exactly once, each on one whole line. The cursor is committed together with
//!   the lengths of the open files, after these are durable, and a restart cuts the files back to it. A file is named in
//!   a commit before it gets its first byte.
//! - A file that was closed is never opened for writing again, and no file that exists is overwritten.
//! - Compressed files take their name when they are whole; the original goes after that.
//!
//! `docs/file-sink.md` is the user's view.

mod columns;
mod config;
mod housekeeping;
mod layout;
mod lease;
mod metrics;
mod sink;
mod state;
mod template;
mod text;
mod writer;

pub use config::{Compression, FileConfig, Format, Rotate, User};
pub use sink::FileSink;
