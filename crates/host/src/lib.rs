//! The host: configuration, command line, and the plugins that a deployment enables
