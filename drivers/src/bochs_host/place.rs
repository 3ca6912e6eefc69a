//! What a process that goes on from another has to know before it is told anything else: which slice the
//! vGPU has, and whether the card shows it.

use std::io;

use mdev::keep::Keep;
use mdev::region_memory::RegionMemory;

/// Name of the memory file.
const NAME: &str = "vgpud-bochs-place";
const LEN: u64 = 4096;

/// Kept in memory that outlives the process, where something else does.
#[derive(Debug)]
pub(super) struct Place(RegionMemory);

/// Where a vGPU is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Noted {
    /// Where its slice begins.
    pub(super) start: u64,
    /// Bytes of its slice; 0 if it has none yet.
    pub(super) len: u64,
    /// Its turn on the card's screen, counted from 1; 0 if it has given that up.
    pub(super) turn: u64,
}

impl Place {
    /// What another process has left, or an empty note.
    pub(super) fn new(keep: &Keep) -> io::Result<Self> {
        Ok(Self(keep.memory(NAME, LEN)?))
    }

    pub(super) fn get(&self) -> io::Result<Noted> {
        let mut words = [[0; 8]; 3];
        self.0.read(0, words.as_flattened_mut())?;
        let [start, len, turn] = words.map(u64::from_le_bytes);
        Ok(Noted { start, len, turn })
    }

    /// It is a memory file: writing to it fails only where the kernel has no memory.
    pub(super) fn set(&self, noted: Noted) {
        let words = [noted.start, noted.len, noted.turn].map(u64::to_le_bytes);
        if let Err(error) = self.0.write(0, words.as_flattened()) {
            tracing::error!("nobody could go on with this vGPU: {error}");
        }
    }
}
