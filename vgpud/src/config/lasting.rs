//! What lasts: workers that end by themselves.

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
