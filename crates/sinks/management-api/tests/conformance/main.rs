//! The service is what collectors take Microsoft's for: the ten rules that decide whether they work, every error code,
//! and the shapes of all answers.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what fails here fails the test")]

mod access;
mod content;
mod errors;
mod requests;
mod rules;
#[path = "../service/mod.rs"]
mod service;

use std::time::Duration;

use serde_json::Value;

const GENERAL: &str = "contentType=Audit.General";
const OTHER: &str = "99999999-9999-9999-9999-999999999999";
const DAY: Duration = Duration::from_secs(86_400);

/// The keys of an object, in their order.
fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Whether keys are in a JSON text, in that order.
fn are_in_order(text: &str, keys: &[&str]) -> bool {
    let places: Vec<_> = keys.iter().map(|key| text.find(&format!("\"{key}\":"))).collect();
    places.iter().all(Option::is_some) && places.is_sorted()
}

/// Whether a text is `YYYY-MM-DDTHH:MM:SS.mmmZ`, and nothing else.
fn is_content_time(text: &str) -> bool {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00T00:00:00.000Z"
}
