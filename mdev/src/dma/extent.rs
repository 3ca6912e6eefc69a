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

/// A shared mapping of part of a client's file.
///
/// # Invariants
///
/// `base..base + len` stays mapped until drop: readable, and writable if `writable`. If the client
/// truncates the file, the handler in [`super::sigbus`] puts other memory there before anyone
/// notices.
#[derive(Debug)]
pub struct Extent {
    base: NonNull<u8>,
    len: usize,
    /// Where in the file it begins.
    offset: u64,
    writable: bool,
    _registration: Registration,
}

// SAFETY: the mapping belongs to the process and not to a thread, and is unmapped only by `drop`,
// which has it alone. No reference into it is ever formed.
unsafe impl Send for Extent {}
// SAFETY: as above; all access is volatile, and whoever else writes at the same time (the guest
// does too) can only change the bytes that are read.
unsafe impl Sync for Extent {}

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
        let mut protection = ProtFlags::READ;
        if writable {
            protection |= ProtFlags::WRITE;
        }
        // SAFETY: the kernel chooses an address where nothing is mapped yet.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                len,
                protection,
                MapFlags::SHARED,
                fd,
                offset,
            )
        }?;
        let unmap = || {
            // SAFETY: just mapped, and nobody else knows of it.
            let _ = unsafe { munmap(base, len) };
        };
        let Some(registration) = Registration::new(base as usize, len, truncation) else {
            unmap();
            return Err(Errno::NOMEM);
        };
        Ok(Self {
            base: NonNull::new(base.cast()).ok_or(Errno::NOMEM)?,
            len,
            offset,
            writable,
            _registration: registration,
        })
    }

    /// Where `offset..offset + len` of the file lies in this extent, if all of it does.
    pub(super) fn position(&self, offset: u64, len: u64) -> Option<usize> {
        let position = usize::try_from(offset.checked_sub(self.offset)?).ok()?;
        let len = usize::try_from(len).ok()?;
        (position.checked_add(len)? <= self.len).then_some(position)
    }

    /// The memory at `position..position + len`; `None` if that is not within the extent.
    ///
    /// It can be written through even if the mapping is read-only, which would be a fault: callers
    /// check what the client allowed first, and it never allows more than the mapping does.
    #[inline]
    pub fn slice(&self, position: usize, len: usize) -> Option<VolatileSlice<'_>> {
        if position.checked_add(len)? > self.len {
            return None;
        }
        // SAFETY: `position + len <= self.len`, so the bytes are mapped for as long as `self` is
        // borrowed, by the type's invariant. Nobody forms references to them.
        Some(unsafe { VolatileSlice::new(self.base.as_ptr().add(position), len) })
    }

    /// The same, with a place to note what is written through it.
    #[inline]
    pub(super) fn slice_tracked<'a>(
        &'a self,
        position: usize,
        len: usize,
        dirty: DirtySlice<'a>,
    ) -> Option<VolatileSlice<'a, DirtySlice<'a>>> {
        if position.checked_add(len)? > self.len {
            return None;
        }
        // SAFETY: as in `slice`.
        Some(unsafe {
            VolatileSlice::with_bitmap(self.base.as_ptr().add(position), len, dirty, None)
        })
    }

    /// Whether the mapping can be written to.
    pub fn is_writable(&self) -> bool {
        self.writable
    }
}

impl Drop for Extent {
    fn drop(&mut self) {
        // SAFETY: this is exactly what `map` mapped, and nobody else has the extent any more.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok());
    }
}
