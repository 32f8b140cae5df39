//! The one hardened HTTP server that plugins use
