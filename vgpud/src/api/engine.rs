//! Engines that vGPUs share: how, and who has used how much.
//!
//! Times are nanoseconds of `CLOCK_MONOTONIC`; shares are thousandths of what the engine has.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// How the time of an engine is divided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// By weight among those who want it; what one does not use, the others may.
    #[default]
    BestEffort,
    /// Each has a ceiling of its part, whoever of them is busy.
    EqualShare,
    /// Each has what it has reserved, and no more.
    FixedShare,
}

/// An engine of a parent, just now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Engine {
    /// Its parent.
    #[schema(example = "soft0")]
    pub parent: String,
    /// How it is shared.
    pub policy: Policy,
    /// How many jobs run on it at once.
    pub places: u32,
    /// A job that takes longer than so many milliseconds is ended.
    pub job_limit_ms: u64,
    /// When this was told.
    pub at_ns: u64,
    /// How much of it was used in the last second.
    pub busy_permille: u32,
    /// What was used since the daemon started.
    pub used_ns: u64,
    /// Its users: each vGPU that runs and shares it.
    pub clients: Vec<EngineUse>,
}

/// What one vGPU has of the engine that it shares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EngineUse {
    /// Which vGPU.
    pub uuid: Uuid,
    /// What it was given.
    pub settings: EngineSettings,
    /// What it does just now.
    pub state: EngineState,
    /// How much of the engine it has used in the last second.
    pub share_permille: u32,
    /// How much of the last second it had something to do.
    pub wanted_permille: u32,
    /// Jobs that wait in its worker.
    pub queued: u64,
    /// What it has used since its worker started, or the daemon if that was later. The same holds of
    /// the numbers below.
    pub used_ns: u64,
    /// Jobs that have ended.
    pub jobs: u64,
    /// How long those that have begun had waited, all together.
    pub jobs_waited_ns: u64,
    /// How often it was granted the engine.
    pub leases: u64,
    /// How long it had waited for that, all together.
    pub leases_waited_ns: u64,
    /// The longest of these waits.
    pub longest_wait_ns: u64,
    /// Jobs that took longer than they may.
    pub overlong_jobs: u64,
    /// How often its worker has used more than it said.
    pub misreports: u64,
}

/// What a vGPU is given of an engine. Each is an attribute too, of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EngineSettings {
    /// Its part in relation to others: 1 to 10000.
    pub weight: u32,
    /// Its ceiling in thousandths of the engine, even when others idle.
    pub cap_permille: Option<u32>,
    /// What is there for it when it wants it.
    pub reservation_permille: Option<u32>,
    /// Who waits for whom.
    pub priority: Priority,
    /// Most pictures in a second.
    pub frame_rate_limit: Option<u32>,
    /// Whether it is granted nothing, for now.
    pub stop: bool,
}

/// Who waits for whom. It moves nobody's share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// After the others.
    Low,
    /// As most.
    #[default]
    Normal,
    /// Before the others.
    High,
}

/// What a vGPU does with an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EngineState {
    /// It has nothing to do.
    Idle,
    /// It waits for its turn, or for its ceiling.
    Waiting,
    /// It has the engine.
    Running,
    /// It is granted nothing, as its settings say.
    Stopped,
    /// A job of it runs that takes longer than it may, or its process stands still.
    Stuck,
}

/// How an engine is to be shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EngineChanges {
    /// From the next decision on, and after the daemon's next start.
    pub policy: Policy,
}

/// One decision: a vGPU had the engine for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EngineSlice {
    /// Counts up while the daemon lives.
    pub id: u64,
    /// Who.
    pub uuid: Uuid,
    /// When it was granted.
    pub begun_ns: u64,
    /// When it was over.
    pub ended_ns: u64,
    /// How long it had waited.
    pub waited_ns: u64,
    /// How much of it was used.
    pub used_ns: u64,
    /// What it was charged for: that, and what it kept from others and did not use.
    #[serde(default)]
    pub charged_ns: u64,
    /// Why it was its turn.
    pub why: SliceReason,
}

/// Why a vGPU was granted an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SliceReason {
    /// It has something to show.
    Display,
    /// It has had less than it has reserved.
    Reservation,
    /// It has had least for its weight.
    Turn,
}
