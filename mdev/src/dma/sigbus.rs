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
use std::os::fd::OwnedFd;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

/// Most extents at a time. A client has one or two for each of its files.
const MAX_EXTENTS: usize = 1024;

/// Whether a client has truncated a file of its own.
#[derive(Debug, Default)]
pub struct Truncation {
    noticed: AtomicBool,
    /// An eventfd to write when it happens. Its own: a pin keeps an extent, and so this, longer
    /// than a session lives.
    wake: OnceLock<OwnedFd>,
}

impl Truncation {
    /// Whether it has happened.
    #[inline]
    pub fn is_noticed(&self) -> bool {
        self.noticed.load(Ordering::Relaxed)
    }

    /// Has `eventfd` written when it happens, whichever thread meets it. Only the first is.
    pub(crate) fn wake_by(&self, eventfd: OwnedFd) {
        let _ = self.wake.set(eventfd);
    }

    /// Called in the signal handler: atomics and system calls only.
    fn note(&self) {
        self.noticed.store(true, Ordering::Release);
        if let Some(eventfd) = self.wake.get() {
            let _ = rustix::io::write(eventfd, &1_u64.to_ne_bytes());
        }
    }
}

/// One extent, as the handler sees it.
struct Slot {
    /// Odd while the rest is changed: what was read between two looks that differ is of no use.
    version: AtomicUsize,
    /// 0 while the slot is free.
    base: AtomicUsize,
    len: AtomicUsize,
    truncation: AtomicPtr<Truncation>,
}

impl Slot {
    const fn free() -> Self {
        Self {
            version: AtomicUsize::new(0),
            base: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
            truncation: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Only under [`CHANGING`].
    fn set(&self, base: usize, len: usize, truncation: *mut Truncation) {
        self.version.fetch_add(1, Ordering::SeqCst);
        self.base.store(base, Ordering::SeqCst);
        self.len.store(len, Ordering::SeqCst);
        self.truncation.store(truncation, Ordering::SeqCst);
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    /// The extent, if it holds `address`. `None` too if the slot is being changed: then it is not
    /// the slot of the extent that holds the address, which somebody is using.
    fn holding(&self, address: usize) -> Option<(usize, usize, *mut Truncation)> {
        let version = self.version.load(Ordering::SeqCst);
        let base = self.base.load(Ordering::SeqCst);
        let len = self.len.load(Ordering::SeqCst);
        let truncation = self.truncation.load(Ordering::SeqCst);
        let is_whole = version.is_multiple_of(2) && self.version.load(Ordering::SeqCst) == version;
        let holds = base != 0 && address.wrapping_sub(base) < len;
        (is_whole && holds).then_some((base, len, truncation))
    }
}

static SLOTS: [Slot; MAX_EXTENTS] = [const { Slot::free() }; MAX_EXTENTS];

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
        SLOTS[slot].set(base, len, Arc::as_ptr(truncation).cast_mut());
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
        SLOTS[self.slot].set(0, 0, ptr::null_mut());
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
        let Some((base, len, truncation)) = slot.holding(address) else {
            continue;
        };
        // Shared, since memory of the process's own counts to RLIMIT_DATA: as much of it as a client
        // likes would leave none for the heap until the session has ended.
        // SAFETY: exactly the extent's own pages, which stay mapped while it lives; whoever
        // touches them now is in the middle of a volatile access, which takes any bytes.
        let mended = unsafe {
            mmap_anonymous(
                ptr::without_provenance_mut(base),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::FIXED | MapFlags::NORESERVE,
            )
        };
        if mended.is_err() {
            return false;
        }
        // SAFETY: the registration of the extent keeps the `Arc` that this points into, and the
        // extent lives: somebody is touching it.
        let truncation = unsafe { truncation.as_ref() };
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

    #[test]
    fn a_truncated_file_reads_zeros_and_is_noticed() {
        install().unwrap();
        let fd: OwnedFd = memfd_create("truncated", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&fd, 8192).unwrap();
        let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
        let truncation = Arc::new(Truncation::default());
        truncation.wake_by(wake.try_clone().unwrap());
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

    /// KiB of memory that counts to RLIMIT_DATA.
    fn data() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmData:"));
        let mut words = line.unwrap().split_whitespace();
        words.nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn what_takes_a_truncated_files_place_leaves_the_heap_its_limit() {
        const SIZE: u64 = 4 << 30;
        install().unwrap();
        let fd: OwnedFd = memfd_create("truncated", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&fd, SIZE).unwrap();
        let truncation = Arc::new(Truncation::default());
        let extent = Extent::map(&fd, 0, SIZE, true, &truncation).unwrap();
        ftruncate(&fd, 0).unwrap();
        let before = data();
        extent.slice(0, 1).unwrap().copy_from(&[3_u8]);
        assert!(truncation.is_noticed());
        // Other tests run meanwhile, and take much less.
        assert!(data() < before + (SIZE >> 11), "{} KiB", data() - before);
    }
}
