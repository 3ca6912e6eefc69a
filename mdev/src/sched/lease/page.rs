//! A file of memory that holds the words of a lease, mapped by daemon and worker.

#![expect(
    unsafe_code,
    reason = "words in shared memory are a raw mapping, and are reached only here"
)]

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::{GrantWords, UsageWords};

/// Bytes of the file: a page on every machine that this runs on, or a part of one.
const LEN: usize = 4096;

/// Name of the file, as `/proc/PID/maps` shows it.
const NAME: &str = "vgpud-lease";

/// What may lie in a page.
///
/// # Safety
///
/// The type consists of atomics alone, is valid whatever they hold, and fits 4096 bytes.
pub unsafe trait Words: Sync {}

// SAFETY: seven `AtomicU64`s; any number is one.
unsafe impl Words for GrantWords {}
// SAFETY: as above.
unsafe impl Words for UsageWords {}

const _: () = assert!(size_of::<GrantWords>() <= LEN && size_of::<UsageWords>() <= LEN);

/// Words in memory that another process has mapped as well.
///
/// # Invariants
///
/// `base` is mapped shared, page by page, for `LEN` bytes until drop, from a file that is sealed
/// against shrinking: access cannot fault. Where the mapping can only be read, the words are only
/// read: see [`Page::open_to_read`].
#[derive(Debug)]
pub struct Page<T: Words> {
    base: NonNull<u8>,
    file: OwnedFd,
    words: PhantomData<T>,
}

// SAFETY: the mapping belongs to the process, and is unmapped by `drop` alone; what is in it is
// reached by atomics.
unsafe impl<T: Words> Send for Page<T> {}
// SAFETY: as above; `T` is `Sync`.
unsafe impl<T: Words> Sync for Page<T> {}

impl<T: Words> Page<T> {
    /// Fresh words: zeros.
    pub fn new() -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create(NAME, flags)?;
        ftruncate(&file, LEN as u64)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Self::map(file, ProtFlags::READ | ProtFlags::WRITE)
    }

    /// Words that another process has made, to be written here.
    pub fn open(file: OwnedFd) -> io::Result<Self> {
        Self::map(file, ProtFlags::READ | ProtFlags::WRITE)
    }

    fn map(file: OwnedFd, protection: ProtFlags) -> io::Result<Self> {
        if cfg!(loom) {
            // Its atomics are not words in memory.
            return Err(io::ErrorKind::Unsupported.into());
        }
        let is_sound = fcntl_get_seals(&file)?.contains(SealFlags::SHRINK)
            && fstat(&file)?.st_size == LEN as i64;
        if !is_sound {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let anywhere = std::ptr::null_mut();
        // SAFETY: the kernel chooses an address where nothing is mapped yet.
        let base = unsafe { mmap(anywhere, LEN, protection, MapFlags::SHARED, &file, 0) }?;
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self {
            base,
            file,
            words: PhantomData,
        })
    }

    /// A descriptor by which another process can read the words and not write them.
    pub fn read_only_file(&self) -> io::Result<OwnedFd> {
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        File::open(path).map(OwnedFd::from)
    }
}

impl Page<GrantWords> {
    /// Words that another process has made and writes. Here they are never written.
    pub fn open_to_read(file: OwnedFd) -> io::Result<Granted> {
        Self::map(file, ProtFlags::READ).map(Granted)
    }
}

/// A grant that can only be read: a store would be a fault.
#[derive(Debug)]
pub struct Granted(Page<GrantWords>);

impl Granted {
    /// The words, of which those methods that store are for the daemon.
    pub(crate) fn words(&self) -> &GrantWords {
        &self.0
    }
}

impl<T: Words> Deref for Page<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: by the invariant, `LEN` bytes are mapped there for as long as `self` is borrowed,
        // aligned as pages are; by that of `Words`, whatever is in them is a `T`, and others who
        // write there meanwhile are what atomics are for.
        unsafe { self.base.cast::<T>().as_ref() }
    }
}

impl<T: Words> AsFd for Page<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl<T: Words> Drop for Page<T> {
    fn drop(&mut self) {
        // SAFETY: this is exactly what `map` mapped, and nobody else has it any more.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), LEN) };
        debug_assert!(unmapped.is_ok());
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::super::{Granter, Lease};
    use super::*;
    use crate::sched::{Nanos, Time};

    #[test]
    fn what_one_process_writes_another_reads() {
        let ours = Page::<GrantWords>::new().unwrap();
        let theirs = Page::open_to_read(ours.read_only_file().unwrap()).unwrap();
        let lease = Lease::new(1, 2, Nanos(3), Nanos(4), Time(5)).unwrap();
        Granter::new(&ours).grant(&ours, &lease);
        assert_eq!(theirs.words().read().map(|(_, lease)| lease), Some(lease));
    }

    #[test]
    fn who_may_read_a_grant_may_not_write_it() {
        let ours = Page::<GrantWords>::new().unwrap();
        let file = ours.read_only_file().unwrap();
        assert!(Page::<GrantWords>::open(file).is_err());
    }

    #[test]
    fn a_file_that_could_shrink_or_is_too_short_is_not_mapped() {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("test", flags).unwrap();
        ftruncate(&file, LEN as u64).unwrap();
        assert!(Page::<UsageWords>::open(file.try_clone().unwrap()).is_err());
        fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
        assert!(Page::<UsageWords>::open(file).is_ok());
        let file = rustix::fs::memfd_create("test", flags).unwrap();
        fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
        assert!(Page::<UsageWords>::open(file).is_err());
        let (pipe, _) = rustix::pipe::pipe().unwrap();
        assert!(Page::<UsageWords>::open(pipe).is_err());
    }
}
