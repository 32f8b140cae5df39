//! A server of the Office 365 Management Activity API.
