//! The audit record in the shapes of other systems.
