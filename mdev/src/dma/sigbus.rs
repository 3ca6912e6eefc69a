//! What happens when a client truncates a file that is mapped here: touching what is gone is a
//! bus error, which would end the process.
//!
//! The handler finds the extent that holds the address, puts fresh memory in its place, and notes
//! that the client has truncated. The access goes on, on zeros; the session ends as soon as it
//! looks. A bus error anywhere else does what it always does.
//!
//! The table is the one thing in this crate that is global to the process: a signal is.

#![expect(unsafe_code, reason = "a signal handler that mends a mapping")]

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

/// Most extents at a time. A client has one or two for each of its files.
const MAX_EXTENTS: usize = 1024;

/// Whether a client has truncated a file of its own.
#[derive(Debug)]
pub struct Truncation {
    noticed: AtomicBool,
    /// An eventfd to write when it happens, or -1.
    wake: AtomicI32,
}

impl Default for Truncation {
    fn default() -> Self {
        Self {
            noticed: AtomicBool::new(false),
            wake: AtomicI32::new(-1),
        }
    }
}

impl Truncation {
    /// Whether it has happened.
    #[inline]
    pub fn is_noticed(&self) -> bool {
        self.noticed.load(Ordering::Relaxed)
    }

    /// Has `eventfd` written when it happens, whichever thread meets it. The descriptor must
    /// outlive every extent: the caller keeps it for as long as the client is served.
    pub(crate) fn wake_by(&self, eventfd: RawFd) {
        self.wake.store(eventfd, Ordering::Release);
    }

    /// Called in the signal handler: atomics and system calls only.
    fn note(&self) {
        self.noticed.store(true, Ordering::Release);
        let wake = self.wake.load(Ordering::Acquire);
        if wake >= 0 {
            // SAFETY: open for as long as extents are, as `wake_by` demands.
            let eventfd = unsafe { BorrowedFd::borrow_raw(wake) };
            let _ = rustix::io::write(eventfd, &1_u64.to_ne_bytes());
        }
    }
}

struct Slot {
    /// 0 while the slot is free.
    base: AtomicUsize,
    len: AtomicUsize,
    truncation: AtomicPtr<Truncation>,
}

static SLOTS: [Slot; MAX_EXTENTS] = [const {
    Slot {
        base: AtomicUsize::new(0),
        len: AtomicUsize::new(0),
        truncation: AtomicPtr::new(ptr::null_mut()),
    }
}; MAX_EXTENTS];

/// Held while slots are taken and given back. The handler only reads.
static CHANGING: Mutex<()> = Mutex::new(());

/// An extent's place in the table, for as long as it lives.
#[derive(Debug)]
pub(super) struct Registration {
    slot: usize,
    /// The slot points into it.
    _truncation: Arc<Truncation>,
}

impl Registration {
    /// `None` if the table is full.
    pub(super) fn new(base: usize, len: usize, truncation: &Arc<Truncation>) -> Option<Self> {
        let _changing = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = SLOTS
            .iter()
            .position(|slot| slot.base.load(Ordering::Relaxed) == 0)?;
        SLOTS[slot]
            .truncation
            .store(Arc::as_ptr(truncation).cast_mut(), Ordering::Release);
        SLOTS[slot].len.store(len, Ordering::Release);
        SLOTS[slot].base.store(base, Ordering::Release);
        Some(Self {
            slot,
            _truncation: Arc::clone(truncation),
        })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let _changing = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody touches the extent any more, so no handler can be looking for it.
        SLOTS[self.slot].base.store(0, Ordering::Release);
    }
}

/// Installs the handler. Programs do so once, before they serve a client.
pub fn install() -> io::Result<()> {
    // SAFETY: all-zero is a valid `sigaction`: no flags, an empty mask, the default action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handle as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_NODEFER;
    // SAFETY: `handle` has the signature that SA_SIGINFO asks for, and is async-signal-safe: it
    // loads atomics and makes system calls. Nobody needs the old action.
    if unsafe { libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

extern "C" fn handle(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid `siginfo_t`, and SIGBUS has an address in it.
    let address = unsafe { (*info).si_addr() } as usize;
    if !mend(address) {
        // Not ours. With the default action back, the same access ends the process as it would
        // have.
        // SAFETY: as in `install`; the default action needs no handler.
        unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
    }
}

/// Puts fresh memory in the place of the extent that holds `address`.
fn mend(address: usize) -> bool {
    for slot in &SLOTS {
        let base = slot.base.load(Ordering::Acquire);
        let len = slot.len.load(Ordering::Acquire);
        if base == 0 || address.wrapping_sub(base) >= len {
            continue;
        }
        // SAFETY: exactly the extent's own pages, which stay mapped while it lives; whoever
        // touches them now is in the middle of a volatile access, which takes any bytes.
        let mended = unsafe {
            mmap_anonymous(
                ptr::without_provenance_mut(base),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE,
            )
        };
        if mended.is_err() {
            return false;
        }
        // SAFETY: the registration of the extent keeps the `Arc` that this points into, and the
        // extent lives: somebody is touching it.
        let truncation = unsafe { slot.truncation.load(Ordering::Acquire).as_ref() };
        if let Some(truncation) = truncation {
            truncation.note();
        }
        return true;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dma::extent::Extent;
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    use std::os::fd::{AsRawFd, OwnedFd};

    #[test]
    fn a_truncated_file_reads_zeros_and_is_noticed() {
        install().unwrap();
        let fd: OwnedFd = memfd_create("truncated", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&fd, 8192).unwrap();
        let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
        let truncation = Arc::new(Truncation::default());
        truncation.wake_by(wake.as_raw_fd());
        let extent = Extent::map(&fd, 0, 8192, true, &truncation).unwrap();
        rustix::io::pwrite(&fd, &[7; 8192], 0).unwrap();
        ftruncate(&fd, 4096).unwrap();
        assert!(!truncation.is_noticed());
        let mut bytes = [1_u8; 16];
        extent.slice(8000, 16).unwrap().copy_to(&mut bytes[..]);
        assert_eq!(bytes, [0; 16]);
        assert!(truncation.is_noticed());
        let mut count = [0; 8];
        assert_eq!(rustix::io::read(&wake, &mut count), Ok(8));
        extent.slice(4096, 16).unwrap().copy_from(&[3_u8; 16]);
    }
}
