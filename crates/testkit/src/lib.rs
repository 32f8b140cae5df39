//! What tests of actlog and of its plugins stand on.
pub mod compliance;
mod random;
pub mod records;
pub mod storage;
