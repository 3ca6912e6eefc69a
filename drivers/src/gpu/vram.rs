//! The memory that pixels are copied to: one sparse file for all resources.

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use kept::{Bytes, Memory};
use mdev::keep::Keep;
use mdev::region_memory::RegionMemory;

/// Name of the memory file, as `/proc/PID/maps` shows it.
const NAME: &str = "vgpud-gpu-vram";

/// Video memory.
#[derive(Debug)]
pub(super) struct Vram {
    memory: Arc<RegionMemory>,
    bytes: Bytes,
}

impl Vram {
    /// The memory that another process has left, or a fresh one.
    pub(super) fn open(len: u64, keep: &Keep) -> io::Result<Self> {
        let memory = keep.memory(NAME, len)?;
        let too_large = |_| io::Error::from(io::ErrorKind::OutOfMemory);
        let len = usize::try_from(len).map_err(too_large)?;
        let bytes = Memory::open(memory.file().try_clone()?, len)?.bytes(len)?;
        Ok(Self {
            memory: Arc::new(memory),
            bytes,
        })
    }

    pub(super) fn memory(&self) -> &Arc<RegionMemory> {
        &self.memory
    }

    pub(super) fn file(&self) -> &Arc<OwnedFd> {
        self.memory.file()
    }

    /// Part of it.
    pub(super) fn bytes(&mut self, at: u64, len: usize) -> &mut [u8] {
        &mut self.bytes[range(at, len as u64)]
    }

    /// Makes a part of it zeros, and gives the memory back to the kernel.
    pub(super) fn clear(&mut self, at: u64, len: u64) {
        if let Err(error) = self.memory.clear_range(at, len) {
            tracing::debug!("video memory is not given back: {error}");
            self.bytes[range(at, len)].fill(0);
        }
    }
}

fn range(at: u64, len: u64) -> Range<usize> {
    // Both lie in a mapping of this process.
    at as usize..(at + len) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cleared_is_zeros_and_its_neighbours_stay() {
        let mut vram = Vram::open(1 << 20, &Keep::default()).unwrap();
        vram.bytes(0, 0x3000).fill(0x5a);
        vram.clear(0x1000, 0x1000);
        for (at, byte) in [(0, 0x5a), (0x1000, 0), (0x2000, 0x5a)] {
            let bytes = vram.bytes(at, 0x1000);
            assert!(bytes.iter().all(|found| *found == byte), "{at:#x}");
        }
    }
}
