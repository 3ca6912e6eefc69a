//! A region, mapped as a client does.

#![expect(
    unsafe_code,
    reason = "what a server shares is a raw mapping, and is reached only here"
)]

use std::os::fd::OwnedFd;
use std::ptr::{self, NonNull};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use vm_memory::{Bytes, VolatileSlice};

use crate::Failure;

/// Part of a file.
///
/// # Invariants
///
/// `base..base + len` stays mapped until drop.
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// Maps `len` bytes of a file of the server's, which has as many: servers seal theirs, and a device
    /// does not shrink.
    pub(crate) fn new(file: &OwnedFd, offset: u64, len: u64) -> Result<Self, Failure> {
        let len = usize::try_from(len)?;
        let both = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel picks the place, so no memory that is in use is replaced.
        let base = unsafe { mmap(ptr::null_mut(), len, both, MapFlags::SHARED, file, offset) }?;
        let base = NonNull::new(base.cast()).ok_or("mapped at 0")?;
        Ok(Self { base, len })
    }

    fn slice(&self) -> VolatileSlice<'_> {
        // SAFETY: by the invariant it is mapped for as long as `self` is borrowed, and nobody forms
        // references to it.
        unsafe { VolatileSlice::new(self.base.as_ptr(), self.len) }
    }

    /// Copies to it.
    pub(crate) fn write(&self, at: usize, data: &[u8]) -> Result<(), Failure> {
        Ok(self.slice().write_slice(data, at)?)
    }

    /// Copies from it.
    pub(crate) fn read(&self, at: usize, data: &mut [u8]) -> Result<(), Failure> {
        Ok(self.slice().read_slice(data, at)?)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `new` made, and nobody can reach it any more.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}
