//! How a component is.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// The state of a component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Status {
    /// Being built, or waiting to be built again after an error.
    Starting,
    /// Working.
    Ok,
    /// Working, but something needs attention.
    Degraded {
        /// What, for a person.
        reason: String,
    },
    /// Not working; the runtime will try again.
    Failed {
        /// What, for a person.
        reason: String,
    },
    /// Ended, or told to stop.
    Stopped,
}

/// A component's own view of its state, which it may change at any time.
#[derive(Clone, Debug)]
pub struct Health(Arc<Mutex<Status>>);

impl Default for Health {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Status::Starting)))
    }
}

impl Health {
    /// Says how the component is.
    pub fn set(&self, status: Status) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    /// How the component is.
    pub fn get(&self) -> Status {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
