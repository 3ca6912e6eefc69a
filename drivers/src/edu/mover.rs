//! Who does transfers, and has the buffer that they go to and come from.
//!
//! Here it is [`Copier`]: this process copies. What has a physical device do it is
//! `edu_host`'s.

use std::sync::Arc;

use mdev::dma::GuestMemory;
use mdev::region_memory::RegionMemory;

use super::settings::Way;
use super::transfer::{BUFFER_LEN, Buffer, Transfer, TransferError};

/// What does transfers, on the engine's thread.
pub(crate) trait Mover: Send {
    /// What the buffer holds.
    fn buffer(&self) -> Buffer;

    /// Has the buffer hold this.
    fn hold(&mut self, buffer: &Buffer);

    /// Whether transfers may wait for those of other devices: they touch no memory before they say so.
    fn may_wait(&self) -> bool {
        false
    }

    /// Does all of a transfer, or, on error, nothing to the buffer.
    fn run(
        &mut self,
        transfer: &Transfer,
        memory: &GuestMemory,
        way: Way,
        flow: &dyn Flow,
    ) -> Result<(), TransferError>;
}

/// What a transfer says of itself while it runs, and what it is told.
pub(crate) trait Flow {
    /// From now on it may be in guest memory, or is not any more.
    fn touch(&self, is_touching: bool);

    /// Whether it is to end before its time, as [`TransferError::Interrupted`].
    fn is_hasty(&self) -> bool;
}

/// Copies between guest memory and a buffer of its own.
pub(super) struct Copier {
    buffer: Buffer,
    /// Where the buffer is told, for another process to find.
    store: Option<Arc<RegionMemory>>,
}

impl Copier {
    pub(super) fn new(store: Option<Arc<RegionMemory>>) -> Self {
        Self {
            buffer: [0; BUFFER_LEN],
            store,
        }
    }

    fn store(&self) {
        if let Some(store) = &self.store
            && let Err(error) = store.write(0, &self.buffer)
        {
            tracing::warn!("the buffer is not stored: {error}");
        }
    }
}

impl Mover for Copier {
    fn buffer(&self) -> Buffer {
        self.buffer
    }

    fn hold(&mut self, buffer: &Buffer) {
        self.buffer = *buffer;
        self.store();
    }

    fn run(
        &mut self,
        transfer: &Transfer,
        memory: &GuestMemory,
        way: Way,
        flow: &dyn Flow,
    ) -> Result<(), TransferError> {
        flow.touch(true);
        let done = transfer.run(memory, &mut self.buffer, way);
        self.store();
        done
    }
}
