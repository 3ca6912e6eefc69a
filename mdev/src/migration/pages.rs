//! Which pages of a memory have changed since they were read.
//!
//! The client maps the memory, so no write tells. Each page is read again and compared by a hash,
//! whose key no guest knows: 8 bytes a page are kept, not a copy.

use std::hash::{BuildHasher, RandomState};
use std::io;

use crate::region_memory::RegionMemory;
use crate::state::Encoder;

const PAGE_LEN: usize = 4096;

/// Bytes that are read at a time.
const CHUNK_LEN: usize = 64 << 10;

/// One memory that is read.
#[derive(Debug)]
pub(super) struct Pages {
    /// Which of the device's memories.
    memory: u32,
    /// What each page held when it was last read. At first it is known to hold zeros.
    hashes: Vec<u64>,
    /// The hash of a page of zeros.
    blank: u64,
    hasher: RandomState,
    /// Where the pass goes on.
    next: u64,
}

impl Pages {
    pub(super) fn new(memory: u32, len: u64) -> Self {
        let hasher = RandomState::new();
        let blank = hasher.hash_one([0_u8; PAGE_LEN].as_slice());
        let pages = usize::try_from(len.div_ceil(PAGE_LEN as u64)).unwrap_or(usize::MAX);
        Self {
            memory,
            hashes: vec![blank; pages],
            blank,
            hasher,
            next: 0,
        }
    }

    /// Begins a pass through all pages.
    pub(super) fn rewind(&mut self) {
        self.next = 0;
    }

    /// Appends the pages of the next chunk that have changed. `false` once the pass is over.
    pub(super) fn save(&mut self, from: &RegionMemory, out: &mut Encoder) -> io::Result<bool> {
        let left = from.len().saturating_sub(self.next);
        let len = usize::try_from(left).map_or(CHUNK_LEN, |left| left.min(CHUNK_LEN));
        if len == 0 {
            return Ok(false);
        }
        let mut chunk = [0; CHUNK_LEN];
        let chunk = &mut chunk[..len];
        // Memory that nobody has used is not read, nor made to be there by that.
        let is_hole = from.is_hole(self.next, len as u64)?;
        if !is_hole {
            from.read(self.next, chunk)?;
        }
        let first = usize::try_from(self.next / PAGE_LEN as u64).unwrap_or(usize::MAX);
        let hashes = self.hashes.iter_mut().skip(first);
        let mut run = 0..0;
        for ((at, page), hash) in (0..)
            .step_by(PAGE_LEN)
            .zip(chunk.chunks(PAGE_LEN))
            .zip(hashes)
        {
            let now = match is_hole {
                true => self.blank,
                false => self.hasher.hash_one(page),
            };
            if std::mem::replace(hash, now) == now {
                continue;
            }
            if run.end != at {
                emit(out, self.memory, self.next, chunk, run);
                run = at..at;
            }
            run.end = at + page.len();
        }
        emit(out, self.memory, self.next, chunk, run);
        self.next += len as u64;
        Ok(true)
    }
}

/// Appends pages that lie side by side, if there are any.
fn emit(out: &mut Encoder, memory: u32, base: u64, chunk: &[u8], run: std::ops::Range<usize>) {
    if !run.is_empty() {
        out.memory(memory, base + run.start as u64, &chunk[run]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: u64 = 1 << 20;

    /// How many bytes of stream a pass makes.
    fn pass(pages: &mut Pages, memory: &RegionMemory) -> usize {
        let mut out = Encoder::new("test");
        let before = out.len();
        pages.rewind();
        while pages.save(memory, &mut out).unwrap() {}
        out.len() - before
    }

    #[test]
    fn a_pass_has_the_pages_that_changed_since_the_last_and_no_other() {
        const SECTION: usize = 12 + 16 + 4;
        let memory = RegionMemory::new("test", LEN).unwrap();
        let mut pages = Pages::new(0, LEN);
        assert_eq!(pass(&mut pages, &memory), 0, "zeros need not be told");
        // The last byte of a page and the first of the next, and one far off.
        memory.write(2 * 4096 - 1, &[1, 2]).unwrap();
        memory.write(LEN - 1, &[3]).unwrap();
        assert_eq!(pass(&mut pages, &memory), 3 * 4096 + 2 * SECTION);
        assert_eq!(pass(&mut pages, &memory), 0);
        memory.write(4096, &[9]).unwrap();
        assert_eq!(pass(&mut pages, &memory), 4096 + SECTION);
        memory.write(LEN - 1, &[0]).unwrap();
        assert_eq!(pass(&mut pages, &memory), 4096 + SECTION, "zero again");
        memory.clear_range(4096, 4096).unwrap();
        assert_eq!(pass(&mut pages, &memory), 4096 + SECTION, "given back");
        assert_eq!(pass(&mut pages, &memory), 0);
    }
}
