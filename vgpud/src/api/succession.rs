//! How one worker of a vGPU takes over from another.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What came of it when a worker had ended by itself and another was to take over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Recovery {
    /// How it came out.
    pub outcome: Outcome,
    /// In words.
    #[schema(
        example = "the device has the state that it had; 12 ms; the 1st crash within a minute"
    )]
    pub detail: String,
    /// How long the client was not served.
    pub took_ms: u64,
    /// When: seconds since 1970.
    pub at: u64,
}

/// How a recovery came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The device has the state that it had.
    Exact,
    /// The device was reset: its driver in the guest has to be bound anew.
    Reset,
    /// It was given up: the client's connection was closed.
    GivenUp,
}
