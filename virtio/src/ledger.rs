//! How far each queue is served, where it outlives the process.
//!
//! A checkpoint of the registers is taken between requests of the client; the thread that serves the
//! queues goes on meanwhile. So what it has done is noted here, as it does it. Resets are counted,
//! of the device and of each queue: what belongs to the time before one that is noted here was done,
//! and is not done again.

use std::io;

use kept::{Memory, Words};
use mdev::keep::Keep;
use mdev::region_memory::RegionMemory;

/// Name of the memory file, as `/proc/PID/maps` shows it.
const NAME: &str = "vgpud-virtio-ledger";

const LEN: u64 = 4096;

/// Most queues of a device: the notifications of each have a bit.
pub(crate) const MAX_QUEUES: usize = 64;

/// Words, by their number.
mod word {
    /// How many resets there were, twice; plus 1 while there is one.
    pub(super) const RESETS: usize = 0;
    /// How many chains of the first queue are used; the others follow.
    pub(super) const USED: usize = 1;
    /// How many resets of the first queue there were since the last of the device; as above.
    pub(super) const QUEUE_RESETS: usize = USED + super::MAX_QUEUES;
    pub(super) const COUNT: usize = QUEUE_RESETS + super::MAX_QUEUES;
}

/// The ledger of one device.
#[derive(Debug)]
pub(crate) struct Ledger {
    words: Words,
    /// Holds the file.
    _memory: RegionMemory,
}

impl Ledger {
    /// What another process has left, or a fresh one.
    pub(crate) fn open(keep: &Keep) -> io::Result<Self> {
        let memory = keep.memory(NAME, LEN)?;
        let file = memory.file().try_clone()?;
        let words = Memory::open(file, LEN as usize)?.words(word::COUNT)?;
        Ok(Self {
            words,
            _memory: memory,
        })
    }

    /// How many resets there were.
    pub(crate) fn resets(&self) -> u64 {
        self.words.get(word::RESETS) / 2
    }

    /// Whether a reset was begun and has not ended: whoever did it is gone.
    pub(crate) fn is_resetting(&self) -> bool {
        !self.words.get(word::RESETS).is_multiple_of(2)
    }

    /// This reset begins: the state is that before it no more, and not yet that after it.
    pub(crate) fn begin_reset(&self, number: u64) {
        self.words.set(word::RESETS, 2 * number + 1);
        for queue in 0..MAX_QUEUES {
            self.words.set(word::USED + queue, 0);
            self.words.set(word::QUEUE_RESETS + queue, 0);
        }
    }

    /// The reset has ended.
    pub(crate) fn end_reset(&self, number: u64) {
        self.words.set(word::RESETS, 2 * number);
    }

    /// How many resets of a queue there were since the last of the device.
    pub(crate) fn queue_resets(&self, queue: u16) -> u64 {
        self.words.get(word::QUEUE_RESETS + usize::from(queue))
    }

    /// This is the next reset of a queue. Its ring begins anew, and no position comes twice: it is
    /// told from the last bits, and what handles requests tells them apart by all.
    ///
    /// Whoever dies between the two words has it done once more, before any chain is used.
    pub(crate) fn reset_queue(&self, queue: u16, number: u64) {
        let next = (self.used(queue) | u64::from(u16::MAX)).wrapping_add(1);
        self.set_used(queue, next);
        self.words
            .set(word::QUEUE_RESETS + usize::from(queue), number);
    }

    /// How many chains of a queue are used.
    pub(crate) fn used(&self, queue: u16) -> u64 {
        self.words.get(word::USED + usize::from(queue))
    }

    /// So many are used.
    pub(crate) fn set_used(&self, queue: u16, used: u64) {
        self.words.set(word::USED + usize::from(queue), used);
    }
}
