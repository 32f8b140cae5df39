//! Dataverse's execution contexts, messages, entities and queries
