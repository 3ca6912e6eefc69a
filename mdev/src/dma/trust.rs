//! Whether the files that a client sent are the guest's memory.
//!
//! QEMU's `memory-backend-memfd` with `share=off` sends its file, but the guest runs on a private
//! copy: what a device reads there is old, and what it writes is lost. Nothing in the message
//! tells. So, before the first DMA, memory is read both ways, where it is not all zero; until that
//! was possible, everything goes by message, which is right either way.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};

use vfu::Errno;

use super::iova::{Iova, IovaRange};
use super::messages::{MessageError, Messages, Permit};
use super::table::{DmaTable, Mapping};
use crate::client_log::ClientLog;

/// What is known of a client's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// The verdict in the lowest two bits, above them the number of the client: a thread that
    /// still compares for an earlier one must not judge this one.
    state: AtomicU64,
    log: ClientLog,
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
        Self::verdict_of(self.state.load(Ordering::Relaxed))
    }

    fn verdict_of(state: u64) -> Verdict {
        match state % 4 {
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
        let client = self.state.load(Ordering::Relaxed) / 4 + 1;
        self.state
            .store(client * 4 + verdict as u64, Ordering::Relaxed);
    }

    /// What is known after comparing, if nothing was. `near` is an address in use, where there is
    /// likely something to compare.
    pub(super) fn find_out<T: Deref<Target = DmaTable>>(
        &self,
        messages: &Messages,
        near: Option<Iova>,
        table: impl Fn() -> T,
    ) -> Verdict {
        let state = self.state.load(Ordering::Relaxed);
        if Self::verdict_of(state) != Verdict::Unknown || !messages.can_ask() {
            return Self::verdict_of(state);
        }
        let (permit, places) = {
            let table = table();
            // A device that lets go of memory may wait for a thread that compares: any unmap ends
            // that.
            (messages.permit(IovaRange::EVERYTHING), places(&table, near))
        };
        let verdicts = places
            .into_iter()
            .map_while(|at| compare(messages, permit, at, &table).ok());
        let found = verdicts.into_iter().find(|it| *it != Verdict::Unknown);
        if let Some(verdict) = found {
            self.settle(state, verdict);
        }
        self.verdict()
    }

    /// Says so, unless another thread did or the client is another.
    fn settle(&self, before: u64, verdict: Verdict) {
        let relaxed = Ordering::Relaxed;
        let after = before + verdict as u64;
        let result = self.state.compare_exchange(before, after, relaxed, relaxed);
        if result.is_ok() && verdict == Verdict::Private {
            self.log.warn(format_args!(
                "the client's files are not the guest's memory: every transfer goes by message. \
                 With QEMU, share=on makes it fast"
            ));
        }
    }
}

/// Where to compare: around `near`, and at the beginning of each mapping. A PC's memory begins
/// with the interrupt vectors of its firmware, which are never all zero.
fn places(table: &DmaTable, near: Option<Iova>) -> Vec<Iova> {
    let is_file = |mapping: &&Mapping| mapping.memory.is_some();
    let mut starts = BTreeSet::new();
    for mapping in table.iter().filter(is_file) {
        starts.insert(mapping.range.start());
        if starts.len() > MAX_SAMPLES {
            starts.pop_last();
        }
    }
    let page = near.map(|near| Iova(near.0 - near.0 % DmaTable::PAGE_SIZE));
    let near = page.filter(|page| table.find(*page).as_ref().is_some_and(is_file));
    near.into_iter().chain(starts).collect()
}

/// Reads one page both ways. An error means that no other page would tell more.
fn compare<T: Deref<Target = DmaTable>>(
    messages: &Messages,
    permit: Permit,
    at: Iova,
    table: &impl Fn() -> T,
) -> Result<Verdict, MessageError> {
    for _ in 0..ATTEMPTS {
        let (mut before, mut told, mut after) = ([0; SAMPLE], [0; SAMPLE], [0; SAMPLE]);
        let is_mapped = read_mapped(&table(), at, &mut before);
        match read_told(messages, permit, at, &mut told) {
            Ok(()) => {}
            // Where there is nothing to compare with, there is nothing but to believe.
            Err(MessageError::Refused(Errno::NOSYS | Errno::OPNOTSUPP)) => {
                return Ok(Verdict::Shared);
            }
            Err(MessageError::Refused(_)) => return Ok(Verdict::Unknown),
            Err(error) => return Err(error),
        }
        if !is_mapped || !read_mapped(&table(), at, &mut after) {
            return Ok(Verdict::Unknown);
        }
        // What the guest is writing meanwhile says nothing.
        let bytes = before.iter().zip(&told).zip(&after);
        let stable = bytes.filter(|((before, _), after)| before == after);
        let mut stable = stable.map(|((_, told), mapped)| (*told, *mapped));
        if stable.clone().all(|(told, mapped)| told == mapped) {
            let is_blank = stable.all(|(told, _)| told == 0);
            return Ok(if is_blank {
                Verdict::Unknown
            } else {
                Verdict::Shared
            });
        }
    }
    Ok(Verdict::Private)
}

/// In as many messages as it takes.
fn read_told(
    messages: &Messages,
    permit: Permit,
    at: Iova,
    out: &mut [u8],
) -> Result<(), MessageError> {
    let mut done = 0;
    while done < out.len() {
        let at = Iova(at.0 + done as u64);
        done += messages.read(permit, at, &mut out[done..])?;
    }
    Ok(())
}

fn read_mapped(table: &DmaTable, at: Iova, out: &mut [u8]) -> bool {
    let slice = table.find(at).and_then(|mapping| {
        let memory = mapping.memory.as_ref()?;
        let offset = usize::try_from(at.0 - mapping.range.start().0).ok()?;
        memory.extent.slice(memory.position + offset, out.len())
    });
    slice.is_some_and(|slice| slice.copy_to(out) == SAMPLE)
}
