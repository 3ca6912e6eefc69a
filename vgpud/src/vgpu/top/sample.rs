//! What the daemon says at one time.

use std::time::Instant;

use vgpud::api::{Engine, Instance, InstanceUsage};
use vgpud::client::{Client, ClientError};

/// What there is, and what it has used so far.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// When it was told.
    pub(super) at: Instant,
    pub(super) engines: Vec<Engine>,
    pub(super) instances: Vec<Instance>,
    pub(super) usage: Vec<InstanceUsage>,
}

impl Sample {
    /// Asks for it; of one parent, if one is named.
    pub(super) fn take(client: &Client, parent: Option<&str>) -> Result<Self, ClientError> {
        let mut instances = client.instances()?;
        let mut engines = client.engines()?;
        let usage = client.usage()?;
        if let Some(parent) = parent {
            instances.retain(|instance| instance.parent == parent);
            engines.retain(|engine| engine.parent == parent);
        }
        Ok(Self {
            at: Instant::now(),
            engines,
            instances,
            usage,
        })
    }
}
