//! Which part of the card's memory is whose.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mdev::host::HostError;

use super::card::{Card, Window};

/// Bytes that are cleared at a time.
const CHUNK: usize = 64 << 10;

/// The memory of a card, divided.
#[derive(Debug)]
pub(super) struct Slices {
    card: Arc<dyn Card>,
    /// Where each slice begins that is somebody's, and its bytes.
    taken: Mutex<Vec<(u64, u64)>>,
}

/// Part of a card's memory that one vGPU has. Dropping it clears it, and gives it back.
#[derive(Debug)]
pub(super) struct Slice {
    slices: Arc<Slices>,
    start: u64,
    len: u64,
}

impl Slices {
    pub(super) fn new(card: Arc<dyn Card>) -> Self {
        Self {
            card,
            taken: Mutex::default(),
        }
    }

    /// A slice of zeros that nobody else reaches, not even by a window that was opened for an earlier
    /// client. `None` if there is none.
    pub(super) fn take(self: &Arc<Self>, len: u64) -> Option<Slice> {
        let mut taken = self.taken();
        let start = (0..self.card.memory_len())
            .step_by(usize::try_from(len).ok()?)
            .find(|&start| self.is_free(&taken, start, len) && !self.is_held(start, len))?;
        let slice = self.slice(&mut taken, start, len);
        slice.clear();
        Some(slice)
    }

    /// The slice that a vGPU had in another process, with what it holds. `None` if it is taken.
    pub(super) fn take_again(self: &Arc<Self>, start: u64, len: u64) -> Option<Slice> {
        let mut taken = self.taken();
        let is_free = self.is_free(&taken, start, len);
        is_free.then(|| self.slice(&mut taken, start, len))
    }

    fn slice(self: &Arc<Self>, taken: &mut Vec<(u64, u64)>, start: u64, len: u64) -> Slice {
        taken.push((start, len));
        Slice {
            slices: Arc::clone(self),
            start,
            len,
        }
    }

    fn is_free(&self, taken: &[(u64, u64)], start: u64, len: u64) -> bool {
        let end = start.checked_add(len);
        let is_apart = |&(other, other_len): &(u64, u64)| {
            start >= other + other_len || end.is_some_and(|end| end <= other)
        };
        let is_there = len > 0 && end.is_some_and(|end| end <= self.card.memory_len());
        is_there && taken.iter().all(is_apart)
    }

    fn is_held(&self, start: u64, len: u64) -> bool {
        self.card.is_window_held(start, len)
    }

    fn taken(&self) -> MutexGuard<'_, Vec<(u64, u64)>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slice {
    /// Where it begins in the card's memory.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Reads from it; `None` where it is not the slice's.
    pub(super) fn read(&self, at: u64, data: &mut [u8]) -> Option<()> {
        self.slices.card.read(self.place(at, data.len())?, data)
    }

    /// Writes to it; `None` where it is not the slice's.
    pub(super) fn write(&self, at: u64, data: &[u8]) -> Option<()> {
        self.slices.card.write(self.place(at, data.len())?, data)
    }

    fn place(&self, at: u64, len: usize) -> Option<u64> {
        let end = at.checked_add(len as u64)?;
        (end <= self.len).then(|| self.start + at)
    }

    /// Makes all of it 0.
    pub(super) fn clear(&self) {
        let zeros = [0; CHUNK];
        let mut at = 0;
        while at < self.len {
            let len = (self.len - at).min(CHUNK as u64);
            // It lies in the slice, and the slice in the card.
            let _ = self.write(at, &zeros[..len as usize]);
            at += len;
        }
    }

    /// Opens it for a client to map.
    pub(super) fn open_window(&self) -> Result<Window, HostError> {
        self.slices.card.open_window(self.start, self.len)
    }

    /// Whether someone may still reach it by a window.
    pub(super) fn is_window_held(&self) -> bool {
        self.slices.is_held(self.start, self.len)
    }
}

impl Drop for Slice {
    fn drop(&mut self) {
        self.clear();
        let place = (self.start, self.len);
        self.slices.taken().retain(|taken| *taken != place);
    }
}
