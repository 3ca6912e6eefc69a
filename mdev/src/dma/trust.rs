//! Whether the files that a client sent are the guest's memory.
//!
//! QEMU's `memory-backend-memfd` with `share=off` sends its file, but the guest runs on a private
//! copy: what a device reads there is old, and what it writes is lost. Nothing in the message
//! tells. So, before the first DMA, memory is read both ways, where it is not all zero; until that
//! was possible, everything goes by message, which is right either way.

use std::ops::Deref;
use std::sync::atomic::{AtomicU8, Ordering};

use super::iova::Iova;
use super::messages::Messages;
use super::table::{DmaTable, Mapping};

/// What is known of a client's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Verdict {
    /// Not known yet.
    Unknown = 0,
    /// They are the guest's memory.
    Shared = 1,
    /// They are not.
    Private = 2,
}

/// The verdict on one client.
#[derive(Debug, Default)]
pub struct Trust {
    verdict: AtomicU8,
}

/// Bytes that are compared at a time.
const SAMPLE: usize = 4096;

/// How often a sample that differs is read again: the guest may be writing there.
const ATTEMPTS: usize = 4;

/// Most mappings that are looked at.
const MAX_SAMPLES: usize = 16;

impl Trust {
    /// What is known now.
    #[inline]
    pub fn verdict(&self) -> Verdict {
        match self.verdict.load(Ordering::Relaxed) {
            0 => Verdict::Unknown,
            1 => Verdict::Shared,
            _ => Verdict::Private,
        }
    }

    /// Begins with a new client. One that takes no messages has to be believed.
    pub(crate) fn connect(&self, takes_messages: bool) {
        let verdict = if takes_messages {
            Verdict::Unknown
        } else {
            Verdict::Shared
        };
        self.set(verdict);
    }

    fn set(&self, verdict: Verdict) {
        self.verdict.store(verdict as u8, Ordering::Relaxed);
    }

    /// What is known after comparing, if nothing was. `near` is an address in use, where there is
    /// likely something to compare.
    pub(super) fn find_out<T: Deref<Target = DmaTable>>(
        &self,
        messages: &Messages,
        near: Iova,
        table: impl Fn() -> T,
    ) -> Verdict {
        if self.verdict() != Verdict::Unknown || !messages.is_connected() {
            return self.verdict();
        }
        for at in places(&table(), near) {
            let verdict = compare(messages, at, &table);
            if verdict != Verdict::Unknown {
                if verdict == Verdict::Private {
                    tracing::warn!(
                        "the client's files are not the guest's memory: every transfer goes by \
                         message. With QEMU, share=on makes it fast"
                    );
                }
                self.set(verdict);
                break;
            }
        }
        self.verdict()
    }
}

/// Where to compare: around `near`, and at the beginning of each mapping. A PC's memory begins
/// with the interrupt vectors of its firmware, which are never all zero.
fn places(table: &DmaTable, near: Iova) -> Vec<Iova> {
    let is_file = |mapping: &&Mapping| mapping.memory.is_some();
    let mut starts: Vec<_> = table
        .iter()
        .filter(is_file)
        .map(|mapping| mapping.range.start())
        .collect();
    starts.sort_unstable();
    let page = Iova(near.0 - near.0 % DmaTable::PAGE_SIZE);
    let near = table.find(page).filter(is_file).map(|_| page);
    near.into_iter().chain(starts).take(MAX_SAMPLES).collect()
}

/// Reads one page both ways.
fn compare<T: Deref<Target = DmaTable>>(
    messages: &Messages,
    at: Iova,
    table: &impl Fn() -> T,
) -> Verdict {
    for _ in 0..ATTEMPTS {
        let mut told = [0; SAMPLE];
        // Where messages do not work, there is nothing to compare with.
        if messages.read(at, &mut told) != Ok(SAMPLE) {
            return Verdict::Unknown;
        }
        let mut mapped = [0; SAMPLE];
        if !read_mapped(&table(), at, &mut mapped) {
            return Verdict::Unknown;
        }
        if told == mapped {
            let is_blank = told.iter().all(|byte| *byte == 0);
            return if is_blank {
                Verdict::Unknown
            } else {
                Verdict::Shared
            };
        }
    }
    Verdict::Private
}

fn read_mapped(table: &DmaTable, at: Iova, out: &mut [u8]) -> bool {
    let slice = table.find(at).and_then(|mapping| {
        let memory = mapping.memory.as_ref()?;
        let offset = usize::try_from(at.0 - mapping.range.start().0).ok()?;
        memory.extent.slice(memory.position + offset, out.len())
    });
    slice.is_some_and(|slice| slice.copy_to(out) == SAMPLE)
}
