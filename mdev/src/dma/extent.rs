//! A stretch of a client's file, mapped into this process.

#![expect(
    unsafe_code,
    reason = "client memory is a raw mapping, and is reached only here"
)]

use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use vfu::Errno;
use vm_memory::VolatileSlice;

use super::dirty::DirtySlice;
use super::sigbus::{Registration, Truncation};
use crate::keep::Held;

/// A shared mapping of part of a client's file.
#[derive(Debug)]
pub struct Extent {
    /// Before `pages`, so that it is dropped first: once they are unmapped, the same addresses may
    /// be somebody else's, and must not be taken for the extent's.
    _registration: Registration,
    pages: Pages,
    /// Where in the file it begins.
    offset: u64,
    writable: bool,
    /// While its file outlives this process.
    held: Option<Held>,
}

/// Mapped pages.
///
/// # Invariants
///
/// `base..base + len` stays mapped until drop: readable, and writable if the extent is. If the
/// client truncates the file, the handler in [`super::sigbus`] puts other memory there before
/// anyone notices.
#[derive(Debug)]
struct Pages {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the process and not to a thread, and is unmapped only by `drop`,
// which has it alone. No reference into it is ever formed.
unsafe impl Send for Pages {}
// SAFETY: as above; all access is volatile, and whoever else writes at the same time (the guest
// does too) can only change the bytes that are read.
unsafe impl Sync for Pages {}

impl Extent {
    /// Maps `len` bytes of the file from `offset`. A truncation of it is noted in `truncation`.
    pub(super) fn map(
        fd: &OwnedFd,
        offset: u64,
        len: u64,
        writable: bool,
        truncation: &Arc<Truncation>,
    ) -> Result<Self, Errno> {
        let len = usize::try_from(len).map_err(|_| Errno::OVERFLOW)?;
        let pages = Pages::map(fd, offset, len, writable)?;
        let base = pages.base.as_ptr() as usize;
        let registration = Registration::new(base, len, truncation).ok_or(Errno::NOMEM)?;
        Ok(Self {
            _registration: registration,
            pages,
            offset,
            writable,
            held: None,
        })
    }

    /// Its file is held by this.
    pub(super) fn held_by(&mut self, held: Option<Held>) {
        self.held = held;
    }

    /// The number under which its file is held.
    pub(super) fn held_id(&self) -> Option<u32> {
        self.held.as_ref().map(Held::id)
    }

    /// Where `offset..offset + len` of the file lies in this extent, if all of it does.
    pub(super) fn position(&self, offset: u64, len: u64) -> Option<usize> {
        let position = usize::try_from(offset.checked_sub(self.offset)?).ok()?;
        let len = usize::try_from(len).ok()?;
        (position.checked_add(len)? <= self.pages.len).then_some(position)
    }

    /// The memory at `position..position + len`; `None` if that is not within the extent.
    ///
    /// It can be written through even if the mapping is read-only, which would be a fault: callers
    /// check what the client allowed first, and it never allows more than the mapping does.
    #[inline]
    pub fn slice(&self, position: usize, len: usize) -> Option<VolatileSlice<'_>> {
        if position.checked_add(len)? > self.pages.len {
            return None;
        }
        // SAFETY: `position + len <= pages.len`, so the bytes are mapped for as long as `self` is
        // borrowed, by the invariant of `Pages`. Nobody forms references to them.
        Some(unsafe { VolatileSlice::new(self.pages.base.as_ptr().add(position), len) })
    }

    /// The same, with a place to note what is written through it.
    #[inline]
    pub(super) fn slice_tracked<'a>(
        &'a self,
        position: usize,
        len: usize,
        dirty: DirtySlice<'a>,
    ) -> Option<VolatileSlice<'a, DirtySlice<'a>>> {
        if position.checked_add(len)? > self.pages.len {
            return None;
        }
        // SAFETY: as in `slice`.
        Some(unsafe {
            VolatileSlice::with_bitmap(self.pages.base.as_ptr().add(position), len, dirty, None)
        })
    }

    /// Whether the mapping can be written to.
    pub fn is_writable(&self) -> bool {
        self.writable
    }
}

impl Pages {
    fn map(fd: &OwnedFd, offset: u64, len: usize, writable: bool) -> Result<Self, Errno> {
        let mut protection = ProtFlags::READ;
        if writable {
            protection |= ProtFlags::WRITE;
        }
        let anywhere = std::ptr::null_mut();
        // SAFETY: the kernel chooses an address where nothing is mapped yet.
        let base = unsafe { mmap(anywhere, len, protection, MapFlags::SHARED, fd, offset) }?;
        let base = NonNull::new(base.cast()).ok_or(Errno::NOMEM)?;
        Ok(Self { base, len })
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: this is exactly what `map` mapped, and nobody else has it any more.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok());
    }
}
