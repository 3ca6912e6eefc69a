//! What is held, under which numbers.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::logs::{KeptMemory, MemoryLog};
use super::{FIRST_FREE, Held, Park};

/// So many eventfds are let go at a time, since to tell costs a system call. All else may be much
/// memory, or a connection whose other end waits.
pub(super) const RELEASE_AT_ONCE: usize = 32;

pub(super) struct Shelf {
    /// `None` once it failed, until there is another.
    park: Option<Box<dyn Park>>,
    /// Duplicates of all that is parked, for a park that comes later, and which [`Held`] is whose.
    held: BTreeMap<u32, (OwnedFd, u64)>,
    /// Counts what was ever held.
    serial: u64,
    /// What another process has parked, and nothing here stands for yet.
    left: BTreeMap<u32, OwnedFd>,
    next_id: u32,
    released: Vec<u32>,
    /// The device's memories, and those that another process left.
    memories: Vec<KeptMemory>,
    left_memories: Vec<KeptMemory>,
    log: Option<MemoryLog>,
}

impl Shelf {
    /// Parks in `park`, which has what another process left already.
    pub(super) fn new(park: Box<dyn Park>, left: BTreeMap<u32, OwnedFd>) -> Self {
        let highest = left.last_key_value().map_or(0, |(id, _)| *id);
        Self {
            park: Some(park),
            held: BTreeMap::new(),
            serial: 0,
            next_id: highest.max(FIRST_FREE - 1).wrapping_add(1),
            left,
            released: Vec::new(),
            memories: Vec::new(),
            left_memories: Vec::new(),
            log: None,
        }
    }

    pub(super) fn next_id(&mut self) -> u32 {
        let is_free = |id: &u32| {
            *id >= FIRST_FREE && !self.held.contains_key(id) && !self.left.contains_key(id)
        };
        let mut id = self.next_id;
        while !is_free(&id) {
            id = id.wrapping_add(1).max(FIRST_FREE);
        }
        self.next_id = id.wrapping_add(1);
        id
    }

    /// Without a duplicate of its own a descriptor is not parked: who adopts it later would miss it.
    pub(super) fn park(&mut self, fds: &[(u32, BorrowedFd<'_>)]) -> u64 {
        self.serial += 1;
        for (id, fd) in fds {
            if let Ok(fd) = fd.try_clone_to_owned() {
                self.held.insert(*id, (fd, self.serial));
            }
        }
        if let Some(park) = &mut self.park
            && let Err(error) = park.park(fds)
        {
            self.lose_park(&error);
        }
        self.serial
    }

    /// Takes what another process has left: a duplicate of it, and its serial number here.
    pub(super) fn claim(&mut self, id: u32) -> Option<(OwnedFd, u64)> {
        let fd = self.left.remove(&id)?;
        let duplicate = fd.try_clone().ok()?;
        self.serial += 1;
        self.held.insert(id, (fd, self.serial));
        Some((duplicate, self.serial))
    }

    /// Lets go of what was left and not claimed.
    pub(super) fn settle(&mut self) {
        let unclaimed = std::mem::take(&mut self.left);
        self.left_memories.clear();
        unclaimed.into_keys().for_each(|id| self.release(id, true));
        self.tell_released();
    }

    /// Leaves all as it is: what is let go from now on stays with who has it, and is not noted.
    pub(super) fn abandon(&mut self) {
        self.park = None;
        self.log = None;
        self.held.clear();
        self.left.clear();
    }

    pub(super) fn remember(&mut self, memory: KeptMemory) {
        self.memories.push(memory);
        self.note_memories();
    }

    pub(super) fn set_log(&mut self, log: MemoryLog) {
        self.log = Some(log);
        self.note_memories();
        self.note_completeness();
    }

    pub(super) fn set_left_memories(&mut self, left: Vec<KeptMemory>) {
        self.left_memories = left;
    }

    /// Releases it, unless its number stands for another one by now.
    pub(super) fn let_go(&mut self, held: &Held) {
        let current = self.held.get(&held.id);
        if current.is_none_or(|(_, serial)| *serial == held.serial) {
            self.release(held.id, held.may_wait);
        }
    }

    fn release(&mut self, id: u32, may_wait: bool) {
        self.held.remove(&id);
        self.memories.retain(|memory| memory.id() != id);
        self.note_memories();
        self.released.push(id);
        if !may_wait || self.released.len() >= RELEASE_AT_ONCE {
            self.tell_released();
        }
    }

    fn tell_released(&mut self) {
        let released = std::mem::take(&mut self.released);
        // A number may have been taken again since.
        let gone: Vec<_> = released
            .into_iter()
            .filter(|id| !self.held.contains_key(id))
            .collect();
        if let Some(park) = &mut self.park
            && !gone.is_empty()
            && let Err(error) = park.release(&gone)
        {
            self.lose_park(&error);
        }
    }

    fn lose_park(&mut self, error: &io::Error) {
        tracing::warn!("nothing outlives this process any more: {error}");
        self.park = None;
        self.note_completeness();
    }

    /// Whoever has what was parked before must not go on from that: something is missing.
    fn note_completeness(&self) {
        if let Some(log) = &self.log {
            log.set_incomplete(self.park.is_none());
        }
    }

    pub(super) fn adopt(&mut self, mut park: Box<dyn Park>) -> io::Result<()> {
        let held = self.held.iter();
        let held: Vec<_> = held.map(|(id, (fd, _))| (*id, fd.as_fd())).collect();
        park.park(&held)?;
        self.released.clear();
        self.park = Some(park);
        self.note_completeness();
        Ok(())
    }

    pub(super) fn find_left(&mut self, name: &str, len: u64) -> Option<u32> {
        let wanted = self.left_memories.iter().position(|it| it.is(name, len))?;
        Some(self.left_memories.remove(wanted).id())
    }

    fn note_memories(&self) {
        if let Some(log) = &self.log {
            log.set(&self.memories);
        }
    }
}
