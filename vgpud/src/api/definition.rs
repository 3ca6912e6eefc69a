//! Persistent definitions: mdevctl's.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Attribute;

/// When a defined vGPU is started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum StartMode {
    /// With the daemon.
    Auto,
    /// When it is asked for.
    #[default]
    Manual,
}

/// What is to be kept for a UUID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DefinitionRequest {
    /// Its type.
    #[serde(rename = "type")]
    #[schema(example = "bochs-16m", max_length = 64)]
    pub type_name: String,
    /// When it is started.
    #[serde(default)]
    pub start: StartMode,
    /// Its attributes, in the order in which they are set.
    #[serde(default)]
    #[schema(max_items = 64)]
    pub attributes: Vec<Attribute>,
}

/// A persistent definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Definition {
    /// Its parent.
    pub parent: String,
    /// Its name.
    pub uuid: Uuid,
    /// Its type.
    #[serde(rename = "type")]
    pub type_name: String,
    /// When it is started.
    pub start: StartMode,
    /// Its attributes, in the order in which they are set.
    pub attributes: Vec<Attribute>,
    /// Whether an instance of this UUID is there.
    pub active: bool,
}
