//! The physical card: its memory, mapped, and its registers.

use std::fmt::Debug;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use mdev::host::{HostDevice, HostError, RegionMapping};

/// Regions, as the card has them.
const MEMORY: u32 = 0;
const REGISTERS: u32 = 2;

/// A file in which a client maps part of the card's memory, and where that begins there.
pub(super) type Window = (Arc<OwnedFd>, u64);

/// What vGPUs use of a card.
pub(super) trait Card: Debug + Send + Sync {
    /// Bytes of video memory.
    fn memory_len(&self) -> u64;

    /// Reads video memory; `None` past its end.
    fn read(&self, at: u64, data: &mut [u8]) -> Option<()>;

    /// Writes video memory; `None` past its end.
    fn write(&self, at: u64, data: &[u8]) -> Option<()>;

    /// Writes a register, which lies at `at` in the register page.
    fn set_register(&self, at: u64, value: &[u8]) -> Result<(), HostError>;

    /// Opens part of the memory for a client to map.
    fn open_window(&self, at: u64, len: u64) -> Result<Window, HostError>;

    /// Whether someone may still reach that part by a window.
    fn is_window_held(&self, at: u64, len: u64) -> bool;
}

/// A card that the kernel's VFIO gives to this process.
#[derive(Debug)]
pub(super) struct HostCard {
    device: HostDevice,
    memory: RegionMapping,
}

impl HostCard {
    /// Maps a card's memory.
    pub(super) fn new(device: HostDevice) -> Result<Self, HostError> {
        device.set_memory(true)?;
        let regions = device.regions();
        let region = regions.iter().find(|region| region.index == MEMORY);
        let len = region.map_or(0, |region| region.size);
        let memory = device.map(MEMORY, 0, len)?;
        Ok(Self { device, memory })
    }
}

impl Card for HostCard {
    fn memory_len(&self) -> u64 {
        self.memory.len() as u64
    }

    fn read(&self, at: u64, data: &mut [u8]) -> Option<()> {
        self.memory.read(usize::try_from(at).ok()?, data)
    }

    fn write(&self, at: u64, data: &[u8]) -> Option<()> {
        self.memory.write(usize::try_from(at).ok()?, data)
    }

    fn set_register(&self, at: u64, value: &[u8]) -> Result<(), HostError> {
        self.device.write(REGISTERS, at, value)
    }

    fn open_window(&self, at: u64, len: u64) -> Result<Window, HostError> {
        let window = self.device.open_window(MEMORY, at, len)?;
        Ok((Arc::clone(window.file()), window.offset()))
    }

    /// Where the kernel does not say, it may.
    fn is_window_held(&self, at: u64, len: u64) -> bool {
        let held = self.device.is_window_held(MEMORY, at, len);
        held.unwrap_or(true)
    }
}
