//! How one worker of a vGPU takes over from another.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// What came of it when a worker had ended by itself and another was to take over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Recovery {
    /// How it came out.
    pub outcome: Outcome,
    /// In words.
    #[schema(
        example = "the device has the state that it had; after 12 ms; crashes within a minute: 1"
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

/// That a worker of the installed program took over from one that served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Upgrade {
    /// Which vGPU.
    pub uuid: Uuid,
    /// The new worker's process.
    pub pid: u32,
    /// How long its client was not served, in microseconds.
    pub pause_us: u64,
    /// Whether a client was connected.
    pub connected: bool,
    /// Whether the device has the state that it had.
    pub exact: bool,
}
