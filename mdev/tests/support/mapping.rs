//! One page of a file, mapped as a client maps a BAR.

#![expect(unsafe_code, reason = "a client maps the memory of a BAR")]

use std::fs::File;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

const LEN: usize = 4096;

/// A shared mapping of one page.
///
/// # Invariants
///
/// `base..base + LEN` stays mapped, readable and writable, until drop.
pub(crate) struct Mapping {
    base: NonNull<u8>,
}

impl Mapping {
    pub(crate) fn new(file: &File, offset: u64) -> Self {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let anywhere = std::ptr::null_mut();
        // SAFETY: the kernel chooses an address where nothing is mapped yet.
        let base = unsafe { mmap(anywhere, LEN, protection, MapFlags::SHARED, file, offset) };
        Self {
            base: NonNull::new(base.unwrap().cast()).unwrap(),
        }
    }

    pub(crate) fn write(&self, bytes: [u8; 8]) {
        // SAFETY: the page is mapped and writable, by the type's invariant, and its start is
        // aligned; no reference to it exists.
        unsafe { self.base.cast::<[u8; 8]>().write_volatile(bytes) };
    }

    pub(crate) fn read(&self) -> [u8; 8] {
        // SAFETY: the page is mapped and readable, by the type's invariant; any bytes will do.
        unsafe { self.base.cast::<[u8; 8]>().read_volatile() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is exactly what `new` mapped, and nobody else has it.
        unsafe { munmap(self.base.as_ptr().cast(), LEN) }.unwrap();
    }
}
