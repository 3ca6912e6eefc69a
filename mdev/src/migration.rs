//! The state of a device, taken out of one and put into another of the same type: by a VMM that
//! migrates its guest, or by whoever asks the worker.
//!
//! - [`Migration`]: what a device implements.
//! - [`machine`]: VFIO's states, and the way from one to another.
//! - [`migrator`]: the state of one device under its client, and what each step does.
//! - [`saving`]: the stream that is read of a device, memory first.
//! - [`pages`]: which pages of a memory have changed since they were read.
//! - [`loading`]: the stream that is written to a device, until it is complete.
//! - [`snapshot`]: all of it at once, without a client.
//!
//! Configuration space and the memories that a client maps are saved and restored here; a device
//! has to care for its registers alone. The bytes are [`crate::state`]'s.

pub mod loading;
pub mod machine;
pub mod migrator;
pub mod pages;
pub mod saving;
pub mod snapshot;

use crate::region_memory::RegionMemory;
use crate::state::{Fields, StateError};

/// A device whose state can be taken out, and put into another of the same type.
///
/// Every call comes from the session's thread, as those of [`crate::MediatedDevice`] do.
pub trait Migration {
    /// The type of the device. A state of another type is not taken.
    fn kind(&self) -> &str;

    /// The version of what [`Self::save`] writes, from 1. What older versions wrote is read.
    fn version(&self) -> u32;

    /// Stops the device: on return none of its threads changes its state, reaches guest memory or
    /// interrupts. What is under way ends, or is kept to be done again. The client answers no
    /// message meanwhile: who may wait for one is freed by [`GuestMemory::cancel_waits`]. Does
    /// nothing to a device that is stopped.
    ///
    /// [`GuestMemory::cancel_waits`]: crate::dma::GuestMemory::cancel_waits
    fn stop(&mut self);

    /// Goes on where [`Self::stop`] or [`Self::restore`] left. Does nothing to a device that runs.
    fn resume(&mut self);

    /// Whether the device is stopped.
    fn is_stopped(&self) -> bool;

    /// The memories that clients map, always in the same order. They are saved before the rest,
    /// and while the device still runs if the client wants that.
    fn memories(&self) -> Vec<&RegionMemory> {
        Vec::new()
    }

    /// Appends what else there is. The device is stopped.
    fn save(&mut self, out: &mut Vec<u8>);

    /// Takes what a device of this type has saved. On error nothing has changed. The device is
    /// stopped; its memories and configuration space follow.
    fn restore(&mut self, version: u32, saved: Fields<'_>) -> Result<(), StateError>;

    /// Memories and configuration space are now the saved ones.
    fn restored(&mut self) {}

    /// Appends what [`Self::recall`] takes in a process that has this device's memories. Called
    /// after every few requests, while the device runs: what its threads have under way is told as
    /// to be begun anew. `false` if the device cannot: then it is reset when its process has died.
    fn checkpoint(&mut self, out: &mut Vec<u8>) -> bool {
        let _ = out;
        false
    }

    /// Takes what a device of this type told by [`Self::checkpoint`] in a process that is gone.
    /// The device is stopped and has that one's memories; on error nothing has changed.
    fn recall(&mut self, version: u32, told: Fields<'_>) -> Result<(), StateError> {
        self.restore(version, told)
    }
}
