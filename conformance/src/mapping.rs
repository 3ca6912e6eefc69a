//! Memory that a server shares, mapped.

#![expect(
    unsafe_code,
    reason = "a server's memory is a raw mapping, and is reached only here"
)]

use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};

use rustix::fs::{FileType, fstat};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::check::Unmet;
use crate::ensure;

/// A shared mapping of part of a file.
///
/// # Invariants
///
/// `base..base + len` stays mapped, readable and writable until drop.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// Maps `size` bytes of `fd` from `offset` on.
    pub fn new(fd: BorrowedFd<'_>, offset: u64, size: u64) -> Result<Self, Unmet> {
        let file = fstat(fd)?;
        // A device's file has no size to tell, and the kernel maps of it what there is.
        let has_size = FileType::from_raw_mode(file.st_mode) == FileType::RegularFile;
        let file_size = u64::try_from(file.st_size).unwrap_or(0);
        let end = offset.checked_add(size);
        // Past the end a mapping succeeds, and to touch it ends this process.
        ensure!(
            !has_size || end.is_some_and(|end| end <= file_size),
            "the file has {file_size} bytes; {size} from {offset:#x} on should be in it"
        );
        let len = usize::try_from(size).map_err(|_| Unmet::fail("an area of that size"))?;
        let flags = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel picks the place, so no memory that is in use is replaced.
        let base = unsafe { mmap(ptr::null_mut(), len, flags, MapFlags::SHARED, fd, offset) }
            .map_err(|error| Unmet::fail(format!("the descriptor cannot be mapped: {error}")))?;
        match NonNull::new(base.cast()) {
            Some(base) => Ok(Self { base, len }),
            None => Err(Unmet::fail("the suite itself failed: a mapping at 0")),
        }
    }

    /// The byte at `offset`; `None` past the end.
    pub fn read(&self, offset: usize) -> Option<u8> {
        // SAFETY: `offset` is inside of the mapping, by the type's invariant. The server may
        // write it at any time, which a volatile read allows for.
        (offset < self.len).then(|| unsafe { self.base.add(offset).read_volatile() })
    }

    /// Writes the byte at `offset`; nothing past the end.
    pub fn write(&mut self, offset: usize, byte: u8) {
        if offset < self.len {
            // SAFETY: as for `read`.
            unsafe { self.base.add(offset).write_volatile(byte) };
        }
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes; never.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `new` made, and nobody can reach it any more.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}
