//! What outlives the process that serves a device, so that another can go on under the same client.
//!
//! - [`Park`]: who holds duplicates of descriptors, elsewhere.
//! - [`Keep`]: which of them are held, and what a process before this one has left.
//! - [`journal`]: the memory file that says what they are: mappings, interrupts, and how far the
//!   stream is dealt with.
//! - [`checkpoint`]: the device's registers, as they were between two requests.
//! - [`logs`]: the parts of the journal that others write as things change.
//!
//! Not here: how a session goes on from it (`session::resume`), and processes (`worker`, `vgpud`).

pub mod checkpoint;
pub mod journal;
pub mod logs;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::region_memory::RegionMemory;
use logs::{KeptMemory, MemoryLog};

/// Who holds duplicates of a process's descriptors, so that they outlive it.
pub trait Park: Send {
    /// Holds these, each under its number. One that was there under that number goes.
    fn park(&mut self, fds: &[(u32, BorrowedFd<'_>)]) -> io::Result<()>;

    /// Lets these go.
    fn release(&mut self, ids: &[u32]) -> io::Result<()>;
}

/// The journal's number.
pub const JOURNAL: u32 = 1;
/// Of the socket on which clients connect.
pub const LISTENER: u32 = 2;
/// Of the client's socket.
pub const CLIENT: u32 = 3;
/// Of the twin socket.
pub const TWIN: u32 = 4;
/// The first number that is given out.
const FIRST_FREE: u32 = 16;

/// So many eventfds are let go at a time, since to tell costs a system call. All else may be much
/// memory, or a connection whose other end waits.
const RELEASE_AT_ONCE: usize = 32;

/// The descriptors of one device that outlive its process. Clones speak of the same.
///
/// By default it keeps nothing, and costs nothing.
#[derive(Clone, Default)]
pub struct Keep {
    shelf: Option<Arc<Mutex<Shelf>>>,
}

impl std::fmt::Debug for Keep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = if self.is_active() { "active" } else { "none" };
        write!(f, "Keep({state})")
    }
}

struct Shelf {
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

/// A descriptor that is held. Dropping it lets it go.
#[derive(Debug)]
pub struct Held {
    id: u32,
    /// Another may be held under the same number since.
    serial: u64,
    keep: Keep,
    may_wait: bool,
    stays: bool,
}

impl Held {
    /// It stays until another is held under its number.
    pub(crate) fn stay(mut self) {
        self.stays = true;
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.id
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.stays
            && let Some(mut shelf) = self.keep.shelf()
        {
            shelf.let_go(self);
        }
    }
}

impl Keep {
    /// Keeps descriptors in `park`.
    pub fn new(park: Box<dyn Park>) -> Self {
        Self::resume(park, BTreeMap::new())
    }

    /// Goes on from what another process has left, which `park` holds already.
    pub fn resume(park: Box<dyn Park>, left: BTreeMap<u32, OwnedFd>) -> Self {
        let highest = left.last_key_value().map_or(0, |(id, _)| *id);
        let shelf = Shelf {
            park: Some(park),
            held: BTreeMap::new(),
            serial: 0,
            next_id: highest.max(FIRST_FREE - 1).wrapping_add(1),
            left,
            released: Vec::new(),
            memories: Vec::new(),
            left_memories: Vec::new(),
            log: None,
        };
        Self {
            shelf: Some(Arc::new(Mutex::new(shelf))),
        }
    }

    fn shelf(&self) -> Option<MutexGuard<'_, Shelf>> {
        let shelf = self.shelf.as_ref()?;
        Some(shelf.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether anything is kept at all.
    pub fn is_active(&self) -> bool {
        self.shelf.is_some()
    }

    /// Holds a duplicate of a descriptor.
    pub fn hold(&self, fd: BorrowedFd<'_>) -> Option<Held> {
        let mut held = self.hold_eventfds(&[fd]).pop()?;
        held.may_wait = false;
        Some(held)
    }

    /// Holds duplicates of some eventfds. There are as many in the answer, or none if nothing is
    /// kept.
    pub fn hold_eventfds(&self, fds: &[BorrowedFd<'_>]) -> Vec<Held> {
        let Some(mut shelf) = self.shelf() else {
            return Vec::new();
        };
        let ids: Vec<_> = fds.iter().map(|_| shelf.next_id()).collect();
        let parked: Vec<_> = ids.iter().copied().zip(fds.iter().copied()).collect();
        let serial = shelf.park(&parked);
        let held = ids.into_iter().map(|id| {
            let mut held = self.held(id, serial);
            held.may_wait = true;
            held
        });
        held.collect()
    }

    /// Holds a duplicate under a number of its own.
    pub fn hold_as(&self, id: u32, fd: BorrowedFd<'_>) -> Option<Held> {
        let serial = self.shelf()?.park(&[(id, fd)]);
        Some(self.held(id, serial))
    }

    /// Holds all from now on in another park.
    pub fn adopt(&self, park: Box<dyn Park>) -> io::Result<()> {
        match self.shelf() {
            Some(mut shelf) => shelf.adopt(park),
            None => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Takes what another process has left under this number.
    pub fn claim(&self, id: u32) -> Option<(OwnedFd, Held)> {
        let mut shelf = self.shelf()?;
        let fd = shelf.left.remove(&id)?;
        let duplicate = fd.try_clone().ok()?;
        shelf.serial += 1;
        let serial = shelf.serial;
        shelf.held.insert(id, (fd, serial));
        drop(shelf);
        Some((duplicate, self.held(id, serial)))
    }

    /// Lets go of what was left and not claimed: nothing stands for it any more.
    pub fn settle(&self) {
        if let Some(mut shelf) = self.shelf() {
            let unclaimed = std::mem::take(&mut shelf.left);
            shelf.left_memories.clear();
            unclaimed.into_keys().for_each(|id| shelf.release(id, true));
            shelf.tell_released();
        }
    }

    /// Memory of the device's own: what another process left under this name, or fresh memory of
    /// zeros.
    pub fn memory(&self, name: &str, len: u64) -> io::Result<RegionMemory> {
        let left = self
            .shelf()
            .and_then(|mut shelf| shelf.find_left(name, len));
        if let Some((fd, held)) = left.and_then(|id| self.claim(id)) {
            let memory = RegionMemory::open(fd, len)?;
            return Ok(self.remember(name, memory, held));
        }
        let memory = RegionMemory::new(name, len)?;
        match self.hold(memory.file().as_fd()) {
            Some(held) => Ok(self.remember(name, memory, held)),
            None => Ok(memory),
        }
    }

    fn remember(&self, name: &str, memory: RegionMemory, held: Held) -> RegionMemory {
        if let Some(mut shelf) = self.shelf() {
            let kept = KeptMemory::new(name, memory.len(), held.id());
            shelf.memories.push(kept);
            shelf.note_memories();
        }
        memory.held_by(held)
    }

    /// Notes from now on in `log` which memories the device has.
    pub(crate) fn set_memory_log(&self, log: MemoryLog) {
        if let Some(mut shelf) = self.shelf() {
            shelf.log = Some(log);
            shelf.note_memories();
        }
    }

    /// What another process had noted of its device's memories.
    pub(crate) fn set_left_memories(&self, left: Vec<KeptMemory>) {
        if let Some(mut shelf) = self.shelf() {
            shelf.left_memories = left;
        }
    }

    fn held(&self, id: u32, serial: u64) -> Held {
        Held {
            id,
            serial,
            keep: self.clone(),
            may_wait: false,
            stays: false,
        }
    }
}

impl Shelf {
    fn next_id(&mut self) -> u32 {
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
    fn park(&mut self, fds: &[(u32, BorrowedFd<'_>)]) -> u64 {
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

    /// Releases it, unless its number stands for another one by now.
    fn let_go(&mut self, held: &Held) {
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
    }

    fn adopt(&mut self, mut park: Box<dyn Park>) -> io::Result<()> {
        let held = self.held.iter();
        let held: Vec<_> = held.map(|(id, (fd, _))| (*id, fd.as_fd())).collect();
        park.park(&held)?;
        self.released.clear();
        self.park = Some(park);
        Ok(())
    }

    fn find_left(&mut self, name: &str, len: u64) -> Option<u32> {
        let wanted = self.left_memories.iter().position(|it| it.is(name, len))?;
        Some(self.left_memories.remove(wanted).id())
    }

    fn note_memories(&self) {
        if let Some(log) = &self.log {
            log.set(&self.memories);
        }
    }
}
