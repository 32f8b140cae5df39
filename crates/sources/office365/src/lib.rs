//! Office 365.
