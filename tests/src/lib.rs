//! End-to-end tests over the real binary

pub mod cargo;
