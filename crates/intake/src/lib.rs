//! Ways in.
