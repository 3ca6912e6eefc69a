//! The memory file that says what is held: one for each session, and for the time before it.
//!
//! What changes with every request is what the kernel notes as it moves bytes (`kept`), and a copy
//! of the registers; what changes rarely is stored as it changes. So another process goes on from
//! here, wherever this one stops.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use kept::{Bytes, Inbox, Memory, Outbox, Words};
use vfu::server::Server;
use vfu::wire::version::Capabilities;

use super::checkpoint::Checkpoints;
use super::logs::{DoorbellLog, IrqLog, MappingLog, MemoryLog};
use super::{Held, JOURNAL, Keep};

/// What it begins with: what it is, and the version of its form.
const MAGIC: u64 = u64::from_le_bytes(*b"vgpudjn\x01");

/// Name of the file, as `/proc/PID/maps` shows it.
const NAME: &str = "vgpud-journal";

/// Most bytes of what was agreed on with the client.
const AGREEMENT: usize = 8192;

/// Words, by their number.
mod word {
    pub(super) const MAGIC: usize = 0;
    /// Most mappings that it has room for.
    pub(super) const MAPPINGS: usize = 1;
    /// Whether a client is connected.
    pub(super) const CONNECTED: usize = 2;
    pub(super) const AGREEMENT_LEN: usize = 3;
    /// One more than the position of the last request that was carried out and is no access to a
    /// region.
    pub(super) const CARRIED_OUT: usize = 4;
    /// One more than the position of the request that is being carried out.
    pub(super) const UNDER_WAY: usize = 5;
    /// One more than the position of a request in which a process has died.
    pub(super) const FATAL: usize = 6;
    /// How many have.
    pub(super) const DEATHS: usize = 7;
    /// Whether the client has the device in another migration state than RUNNING.
    pub(super) const MIGRATING: usize = 8;
    /// How many processes have gone on from it.
    pub(super) const GENERATION: usize = 9;
    /// Not 0: what [`MIGRATING`] will be once the request is answered whose position, plus one, is
    /// in the bits from 1 on.
    pub(super) const NEXT_MIGRATING: usize = 10;
    /// Whether a process stands still, to hand over or to go on.
    pub(super) const HANDED_OVER: usize = 11;
    pub(super) const COUNT: usize = 16;
}

/// The journal of one session.
#[derive(Debug)]
pub(crate) struct Journal {
    head: Words,
    agreement: Bytes,
    pub(crate) memories: MemoryLog,
    pub(crate) irqs: IrqLog,
    pub(crate) doorbells: DoorbellLog,
    pub(crate) mappings: MappingLog,
    pub(crate) checkpoints: Checkpoints,
}

/// The two ends of the stream, for [`Server::kept`].
pub(crate) type Stream = (Inbox, Outbox);

/// How much memory one takes.
fn len_in_memory(able: &Capabilities, max_mappings: usize) -> usize {
    let words = word::COUNT
        + MemoryLog::WORDS
        + IrqLog::WORDS
        + DoorbellLog::WORDS
        + MappingLog::words(max_mappings);
    words * size_of::<u64>()
        + AGREEMENT
        + 4096
        + Checkpoints::LEN_IN_MEMORY
        + Inbox::len_in_memory(Server::inbox_capacity(able))
        + Outbox::LEN_IN_MEMORY
}

impl Journal {
    /// A fresh one for a client that is offered `able`, held by `keep`. The one before it goes.
    pub(crate) fn new(
        keep: &Keep,
        able: &Capabilities,
        max_mappings: usize,
    ) -> io::Result<(Self, Stream)> {
        let mut memory = Memory::new(NAME, len_in_memory(able, max_mappings))?;
        let (journal, stream) = Self::lay_out(&mut memory, able, max_mappings)?;
        journal.head.set(word::MAPPINGS, max_mappings as u64);
        keep.set_memory_log(journal.memories.clone());
        journal.head.set(word::MAGIC, MAGIC);
        // Last: from here on another process may go on from it.
        let file = memory.file().map(AsFd::as_fd);
        // There is always one: until the next is there, another process goes on from this.
        if let Some(held) = file.and_then(|file| keep.hold_as(JOURNAL, file)) {
            held.stay();
        }
        Ok((journal, stream))
    }

    /// Opens the one that another process has left.
    pub(crate) fn open(
        file: OwnedFd,
        held: Held,
        able: &Capabilities,
        max_mappings: usize,
    ) -> io::Result<(Self, Stream)> {
        let mut memory = Memory::open(file, len_in_memory(able, max_mappings))?;
        let (journal, stream) = Self::lay_out(&mut memory, able, max_mappings)?;
        let is_ours = journal.head.get(word::MAGIC) == MAGIC
            && journal.head.get(word::MAPPINGS) == max_mappings as u64;
        if !is_ours {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let generation = journal.head.get(word::GENERATION).wrapping_add(1);
        journal.head.set(word::GENERATION, generation);
        held.stay();
        Ok((journal, stream))
    }

    fn lay_out(
        memory: &mut Memory,
        able: &Capabilities,
        max_mappings: usize,
    ) -> io::Result<(Self, Stream)> {
        let journal = Self {
            head: memory.words(word::COUNT)?,
            memories: MemoryLog::new(memory.words(MemoryLog::WORDS)?),
            irqs: IrqLog::new(memory.words(IrqLog::WORDS)?),
            doorbells: DoorbellLog::new(memory.words(DoorbellLog::WORDS)?),
            mappings: MappingLog::new(memory.words(MappingLog::words(max_mappings))?),
            agreement: memory.bytes(AGREEMENT)?,
            checkpoints: Checkpoints::new(memory)?,
        };
        let outbox = Outbox::new(memory)?;
        let inbox = Inbox::new(memory, Server::inbox_capacity(able))?;
        Ok((journal, (inbox, outbox)))
    }

    /// Whether a client is connected.
    pub(crate) fn is_connected(&self) -> bool {
        self.head.get(word::CONNECTED) != 0
    }

    pub(crate) fn set_connected(&self, connected: bool) {
        self.head.set(word::CONNECTED, connected.into());
    }

    /// What was agreed on with the client; empty before that.
    pub(crate) fn agreement(&self) -> &[u8] {
        let len = usize::try_from(self.head.get(word::AGREEMENT_LEN)).unwrap_or(usize::MAX);
        self.agreement.get(..len).unwrap_or_default()
    }

    /// Notes it. One that is too long makes the client one that nobody can go on with.
    pub(crate) fn set_agreement(&mut self, agreement: &[u8]) {
        if let Some(room) = self.agreement.get_mut(..agreement.len()) {
            room.copy_from_slice(agreement);
            self.head.set(word::AGREEMENT_LEN, agreement.len() as u64);
        }
    }

    /// The request at this position, which is no access to a region, was carried out. Its answer is
    /// still to leave.
    pub(crate) fn carried_out(&self, position: u64) {
        self.head.set(word::CARRIED_OUT, position.wrapping_add(1));
    }

    pub(crate) fn was_carried_out(&self, position: u64) -> bool {
        self.head.get(word::CARRIED_OUT) == position.wrapping_add(1)
    }

    /// The request at this position is being carried out; `None` once none is.
    #[inline]
    pub(crate) fn set_under_way(&self, position: Option<u64>) {
        let under_way = position.map_or(0, |position| position.wrapping_add(1));
        self.head.set(word::UNDER_WAY, under_way);
    }

    /// Counts a death in the request that was being carried out. Gives back its position, and how
    /// many have died in it.
    pub(crate) fn count_death(&self) -> Option<(u64, u64)> {
        let under_way = self.head.get(word::UNDER_WAY);
        let position = under_way.checked_sub(1)?;
        let is_again = self.head.get(word::FATAL) == under_way;
        let deaths = match is_again {
            true => self.head.get(word::DEATHS).saturating_add(1),
            false => 1,
        };
        self.head.set(word::DEATHS, deaths);
        self.head.set(word::FATAL, under_way);
        self.set_under_way(None);
        Some((position, deaths))
    }

    /// Whether a process has died in the request at this position, which may be carried out in part.
    pub(crate) fn has_died_in(&self, position: u64) -> bool {
        self.head.get(word::FATAL) == position.wrapping_add(1)
    }

    /// Takes back [`Self::count_death`], once its request is behind.
    pub(crate) fn forget_deaths(&self) {
        self.head.set(word::FATAL, 0);
    }

    /// Whether the client has the device in another migration state than RUNNING, all before
    /// `start` being answered.
    pub(crate) fn is_migrating(&self, start: u64) -> bool {
        match self.head.get(word::NEXT_MIGRATING) {
            next if next != 0 && next >> 1 <= start => next & 1 != 0,
            _ => self.head.get(word::MIGRATING) != 0,
        }
    }

    pub(crate) fn set_migrating(&self, migrating: bool) {
        self.head.set(word::MIGRATING, migrating.into());
        self.head.set(word::NEXT_MIGRATING, 0);
    }

    /// The client will have it so once the request at this position is answered.
    pub(crate) fn will_migrate(&self, position: u64, migrating: bool) {
        let next = position.wrapping_add(1) << 1 | u64::from(migrating);
        self.head.set(word::NEXT_MIGRATING, next);
    }

    /// Whether a process stands still, and goes on if another one cannot.
    pub(crate) fn is_handed_over(&self) -> bool {
        self.head.get(word::HANDED_OVER) != 0
    }

    pub(crate) fn set_handed_over(&self, handed_over: bool) {
        self.head.set(word::HANDED_OVER, handed_over.into());
    }

    /// How many processes have gone on from it.
    pub(crate) fn generation(&self) -> u64 {
        self.head.get(word::GENERATION)
    }
}
