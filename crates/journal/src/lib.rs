//! The durable, ordered log between sources and sinks
