//! Virtio devices: the modern transport over PCI (Virtio 1.2, section 4.1) as a mediated device.
//!
//! A type of device implements [`DeviceType`] and [`QueueHandler`]; all that virtio devices share is
//! here. A guest's request crosses these modules, in this order:
//!
//! - [`transport`]: the PCI function. Routes an access to a register to one of the next three.
//! - `layout`: what lies where in its BARs, and its configuration space.
//! - `window`: the same registers, reached through configuration space.
//! - `common`: the common configuration: features, status, where the queues lie.
//! - `signals`: interrupts, by MSI-X or by the pin, and the status that says "reset me".
//! - `engine`: the thread that serves the queues, woken by notifications.
//! - `ring`: one split queue in guest memory, which the guest may change at any time.
//! - [`chain`]: the buffers of one request.
//! - [`device`]: what a type of device implements.
//!
//! Beside it: `guest` (a driver, for tests), `ledger` (how far each queue is served, for whoever goes on in another process) and
//! `state` (what is saved of a device).
//!
//! Not here: types of devices (`drivers`); packed rings; shared memory.

pub mod chain;
mod common;
pub mod device;
mod engine;
#[cfg(feature = "guest")]
pub mod guest;
mod layout;
mod ledger;
mod ring;
mod signals;
mod state;
pub mod transport;
mod window;

pub use chain::{Cancelled, Chain, ChainError};
pub use device::{DeviceType, QueueHandler};
pub use engine::Waker;
pub use transport::{Setting, VirtioPci};

/// Bits of features that the transport deals with (Virtio 1.2, section 6).
pub mod feature {
    /// A driver may put a table of descriptors into a buffer.
    pub const INDIRECT_DESC: u64 = 1 << 28;
    /// Both sides say at which index they want to hear.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// The device is not one of the time before Virtio 1.0.
    pub const VERSION_1: u64 = 1 << 32;
    /// Single queues can be reset.
    pub const RING_RESET: u64 = 1 << 40;
    /// All of them.
    pub(crate) const OF_THE_TRANSPORT: u64 = INDIRECT_DESC | EVENT_IDX | VERSION_1 | RING_RESET;
}
