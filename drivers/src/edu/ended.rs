//! The last transfer that has ended, stored behind the buffer: it outlives the process.
//!
//! Checkpoints are taken between requests, and the engine's thread ends transfers at any time. What
//! a checkpoint tells to be under way may have ended, and the guest may know.

use std::io;

use mdev::region_memory::RegionMemory;

use super::transfer::BUFFER_LEN;

/// Where it lies.
const PLACE: u64 = BUFFER_LEN as u64;

/// Bytes of the buffer and of this.
pub(super) const STORE_LEN: u64 = 2 * PLACE;

/// The last transfer that has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ended {
    /// Which one it was, counted from 1; 0 for none.
    pub(super) number: u64,
    /// The errno that it ended with, or 0.
    pub(super) errno: i32,
    /// How many have failed by then.
    pub(super) failures: u64,
}

impl Ended {
    /// What was stored; what cannot be read has not ended.
    pub(super) fn load(store: &RegionMemory) -> Self {
        let mut bytes = [0; 24];
        if store.read(PLACE, &mut bytes).is_err() {
            return Self::default();
        }
        let [number, errno, failures] = [0, 8, 16].map(|at| {
            bytes[at..]
                .first_chunk()
                .copied()
                .map_or(0, u64::from_le_bytes)
        });
        Self {
            number,
            errno: errno as i32,
            failures,
        }
    }

    /// In one piece: it is within a page.
    pub(super) fn store(self, store: &RegionMemory) -> io::Result<()> {
        let errno = u64::from(self.errno.unsigned_abs());
        let words = [self.number, errno, self.failures].map(u64::to_le_bytes);
        store.write(PLACE, words.as_flattened())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_loaded_and_a_fresh_store_has_none() {
        let store = RegionMemory::new("test", STORE_LEN).unwrap();
        assert_eq!(Ended::load(&store), Ended::default());
        let ended = Ended {
            number: 1 << 40,
            errno: 34,
            failures: 7,
        };
        ended.store(&store).unwrap();
        assert_eq!(Ended::load(&store), ended);
    }
}
