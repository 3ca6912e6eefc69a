//! What travels over the HTTP API, as values: the daemon and its clients share them.
//!
//! - [`instance`]: vGPUs, what is asked of them and what is told,
//! - [`console`]: their displays, for viewers,
//! - [`succession`]: how one worker takes over from another,
//! - [`engine`]: engines that vGPUs share, and who has used how much,
//! - [`parent`]: parents, their types and pools,
//! - [`definition`]: what is to be there after the next start,
//! - [`usage`]: what vGPUs take of the host,
//! - [`event`]: what happened,
//! - [`host`]: what this host can do,
//! - [`problem`]: why a request was refused.

pub mod console;
pub mod definition;
pub mod engine;
pub mod event;
pub mod host;
pub mod instance;
pub mod parent;
pub mod problem;
pub mod succession;
pub mod usage;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use console::{Console, ConsoleRequest, ConsoleTcp};
pub use definition::{Definition, DefinitionRequest, StartMode};
pub use engine::{
    Engine, EngineChanges, EngineSettings, EngineSlice, EngineState, EngineUse, Policy, Priority,
    SliceReason,
};
pub use event::{Event, EventKind};
pub use host::{Fact, HostFacts};
pub use instance::{
    AttributeChanges, CreateRequest, Exit, Function, Instance, InstanceState, Picture,
    SocketAccess, View, WorkerStatus,
};
pub use parent::{Parent, PoolUse, Type};
pub use problem::Problem;
pub use succession::{Outcome, Recovery, Upgrade};
pub use usage::InstanceUsage;

/// An attribute and its value. A name may come twice, and the later one wins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Attribute {
    /// Which.
    #[schema(example = "mode", pattern = "^[A-Za-z0-9._-]{1,64}$")]
    pub name: String,
    /// Its value.
    #[schema(
        example = "1280x720",
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]{0,256}$"
    )]
    pub value: String,
}

impl From<worker::protocol::Attribute> for Attribute {
    fn from(attribute: worker::protocol::Attribute) -> Self {
        Self {
            name: attribute.name,
            value: attribute.value,
        }
    }
}
