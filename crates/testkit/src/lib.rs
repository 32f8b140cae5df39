//! Compliance kit, event generator and fault-injecting storage for tests
