//! The Office 365 audit record.
