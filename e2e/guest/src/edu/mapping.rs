//! Memory that a device shares: its registers, and pages that it transfers to and from.
#![expect(
    unsafe_code,
    reason = "what a device reads and writes is reached by raw pointers, and only here"
)]

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::ptr::{self, NonNull};

use rustix::mm::{MapFlags, MlockFlags, ProtFlags, mlock_with, mmap, mmap_anonymous, munmap};

const READ_WRITE: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);

/// A mapping that nobody has a reference into: every access is volatile, and within bounds.
///
/// # Invariants
///
/// `base..base + len` is mapped, readable and writable until drop, and `base` lies at a page's
/// beginning.
pub(super) struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// Maps a file from its beginning.
    pub(super) fn of_file(file: &File, len: usize) -> io::Result<Self> {
        // SAFETY: the kernel chooses the place, so nothing that was mapped is replaced.
        let base = unsafe { mmap(ptr::null_mut(), len, READ_WRITE, MapFlags::SHARED, file, 0) }?;
        Self::new(base, len)
    }

    /// Maps new memory, all zero, that stays in memory until it is dropped.
    pub(super) fn locked(len: usize) -> io::Result<Self> {
        // SAFETY: as above.
        let base = unsafe { mmap_anonymous(ptr::null_mut(), len, READ_WRITE, MapFlags::PRIVATE) }?;
        let mapping = Self::new(base, len)?;
        // SAFETY: the range is that of the mapping, and a lock changes none of its bytes.
        unsafe { mlock_with(base, len, MlockFlags::empty()) }?;
        Ok(mapping)
    }

    fn new(base: *mut c_void, len: usize) -> io::Result<Self> {
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { base, len })
    }

    /// Where the mapping is in this process.
    pub(super) fn address(&self) -> usize {
        self.base.addr().get()
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Reads a register.
    pub(super) fn load(&self, at: usize) -> u32 {
        // SAFETY: `place` is in bounds and aligned. A device's register holds any bits.
        unsafe { self.place::<u32>(at).read_volatile() }
    }

    /// Writes a register.
    pub(super) fn store(&self, at: usize, value: u32) {
        // SAFETY: `place` is in bounds and aligned.
        unsafe { self.place::<u32>(at).write_volatile(value) }
    }

    /// Writes a register of 64 bits, in one access.
    pub(super) fn store_long(&self, at: usize, value: u64) {
        // SAFETY: `place` is in bounds and aligned.
        unsafe { self.place::<u64>(at).write_volatile(value) }
    }

    /// Copies out of memory.
    pub(super) fn read(&self, at: usize, out: &mut [u8]) {
        let first = self.range(at, out.len());
        for (n, byte) in out.iter_mut().enumerate() {
            // SAFETY: `range` saw to it that `n` more bytes are in bounds. A device may write
            // there at any time; a volatile read of one byte makes no assumption about that.
            *byte = unsafe { first.add(n).read_volatile() };
        }
    }

    /// Copies into memory.
    pub(super) fn write(&self, at: usize, bytes: &[u8]) {
        let first = self.range(at, bytes.len());
        for (n, &byte) in bytes.iter().enumerate() {
            // SAFETY: as in `read`.
            unsafe { first.add(n).write_volatile(byte) };
        }
    }

    /// A register's place, checked.
    fn place<T>(&self, at: usize) -> *mut T {
        let place = self.range(at, size_of::<T>()).cast::<T>();
        assert!(place.is_aligned(), "a register at {at:#x}");
        place
    }

    /// Where `len` bytes begin, all of them in bounds.
    fn range(&self, at: usize, len: usize) -> *mut u8 {
        let end = at.checked_add(len);
        assert!(
            end.is_some_and(|end| end <= self.len),
            "{len} bytes at {at:#x}"
        );
        self.base.as_ptr().wrapping_add(at)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: by the type's invariant this range was mapped here, and nobody has a reference
        // into it. A failure would leave it mapped, which harms nobody.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}
