//! What the tests of actlog and of its plugins stand on. It is never part of the shipped binary.
//!
//! | module | for |
//! |---|---|
//! | [`compliance`] | the kit that every source and sink must pass; the contract is `docs/component-spec.md` |
//! | [`generator`] | seeded, realistic webhook traffic: the input of tests and benchmarks |
//! | [`records`] | seeded audit records, nasty ones too: the input of sinks' tests |
//! | [`storage`] | a file system in memory that loses, tears and fails as real ones do |
//! | [`process`] | the real binary: started, killed, looked at from outside |
//! | [`http`] | a small client, for proper requests and improper ones |
//! | [`server`] | what stand-ins of other systems are built on: a real HTTP server on loopback |
//! | [`entra`] | the token endpoints of Entra, for the stand-ins |
//! | [`dataverse_server`] | a stand-in for the Web API of a Dataverse environment |
//! | [`office_server`] | a stand-in for the Office 365 Management Activity API |
//! | [`torture`], [`office_torture`] | `kill -9` at random moments, over and over, and a count of what is left |
//! | [`fixtures`] | where real captures are, and how a test says that it has none |
//!
//! In the flow of a record it stands at both ends: as the upstream of sources and the destination of sinks, and in
//! between in place of the journal. It depends on core only, so that every crate may use it in its tests.
//!
//! A test that takes part in the flow looks like this:
//!
//! ```no_run
//! use actlog_testkit::generator::Generator;
//! use actlog_testkit::http::Connection;
//! use actlog_testkit::process::{Actlog, free_address};
//!
//! # async fn test() -> std::io::Result<()> {
//! let folder = tempfile::tempdir()?;
//! let webhook = free_address();
//! let config = format!("[sources.dynamics]\ntype = \"crm\"\nlisten = \"{webhook}\"\n");
//! let mut actlog = Actlog::start(folder.path(), &config).await;
//!
//! let mut generator = Generator::new(1);
//! let mut connection = Connection::open(webhook).await?;
//! let mut body = Vec::new();
//! let expected = generator.body(&mut body);
//! let headers = generator.headers(&expected);
//! let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
//! assert_eq!(connection.request("POST", "/", &headers, &body).await?.status, 200);
//!
//! actlog.process.kill();
//! actlog.restart().await;
//! # Ok(())
//! # }
//! ```

pub mod certificates;
pub mod compliance;
pub mod dataverse_server;
pub mod entra;
pub mod feed_torture;
pub mod fixtures;
pub mod generator;
pub mod http;
pub mod office_server;
pub mod office_torture;
pub mod peers;
pub mod process;
pub mod proxy;
mod random;
pub mod records;
pub mod server;
pub mod storage;
pub mod torture;
