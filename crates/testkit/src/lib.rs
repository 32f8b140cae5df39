//! What tests of actlog and of its plugins stand on.
pub mod compliance;
pub mod fixtures;
pub mod generator;
pub mod http;
pub mod process;
mod random;
pub mod records;
pub mod storage;
