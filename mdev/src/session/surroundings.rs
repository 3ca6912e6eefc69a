//! What a session is given besides its client and its device.

use std::sync::Arc;
use std::time::Duration;

use crate::client_log::ClientLog;
use crate::irq::Interrupts;
use crate::metrics::Metrics;
use crate::polling::Polling;

/// What a session is given besides its client and its device. Clones speak of the same instance.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The device's interrupts.
    pub interrupts: Interrupts,
    /// Where to count.
    pub metrics: Arc<Metrics>,
    /// How to wait.
    pub polling: Polling,
    /// How long a client may owe us its VERSION or the rest of a message: nobody else can connect
    /// meanwhile.
    pub patience: Duration,
    /// Where to say what clients do.
    pub log: Arc<ClientLog>,
}

impl Surroundings {
    /// As a worker needs them, of the device that `interrupts` were given to.
    pub fn new(interrupts: Interrupts) -> Self {
        Self {
            interrupts,
            metrics: Arc::default(),
            polling: Polling::default(),
            patience: Duration::from_secs(5),
            log: Arc::default(),
        }
    }
}
