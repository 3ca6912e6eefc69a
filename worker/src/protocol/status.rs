//! What a worker says of itself.

use mdev::scanout::Geometry;
use serde::{Deserialize, Serialize};

use crate::arguments::SandboxMode;

/// How a worker is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The type it serves.
    #[serde(rename = "type")]
    pub type_name: String,
    /// Its process.
    pub pid: u32,
    /// Whether a VMM is connected.
    pub connected: bool,
    /// What is shown now, if anything; of several heads, by the first.
    pub scanout: Option<Geometry>,
    /// By the heads after it, up to the last that shows anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further_scanouts: Vec<Option<Geometry>>,
    /// The device's attributes.
    pub attributes: Vec<Attribute>,
    /// What was counted since it started.
    pub counters: Counters,
    /// How it is confined.
    pub sandbox: Sandbox,
    /// Mappings of guest memory that there are.
    #[serde(default)]
    pub mappings: u64,
    /// Pages of guest memory that the device holds.
    #[serde(default)]
    pub pinned_pages: u64,
    /// The vGPUs that a worker of a physical device serves: only its own control socket tells. The
    /// type is then the kind of device, and it is connected if any VMM is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seats: Option<u64>,
}

/// How a worker is confined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// What becomes of system calls that are not allowed.
    pub seccomp: SandboxMode,
    /// How much of the file system is shut by Landlock.
    pub landlock: Landlock,
    /// Whether a program that it starts gains nothing by that.
    pub no_new_privs: bool,
    /// The capabilities that it has, a bit for each: `linux/capability.h`.
    pub capabilities: u64,
    /// Whose process it is.
    pub user: u32,
}

/// How much Landlock forbids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Landlock {
    /// All that is asked for.
    Full,
    /// What an older kernel knows of it.
    Partial,
    /// The kernel has none, or it was not asked for.
    #[default]
    None,
}

/// An attribute and its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    /// Which.
    pub name: String,
    /// Its value now.
    pub value: String,
}

/// [`mdev::metrics::Metrics`] at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "they stand at mdev::metrics::Metrics")]
pub struct Counters {
    pub sessions: u64,
    pub refused_clients: u64,
    pub requests: u64,
    pub refused_requests: u64,
    pub region_reads: u64,
    pub region_writes: u64,
    #[serde(default)]
    pub region_read_bytes: u64,
    #[serde(default)]
    pub region_write_bytes: u64,
    pub faults: u64,
    pub dma_maps: u64,
    pub dma_unmaps: u64,
    pub resets: u64,
    pub interrupts: u64,
}

impl std::fmt::Display for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.seccomp {
            SandboxMode::On => "seccomp",
            SandboxMode::Log => "seccomp, which only logs",
            SandboxMode::Off => "no seccomp",
        })?;
        f.write_str(match self.landlock {
            Landlock::Full => "; Landlock",
            Landlock::Partial => "; an older Landlock",
            Landlock::None => "; no Landlock",
        })?;
        match self.capabilities {
            0 => f.write_str("; no capabilities")?,
            some => write!(f, "; capabilities {some:#x}")?,
        }
        write!(f, "; user {}", self.user)
    }
}
