//! Parents, their types and pools.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Attribute;

/// A physical GPU, or the software one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Parent {
    /// Its name.
    #[schema(example = "soft0")]
    pub name: String,
    /// What it is; why it offers nothing, if it does not.
    pub description: String,
    /// What is shared by all its types: places for vGPUs.
    pub instances: PoolUse,
    /// What is shared by all its types: bytes of video memory.
    pub video_memory: PoolUse,
    /// What can be created on it.
    pub types: Vec<Type>,
    /// The vGPUs on it.
    pub children: Vec<Uuid>,
}

/// How much of a pool is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PoolUse {
    /// All there is.
    pub total: u64,
    /// What instances hold.
    pub used: u64,
}

/// What can be created on a parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Type {
    /// Its parent.
    pub parent: String,
    /// `<driver>-<id>`, or as the configuration names it.
    #[schema(example = "bochs-16m")]
    pub name: String,
    /// The driver's type behind it.
    pub base: String,
    /// A few words for a list.
    pub title: String,
    /// What one gets, in a sentence.
    pub description: String,
    /// The bus that a VMM finds it on, as the kernel's mdev says it.
    #[schema(example = "vfio-pci")]
    pub device_api: String,
    /// Attributes that every instance of it starts with.
    pub attributes: Vec<Attribute>,
    /// Bytes of its parent's video memory that one instance takes.
    pub video_memory: u64,
    /// How many more can be created now, if nothing else is.
    pub available_instances: u64,
    /// The instances of this type.
    pub children: Vec<Uuid>,
}
