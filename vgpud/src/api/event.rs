//! What happened.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// An instance is there.
    Created,
    /// Its worker runs.
    Started,
    /// Its worker was ended.
    Stopped,
    /// Its worker ended by itself.
    Crashed,
    /// Another worker took over from one that ended by itself.
    Recovered,
    /// Its workers end by themselves too often, and are not replaced any more.
    GaveUp,
    /// A daemon that was started after its worker can continue it, should it end.
    Adopted,
    /// The same, but it cannot.
    NotAdopted,
    /// A worker of the installed program took over from the one that served.
    Upgraded,
    /// It is gone, and its place is free.
    Destroyed,
    /// Attributes were changed.
    Modified,
    /// A job of it took longer than it may on the engine that it shares.
    Overlong,
    /// A state was put into it.
    Restored,
    /// A definition was written.
    Defined,
    /// A definition was removed.
    Undefined,
    /// What was to be started with the daemon could not be.
    AutostartFailed,
    /// The reader was too slow, and missed events.
    Missed,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Counts up while the daemon lives.
    pub id: u64,
    /// When: seconds since 1970.
    pub at: u64,
    /// What.
    pub kind: EventKind,
    /// The vGPU that it happened to.
    pub instance: Option<Uuid>,
    /// Its parent.
    pub parent: Option<String>,
    /// In words.
    pub detail: String,
}
