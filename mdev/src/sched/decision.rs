//! What goes into the scheduler and what comes out, as values.

use super::clients::ClientId;
use super::units::{Nanos, Time, VirtualTime};

/// An engine of the parent, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EngineId(pub(super) u32);

impl EngineId {
    /// Which of the parent's engines, from 0 on in the order they were added.
    pub fn index(self) -> u32 {
        self.0
    }
}

/// A job that has arrived. Numbers are not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub(super) u64);

impl JobId {
    /// How many jobs had arrived before.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// What a job is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Class {
    /// A picture on its way to a screen: short, and somebody looks at it. Within a small budget it
    /// waits for at most one running job, and for no ceiling.
    Display,
    /// All else.
    #[default]
    Render,
}

/// A job that a client would like to have run.
///
/// A client's jobs of one class run in their order. Those of the display class overtake the others,
/// so a job that needs another one's result must not be handed in before that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// What it is for.
    pub class: Class,
    /// How long it will take, as far as is known; charged until the truth is.
    pub estimate: Nanos,
}

/// Why a job was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// It is of the display class, and its client has display budget left.
    Display,
    /// Its client has had less than it has reserved.
    Reservation,
    /// Its client is the one that has had least for its weight.
    Turn,
}

/// One decision: this job runs now. The fields after `why` are for those who ask later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Where.
    pub engine: EngineId,
    /// Whose.
    pub client: ClientId,
    /// Which.
    pub job: JobId,
    /// What it is for.
    pub class: Class,
    /// Why this one.
    pub why: Why,
    /// When.
    pub at: Time,
    /// How long the job had waited.
    pub waited: Nanos,
    /// What is charged until the job has ended.
    pub estimate: Nanos,
    /// The client's virtual time before that charge, its *start tag*.
    pub start: VirtualTime,
    /// The engine's virtual time, which clients that wake start from.
    pub virtual_time: VirtualTime,
}
