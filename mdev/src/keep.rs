//! What outlives the process that serves a device, so that another can go on under the same client.
//!
//! - [`Park`]: who holds duplicates of descriptors, elsewhere.
//! - [`Keep`]: which of them are held, and what a process before this one has left.
//! - `shelf`: their numbers, and the duplicates for a park that comes later.
//! - [`journal`]: the memory file that says what they are: mappings, interrupts, and how far the
//!   stream is dealt with.
//! - [`checkpoint`]: the device's registers, as they were between two requests.
//! - [`logs`]: the parts of the journal that others write as things change.
//!
//! Not here: how a session goes on from it (`session::resume`), and processes (`worker`, `vgpud`).

pub mod checkpoint;
pub mod journal;
pub mod logs;
mod shelf;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::region_memory::RegionMemory;
use logs::{KeptMemory, MemoryLog};
use shelf::Shelf;

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
        let shelf = Shelf::new(park, left);
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
        let (fd, serial) = self.shelf()?.claim(id)?;
        Some((fd, self.held(id, serial)))
    }

    /// Lets go of what was left and not claimed: nothing stands for it any more.
    pub fn settle(&self) {
        if let Some(mut shelf) = self.shelf() {
            shelf.settle();
        }
    }

    /// Leaves all that is held to a process that goes on from it: nothing that ends here ends there.
    pub(crate) fn abandon(&self) {
        if let Some(mut shelf) = self.shelf() {
            shelf.abandon();
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
            shelf.remember(KeptMemory::new(name, memory.len(), held.id()));
        }
        memory.held_by(held)
    }

    /// Notes from now on in `log` which memories the device has.
    pub(crate) fn set_memory_log(&self, log: MemoryLog) {
        if let Some(mut shelf) = self.shelf() {
            shelf.set_log(log);
        }
    }

    /// What another process had noted of its device's memories.
    pub(crate) fn set_left_memories(&self, left: Vec<KeptMemory>) {
        if let Some(mut shelf) = self.shelf() {
            shelf.set_left_memories(left);
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
