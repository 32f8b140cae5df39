//! Wires sources to sinks from a configuration
