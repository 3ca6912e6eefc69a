//! What lasts: workers that end by themselves, and those that run when the daemon is stopped.

use serde::Deserialize;

/// What becomes of a vGPU whose worker ended by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Another worker takes over, under its client's connection.
    #[default]
    OnCrash,
    /// It has failed.
    Never,
}

/// The daemon itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DaemonConfig {
    /// What becomes of vGPUs that run when it is stopped in order.
    #[serde(default)]
    pub on_stop: OnStop,
}

/// What becomes of vGPUs that run when the daemon is stopped in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnStop {
    /// They go on, and the next daemon takes them over.
    #[default]
    Keep,
    /// They are stopped, and started with the next daemon.
    End,
}
