//! Why a request was refused: RFC 9457, and the errno.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of a [`Problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    /// `about:blank`: the errno tells the kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// The HTTP status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong, in words.
    pub detail: String,
    /// The errno that fits, by name, as the kernel's mdev would give it.
    #[schema(example = "EEXIST")]
    pub errno: String,
    /// What to do about it.
    pub remedy: Option<String>,
}
