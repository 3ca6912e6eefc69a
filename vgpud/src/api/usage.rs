//! What vGPUs take of the host.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// What the worker of one vGPU takes of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceUsage {
    /// Which vGPU.
    pub uuid: Uuid,
    /// CPU time of its worker, in nanoseconds, since that started. The kernel counts in hundredths of
    /// a second.
    pub cpu_ns: u64,
    /// Bytes of its worker's memory that lie in RAM, shared ones included.
    pub resident_bytes: u64,
}
