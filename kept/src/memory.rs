//! A mapped memory file, in parts that do not overlap.

#![expect(
    unsafe_code,
    reason = "memory that two processes map is reached through pointers"
)]

use std::alloc::{Layout, handle_alloc_error};
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_get_seals, fstat};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

/// The unit of parts of bytes, so that each can be given back to the kernel.
const PAGE: usize = 4096;

/// Words of 8 bytes.
const WORD: usize = size_of::<u64>();

/// Memory from which parts are taken, one after the other: who opens it again takes the same parts
/// in the same order.
#[derive(Debug)]
pub struct Memory {
    map: Arc<Mapping>,
    file: Option<Arc<OwnedFd>>,
    taken: usize,
}

/// A mapping, for as long as any part of it is used.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    len: usize,
    is_file: bool,
}

// SAFETY: a mapping may be used from any thread; what lies in it is reached by atomics, or by the
// one owner of a part.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and no part is left.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}

impl Memory {
    /// `len` bytes of zeros in a memory file that keeps its length; they take no memory until they
    /// are written. `name` is what `/proc/PID/maps` shows.
    pub fn new(name: &str, len: usize) -> io::Result<Self> {
        let len = len.next_multiple_of(PAGE);
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create(name, flags)?;
        rustix::fs::ftruncate(&file, len as u64)?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        Self::map(file, len)
    }

    /// Opens what another process has made with this length. That process must not use it any
    /// more: it is gone, or waits.
    pub fn open(file: OwnedFd, len: usize) -> io::Result<Self> {
        let len = len.next_multiple_of(PAGE);
        let is_whole = u64::try_from(fstat(&file)?.st_size).is_ok_and(|size| size == len as u64);
        if !is_whole || !fcntl_get_seals(&file)?.contains(SealFlags::SHRINK) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Self::map(file, len)
    }

    fn map(file: OwnedFd, len: usize) -> io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses a place that nobody uses, and the file is sealed against
        // shrinking.
        let start = unsafe { mmap(ptr::null_mut(), len, access, MapFlags::SHARED, &file, 0)? };
        Ok(Self {
            map: Arc::new(Mapping {
                start: NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?,
                len,
                is_file: true,
            }),
            file: Some(Arc::new(file)),
            taken: 0,
        })
    }

    /// `len` bytes of zeros that no other process has. Without memory for them the process ends,
    /// as it does for any other value.
    pub fn private(len: usize) -> Self {
        let len = len.next_multiple_of(PAGE).max(PAGE);
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: the kernel chooses a place that nobody uses.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), len, access, flags) };
        let Some(start) = start.ok().and_then(|start| NonNull::new(start.cast())) else {
            handle_alloc_error(Layout::array::<u8>(len).unwrap_or(Layout::new::<u8>()));
        };
        Self {
            map: Arc::new(Mapping {
                start,
                len,
                is_file: false,
            }),
            file: None,
            taken: 0,
        }
    }

    /// The memory file, if it is one.
    pub fn file(&self) -> Option<&Arc<OwnedFd>> {
        self.file.as_ref()
    }

    /// Takes the next `count` words.
    pub fn words(&mut self, count: usize) -> io::Result<Words> {
        let at = self.take(count.checked_mul(WORD), WORD)?;
        Ok(Words {
            map: Arc::clone(&self.map),
            at,
            count,
        })
    }

    /// Takes the next `len` bytes, which begin a page.
    pub fn bytes(&mut self, len: usize) -> io::Result<Bytes> {
        let at = self.take(Some(len), PAGE)?;
        Ok(Bytes {
            map: Arc::clone(&self.map),
            at,
            len,
        })
    }

    fn take(&mut self, len: Option<usize>, alignment: usize) -> io::Result<usize> {
        let at = self.taken.next_multiple_of(alignment);
        let end = len.and_then(|len| at.checked_add(len));
        let end = end.filter(|end| *end <= self.map.len);
        self.taken = end.ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(at)
    }
}

/// Words that are read and written whole. Clones are the same words.
#[derive(Clone, Debug)]
pub struct Words {
    map: Arc<Mapping>,
    at: usize,
    count: usize,
}

impl Words {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.count, "word {index} of {}", self.count);
        // SAFETY: it lies in the mapping, which lives as long as this, is aligned, and is reached
        // as an atomic by everybody, the kernel's stores into a header apart.
        unsafe { AtomicU64::from_ptr(self.pointer(index)) }
    }

    /// Where a word lies, for the kernel.
    pub(crate) fn pointer(&self, index: usize) -> *mut u64 {
        debug_assert!(index < self.count);
        let start = self.map.start.as_ptr();
        // SAFETY: part of the mapping.
        unsafe { start.add(self.at + index * WORD).cast() }
    }

    /// A word.
    ///
    /// # Panics
    ///
    /// If there is no such word: which there are is the program's to know.
    #[inline]
    pub fn get(&self, index: usize) -> u64 {
        self.word(index).load(Ordering::Acquire)
    }

    /// Stores a word, after all that was stored before.
    ///
    /// # Panics
    ///
    /// As [`Self::get`].
    #[inline]
    pub fn set(&self, index: usize, value: u64) {
        self.word(index).store(value, Ordering::Release);
    }
}

/// Bytes with one owner.
#[derive(Debug)]
pub struct Bytes {
    map: Arc<Mapping>,
    at: usize,
    len: usize,
}

impl Bytes {
    /// Gives the memory from `from` on back to the kernel; it reads as zeros.
    pub fn release(&mut self, from: usize) {
        let from = from.next_multiple_of(PAGE);
        let Some(len) = self.len.checked_sub(from).filter(|len| *len > 0) else {
            return;
        };
        let advice = match self.map.is_file {
            true => Advice::LinuxRemove,
            false => Advice::LinuxDontNeed,
        };
        let start = self.map.start.as_ptr();
        // SAFETY: whole pages of this part, of which there is no borrow.
        let _ = unsafe { madvise(start.add(self.at + from).cast(), len, advice) };
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: part of the mapping, which lives as long as this. Nobody else has this part: it
        // was taken once here, and the process that had it before does not use it any more.
        unsafe { std::slice::from_raw_parts(self.map.start.as_ptr().add(self.at), self.len) }
    }
}

impl DerefMut for Bytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.map.start.as_ptr().add(self.at), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn duplicate(memory: &Memory) -> OwnedFd {
        memory.file().unwrap().try_clone().unwrap()
    }

    #[test]
    fn who_opens_it_again_finds_what_was_stored() {
        let mut memory = Memory::new("test", 20_000).unwrap();
        let words = memory.words(3).unwrap();
        let mut bytes = memory.bytes(5000).unwrap();
        words.set(2, 7);
        bytes[4999] = 9;
        let mut again = Memory::open(duplicate(&memory), 20_000).unwrap();
        assert_eq!(again.words(3).unwrap().get(2), 7);
        assert_eq!(again.bytes(5000).unwrap()[4999], 9);
    }

    #[test]
    fn memory_of_another_length_is_not_opened() {
        let memory = Memory::new("test", 8192).unwrap();
        assert!(Memory::open(duplicate(&memory), 8193).is_err());
        assert!(Memory::open(duplicate(&memory), 4096).is_err());
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        assert!(Memory::open(file.into(), 8192).is_err());
    }

    #[test]
    fn no_more_is_taken_than_there_is() {
        let mut memory = Memory::private(8192);
        assert!(memory.words(1025).is_err());
        memory.words(1).unwrap();
        assert!(memory.bytes(4097).is_err());
        memory.bytes(4096).unwrap();
        assert!(memory.words(1).is_err());
        assert!(memory.words(usize::MAX).is_err());
    }

    #[test]
    fn what_is_released_reads_as_zeros() {
        for mut memory in [Memory::new("test", 16384).unwrap(), Memory::private(16384)] {
            let mut bytes = memory.bytes(16384).unwrap();
            bytes.fill(1);
            bytes.release(4097);
            assert!(bytes[..8192].iter().all(|byte| *byte == 1));
            assert!(bytes[8192..].iter().all(|byte| *byte == 0));
            bytes.release(16384);
        }
    }
}
