//! What a session is given besides its client and its device.

use std::sync::Arc;
use std::time::Duration;

use crate::client_log::ClientLog;
use crate::device::Services;
use crate::dma::{DmaLimits, GuestMemory};
use crate::irq::Interrupts;
use crate::keep::Keep;
use crate::metrics::Metrics;
use crate::polling::Polling;

/// What a session is given besides its client and its device. Clones speak of the same instance.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The device's interrupts.
    pub interrupts: Interrupts,
    /// The guest's memory, which each session fills anew.
    pub memory: GuestMemory,
    /// How much of it a client may map, and from where.
    pub limits: DmaLimits,
    /// Where to count.
    pub metrics: Arc<Metrics>,
    /// How to wait.
    pub polling: Polling,
    /// How long a client may owe us its VERSION or the rest of a message: nobody else can connect
    /// meanwhile.
    pub patience: Duration,
    /// What outlives the process.
    pub keep: Keep,
    /// Where to say what clients do.
    pub log: Arc<ClientLog>,
}

impl Surroundings {
    /// As a worker needs them, of the device that `services` were given to.
    pub fn new(services: &Services) -> Self {
        Self {
            interrupts: services.interrupts.clone(),
            memory: services.memory.clone(),
            limits: DmaLimits::default(),
            metrics: Arc::default(),
            polling: Polling::default(),
            patience: Duration::from_secs(5),
            keep: services.keep.clone(),
            log: Arc::default(),
        }
    }
}
