//! Directory of users.
