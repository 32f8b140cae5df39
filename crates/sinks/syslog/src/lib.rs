//! Syslog receivers.
