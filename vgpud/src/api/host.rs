//! What this host can do.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fact {
    /// What was looked at.
    #[schema(example = "landlock")]
    pub name: String,
    /// Whether it is as it should be.
    pub is_good: bool,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// What this host can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostFacts {
    /// The daemon's version.
    pub version: String,
    /// The daemon's process.
    pub pid: u32,
    /// The kernel's release.
    pub kernel: String,
    /// CPUs that the daemon may use.
    pub cpus: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// What was looked at.
    pub facts: Vec<Fact>,
}
