//! Dynamics 365 webhook posts and files of them
