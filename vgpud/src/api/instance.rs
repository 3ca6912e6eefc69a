//! vGPUs.

use std::collections::BTreeMap;

use mdev::scanout::Geometry;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{Attribute, Recovery};

/// What a vGPU is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRequest {
    /// The parent that it takes its share of.
    #[schema(example = "soft0", max_length = 64)]
    pub parent: String,
    /// Its type, one that the parent offers.
    #[serde(rename = "type")]
    #[schema(example = "bochs-16m", max_length = 64)]
    pub type_name: String,
    /// Its attributes.
    #[serde(default)]
    #[schema(max_items = 64)]
    pub attributes: Vec<Attribute>,
    /// Who may connect to it. What is left out is as the configuration says.
    #[serde(default)]
    pub socket: SocketAccess,
    /// Whether its worker is started at once.
    #[serde(default = "yes")]
    pub start: bool,
}

fn yes() -> bool {
    true
}

/// Who may connect to a socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SocketAccess {
    /// Its owner: a name or a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "root", max_length = 64)]
    pub owner: Option<String>,
    /// Its group: a name or a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "root", max_length = 64)]
    pub group: Option<String>,
    /// Its mode, in octal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "0660", pattern = "^0?[0-7]{3}$")]
    pub mode: Option<String>,
}

impl SocketAccess {
    /// The same, with what is left out as it is usual.
    pub(crate) fn or(&self, usual: &Self) -> Self {
        let or = |own: &Option<String>, usual: &Option<String>| own.clone().or(usual.clone());
        Self {
            owner: or(&self.owner, &usual.owner),
            group: or(&self.group, &usual.group),
            mode: or(&self.mode, &usual.mode),
        }
    }
}

/// Where a vGPU stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum InstanceState {
    /// It has no worker.
    Stopped,
    /// Its worker is being started.
    Starting,
    /// A VMM may connect.
    Running,
    /// Its worker ended by itself, and another takes over.
    Recovering,
    /// Its worker is being ended.
    Stopping,
    /// Its worker ended by itself: see `last_exit`.
    Failed,
}

/// A vGPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Instance {
    /// Its name.
    pub uuid: Uuid,
    /// The parent that it takes its share of.
    pub parent: String,
    /// Its type.
    #[serde(rename = "type")]
    pub type_name: String,
    /// The attributes it was given, or that were set since.
    pub attributes: Vec<Attribute>,
    /// Where it stands in its life.
    pub state: InstanceState,
    /// Where a VMM connects, while it runs.
    pub socket: String,
    /// Who may connect there.
    pub access: SocketAccess,
    /// Its worker's control socket.
    pub control: String,
    /// Its worker's process.
    pub pid: Option<u32>,
    /// What it is beside its display, as its attribute `input` says: what has been started of it.
    #[serde(default)]
    pub functions: Vec<Function>,
    /// How often its worker ended by itself.
    pub crashes: u64,
    /// How its worker ended the last time.
    pub last_exit: Option<Exit>,
    /// How often another worker took over from one that ended by itself.
    #[serde(default)]
    pub recoveries: u64,
    /// What came of it the last time.
    #[serde(default)]
    pub last_recovery: Option<Recovery>,
    /// How often its worker was replaced by one of the installed program.
    #[serde(default)]
    pub upgrades: u64,
    /// Whether a definition of this UUID is kept for its parent.
    pub defined: bool,
    /// When it was created: seconds since 1970.
    pub created_at: u64,
}

/// What a vGPU is beside its display: a PCI function of its own, with a worker of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Function {
    /// Which.
    #[schema(value_type = String, example = "keyboard")]
    pub name: crate::functions::Function,
    /// Where its worker stands in its life.
    pub state: InstanceState,
    /// Where a VMM connects, while it runs.
    pub socket: String,
    /// Its worker's control socket.
    pub control: String,
    /// Its worker's process.
    pub pid: Option<u32>,
    /// How often its worker ended by itself.
    pub crashes: u64,
    /// How its worker ended the last time.
    pub last_exit: Option<Exit>,
    /// How often another worker took over from one that ended by itself.
    pub recoveries: u64,
    /// How often its worker was replaced by one of the installed program.
    pub upgrades: u64,
}

/// How a worker ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Exit {
    /// In words.
    #[schema(example = "killed by SIGSEGV")]
    pub reason: String,
    /// Its exit code, if it had one.
    pub code: Option<i32>,
    /// The signal that ended it, by number.
    pub signal: Option<i32>,
    /// The last line of its log.
    pub last_words: Option<String>,
    /// When: seconds since 1970.
    pub at: u64,
}

/// What a worker says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkerStatus {
    /// Its process.
    pub pid: u32,
    /// Whether a VMM is connected.
    pub connected: bool,
    /// What it shows, if anything; of several heads, by the first.
    pub picture: Option<Picture>,
    /// By the heads after it, up to the last that shows anything.
    #[serde(default)]
    pub further_pictures: Vec<Option<Picture>>,
    /// The device's attributes, with their values now.
    pub attributes: Vec<Attribute>,
    /// What was counted since the worker started.
    pub counters: BTreeMap<String, u64>,
    /// Mappings of guest memory that there are.
    pub mappings: u64,
    /// Pages of guest memory that the device holds.
    pub pinned_pages: u64,
    /// How the worker is confined, in words.
    pub sandbox: String,
}

/// The size of a picture, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Picture {
    /// Across.
    pub width: u32,
    /// Down.
    pub height: u32,
}

/// Which picture of a display is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct View {
    /// That of which head, from 0.
    #[serde(default)]
    #[param(minimum = 0, maximum = 15)]
    pub head: u32,
    /// Whether the cursor lies over it, where the device has one. One that the guest draws is there
    /// anyway.
    #[serde(default)]
    pub cursor: bool,
}

impl From<Geometry> for Picture {
    fn from(Geometry { width, height, .. }: Geometry) -> Self {
        Self { width, height }
    }
}

impl From<worker::protocol::Status> for WorkerStatus {
    fn from(status: worker::protocol::Status) -> Self {
        // A struct of numbers: it is a map of numbers as JSON too.
        let counters = serde_json::to_value(&status.counters)
            .and_then(serde_json::from_value)
            .unwrap_or_default();
        let further = status.further_scanouts.into_iter();
        Self {
            pid: status.pid,
            connected: status.connected,
            picture: status.scanout.map(Into::into),
            further_pictures: further.map(|shown| shown.map(Into::into)).collect(),
            attributes: status.attributes.into_iter().map(Into::into).collect(),
            counters,
            mappings: status.mappings,
            pinned_pages: status.pinned_pages,
            sandbox: status.sandbox.to_string(),
        }
    }
}

/// Attributes that are to be changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttributeChanges {
    /// In the order in which they are set. If one is refused, none is changed.
    #[schema(min_items = 1, max_items = 64)]
    pub attributes: Vec<Attribute>,
}
