//! What a type of device implements.

use mdev::device::{AttributeError, Reset, ResizeError};
use mdev::pci::Class;
use mdev::region_memory::RegionMemory;
use mdev::state::{Fields, StateError};

use crate::chain::{Cancelled, Chain};
use crate::engine::Waker;

/// A type of virtio device, as the session's thread sees it.
///
/// Every call comes from that thread, and while one of those that say so runs, no request is being
/// handled. What it shares with its [`QueueHandler`] it protects itself.
pub trait DeviceType: Send {
    /// Virtio's number for it (Virtio 1.2, section 5).
    fn id(&self) -> u16;

    /// What PCI calls such a device.
    fn class(&self) -> Class;

    /// The name of its type: a saved state of another is not taken.
    fn kind(&self) -> &str;

    /// The features of its own that it offers. Those of the transport are not among them.
    fn features(&self) -> u64;

    /// The largest size of each queue: a power of two, at most 1024. There are 64 queues at most.
    fn queue_sizes(&self) -> &[u16];

    /// Its configuration as it is now, at most 4096 bytes.
    fn config(&self) -> Vec<u8>;

    /// The driver writes to the configuration. The access lies inside it.
    fn write_config(&mut self, offset: usize, data: &[u8]);

    /// What handles its requests, for the thread that serves the queues. Asked for once.
    fn handler(&mut self) -> Box<dyn QueueHandler>;

    /// What has its queues looked at again, for a device that fills buffers by itself: see
    /// [`QueueHandler::is_ready`]. Given once, after the handler was asked for.
    fn wake_with(&mut self, waker: Waker) {
        let _ = waker;
    }

    /// Becomes as it was when it was made, save what attributes say. No request is being handled.
    fn reset(&mut self, cause: Reset);

    /// Takes out of guest memory what it wants of it without being asked by the driver: that memory may
    /// be about to go, or the state to be saved. No request is being handled.
    fn settle(&mut self) {}

    /// Its attributes, with their values now.
    fn attributes(&self) -> Vec<(&'static str, String)>;

    /// Changes an attribute. On error nothing has changed; `true` if the configuration has, of
    /// which the driver is told then.
    fn set_attribute(&mut self, name: &str, value: &str) -> Result<bool, AttributeError>;

    /// Has a head of a display ask its driver for another size, see [`mdev::MediatedDevice::resize`].
    /// `true` if the configuration has changed.
    fn resize(&mut self, head: u32, width: u32, height: u32) -> Result<bool, ResizeError> {
        let _ = (head, width, height);
        Err(ResizeError::Unsupported)
    }

    /// The memories that are saved with it, always in the same order.
    fn memories(&self) -> Vec<&RegionMemory>;

    /// Whether all is there that a saved state needs.
    fn is_whole(&self) -> bool {
        true
    }

    /// Appends its state, without its memories. No request is being handled.
    fn save(&self, out: &mut Vec<u8>);

    /// Takes what [`Self::save`] has written. On error nothing has changed. No request is being
    /// handled.
    fn restore(&mut self, saved: &mut Fields<'_>) -> Result<(), StateError>;

    /// Its memories are now the saved ones.
    fn restored(&mut self);

    /// Appends what another process cannot find where the handler has stored it. Requests may be
    /// handled meanwhile.
    fn checkpoint(&self, out: &mut Vec<u8>);

    /// Takes what [`Self::checkpoint`] told in a process that is gone, and what its handler stored.
    /// On error nothing has changed.
    fn recall(&mut self, told: &mut Fields<'_>) -> Result<(), StateError>;
}

/// What handles the requests of a device, on the thread that serves its queues.
pub trait QueueHandler: Send {
    /// Does what does not come from the driver, for a device that was woken by its [`Waker`]: called
    /// whenever a queue has its turn, also one that the driver has not set up.
    fn attend(&mut self) {}

    /// Whether it has a use for a request at a position of a queue, should there be one: a device
    /// that speaks without being asked keeps buffers until then. Asked again after each
    /// notification, and when it is woken by its [`Waker`].
    fn is_ready(&mut self, queue: u16, position: u64) -> bool {
        let _ = (queue, position);
        true
    }

    /// Handles the request at a position of a queue, counted from 0 since the last reset. It has
    /// ended when this returns; the answer is how many bytes were written into its buffers.
    ///
    /// It may come twice, if a process dies at its end: then what it did is there, and must not be
    /// done again where that would differ. A request that was cancelled comes again as well.
    fn handle(
        &mut self,
        queue: u16,
        position: u64,
        chain: &mut Chain<'_>,
    ) -> Result<u32, Cancelled>;
}
