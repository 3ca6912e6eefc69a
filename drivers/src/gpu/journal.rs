//! The changes, noted where they outlive the process.
//!
//! A change is noted before the driver is told of it, so whoever goes on has all that the driver
//! knows of. There are two halves: when one is full, what is there now is written to the other, which
//! then counts. One word says which half counts and how much of it: who is killed half-way leaves
//! what counted before.

use std::io;

use kept::{Bytes, Memory, Words};
use mdev::keep::Keep;
use mdev::region_memory::RegionMemory;
use mdev::state::{Fields, StateError};

use super::change::Change;

/// Name of the memory file, as `/proc/PID/maps` shows it.
const NAME: &str = "vgpud-gpu-journal";

/// Bytes of a half: four times what all resources take, see [`super::adapter`].
pub(super) const HALF: usize = 16 << 20;

/// Bytes of the words, and of all.
const WORDS: usize = 4096;
const LEN: usize = WORDS + 2 * HALF;

/// In the word that counts: which half it is; the rest is a length.
const SECOND: u64 = 1 << 63;

/// Words, by their number.
mod word {
    pub(super) const CURRENT: usize = 0;
    pub(super) const COUNT: usize = 1;
}

/// No command that must not be done twice, or part of a state that was written as a whole. Commands are
/// carried out one after the other: the one before has ended.
const NO_POSITION: u64 = u64::MAX;

/// The journal of one device.
#[derive(Debug)]
pub(super) struct Journal {
    words: Words,
    bytes: Bytes,
    /// Holds the file.
    _memory: RegionMemory,
}

/// What a journal says.
#[derive(Debug, Default)]
pub(super) struct Noted {
    pub(super) changes: Vec<Change>,
    /// The position of the command that made the last one.
    pub(super) position: Option<u64>,
}

impl Journal {
    /// What another process has left, or a fresh one; `None` if nothing outlives this process.
    pub(super) fn open(keep: &Keep) -> io::Result<Option<Self>> {
        match keep.is_active() {
            true => Self::new(keep).map(Some),
            false => Ok(None),
        }
    }

    fn new(keep: &Keep) -> io::Result<Self> {
        let memory = keep.memory(NAME, LEN as u64)?;
        let mut map = Memory::open(memory.file().try_clone()?, LEN)?;
        Ok(Self {
            words: map.words(word::COUNT)?,
            bytes: map.bytes(2 * HALF)?,
            _memory: memory,
        })
    }

    /// Where the half begins that counts, and how much of it does.
    fn current(&self) -> (usize, usize) {
        let word = self.words.get(word::CURRENT);
        let start = if word & SECOND == 0 { 0 } else { HALF };
        let len = usize::try_from(word & !SECOND).map_or(HALF, |len| len.min(HALF));
        (start, len)
    }

    /// All that is noted.
    pub(super) fn read(&self) -> Result<Noted, StateError> {
        let (start, len) = self.current();
        let mut fields = Fields::of_registers(&self.bytes[start..start + len]);
        let mut noted = Noted::default();
        while !fields.is_empty() {
            let position = fields.u64()?;
            noted.position = (position != NO_POSITION).then_some(position);
            noted.changes.push(Change::parse(&mut fields)?);
        }
        Ok(noted)
    }

    /// Notes what a command changes: the one at a position of the control queue, or one that may be done
    /// twice. `false` if there is no room before [`Self::rewrite`].
    pub(super) fn append(&mut self, position: Option<u64>, change: &Change) -> bool {
        let (start, len) = self.current();
        let position = position.unwrap_or(NO_POSITION);
        let mut bytes = position.to_le_bytes().to_vec();
        change.emit(&mut bytes);
        if bytes.len() > HALF - len {
            return false;
        }
        self.bytes[start + len..][..bytes.len()].copy_from_slice(&bytes);
        self.count(start, len + bytes.len());
        true
    }

    /// Notes all that there is in place of how it came to be. `false`, and nothing has changed, if
    /// it is too much.
    pub(super) fn rewrite(&mut self, changes: &[Change]) -> bool {
        let start = match self.current().0 {
            0 => HALF,
            _ => 0,
        };
        let mut bytes = Vec::new();
        for change in changes {
            bytes.extend(NO_POSITION.to_le_bytes());
            change.emit(&mut bytes);
        }
        if bytes.len() > HALF {
            return false;
        }
        self.bytes[start..][..bytes.len()].copy_from_slice(&bytes);
        self.count(start, bytes.len());
        true
    }

    fn count(&self, start: usize, len: usize) {
        let half = if start == 0 { 0 } else { SECOND };
        self.words.set(word::CURRENT, half | len as u64);
    }
}
