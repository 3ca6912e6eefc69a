//! Transfers both ways with pages of this process, every byte checked.

use std::ops::Range;

use guest::noise::Noise;

use super::device::{BUFFER_LEN, Device, Transfer, Way};
use super::pages::{PAGE, Pages};
use crate::Failure;

/// How many bytes on either side of a transfer are looked at with it. All others are looked at in
/// the end.
const MARGIN: usize = 64;

/// Longest transfer: all of the device's buffer, and no longer than the shortest run of pages.
const LONGEST: usize = if BUFFER_LEN < PAGE { BUFFER_LEN } else { PAGE };

/// Memory and the device's buffer, and what has to be in them.
pub(super) struct Exchange<'a> {
    device: &'a Device,
    pages: &'a Pages,
    memory: Vec<u8>,
    buffer: [u8; BUFFER_LEN],
    noise: Noise,
}

impl<'a> Exchange<'a> {
    /// Fills all memory, and through it all of the device's buffer, with noise.
    pub(super) fn new(device: &'a Device, pages: &'a Pages, seed: u64) -> Result<Self, Failure> {
        let mut noise = Noise::new(seed);
        let memory: Vec<u8> = noise.by_ref().take(pages.memory().len()).collect();
        pages.memory().write(0, &memory);
        let mut exchange = Self {
            device,
            pages,
            memory,
            buffer: [0; BUFFER_LEN],
            noise,
        };
        let (from, physical) = exchange.place(LONGEST);
        exchange.send(from, physical, 0..LONGEST)?;
        Ok(exchange)
    }

    /// Sends new noise to the device and fetches it from there, with some of what lies around it;
    /// returns how many bytes went over.
    pub(super) fn round(&mut self) -> Result<usize, Failure> {
        let len = 1 + self.below(LONGEST);
        let first = self.below(BUFFER_LEN - len + 1);
        let sent = first..first + len;
        let (from, physical) = self.place(len);
        let fresh = self.noise.by_ref().take(len);
        self.memory.splice(from..from + len, fresh);
        self.pages
            .memory()
            .write(from, &self.memory[from..from + len]);
        self.send(from, physical, sent.clone())?;

        let first = self.below(sent.start + 1);
        let end = sent.end + self.below(BUFFER_LEN - sent.end + 1);
        let (to, physical) = self.place(end - first);
        self.fetch(to, physical, first..end)?;
        Ok(len + (end - first))
    }

    /// Looks at all memory, and fetches all of the device's buffer.
    pub(super) fn check_all(&mut self) -> Result<(), Failure> {
        let (to, physical) = self.place(LONGEST);
        self.fetch(to, physical, 0..LONGEST)?;
        self.check(0..self.memory.len())?;
        self.pages.check_unmoved()
    }

    fn send(&mut self, from: usize, physical: u64, part: Range<usize>) -> Result<(), Failure> {
        self.device.transfer(Transfer {
            way: Way::ToDevice,
            physical,
            at: part.start,
            len: part.len(),
        })?;
        let sent = &self.memory[from..from + part.len()];
        self.buffer[part].copy_from_slice(sent);
        Ok(())
    }

    fn fetch(&mut self, to: usize, physical: u64, part: Range<usize>) -> Result<(), Failure> {
        self.device.transfer(Transfer {
            way: Way::ToMemory,
            physical,
            at: part.start,
            len: part.len(),
        })?;
        let end = to + part.len();
        self.memory[to..end].copy_from_slice(&self.buffer[part.clone()]);
        let around = to.saturating_sub(MARGIN)..self.memory.len().min(end + MARGIN);
        self.check(around).map_err(|error| {
            let errno = self.device.transfer_errno();
            format!("{error}, after {part:?} of the buffer went to {to:#x}, errno {errno}").into()
        })
    }

    /// Compares memory with what has to be there.
    fn check(&self, part: Range<usize>) -> Result<(), Failure> {
        let want = &self.memory[part.clone()];
        let mut got = vec![0; part.len()];
        self.pages.memory().read(part.start, &mut got);
        match want.iter().zip(&got).position(|(want, got)| want != got) {
            None => Ok(()),
            Some(n) => {
                let (at, got, want) = (part.start + n, got[n], want[n]);
                Err(format!("byte {at:#x} is {got:#04x}, not {want:#04x}").into())
            }
        }
    }

    /// A place for `len` bytes, and its physical address.
    fn place(&mut self, len: usize) -> (usize, u64) {
        let runs = self.pages.runs();
        let run = runs[self.below(runs.len())];
        let at = run.start + self.below(run.len - len + 1);
        (at, run.physical(at))
    }

    /// A number less than `end`.
    fn below(&mut self, end: usize) -> usize {
        let bytes = self.noise.by_ref().take(4);
        bytes.fold(0, |number, byte| number << 8 | usize::from(byte)) % end
    }
}
