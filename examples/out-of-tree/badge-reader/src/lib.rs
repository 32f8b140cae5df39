//! A source that reads the exports of door badge readers, and a command that looks at an export beforehand.
//!
//! An export is a CSV file that the controller of the doors writes each night; each line is one use of a badge:
//!
//! ```csv
//! sequence,time,door,badge,holder,result
//! 4711,2026-03-02T07:58:12+01:00,Server room,0x5A31,ada@contoso.example,granted
//! ```
//!
//! It is an example of a plugin outside of actlog's repository: [`source`] is what its author writes for
//! `type = "badge-reader"`, [`event`] is what the lines mean, and [`command`] adds `actlog badges`.

mod command;
mod event;
mod source;

pub use source::{BadgeReader, Config};
