//! Memory that a physical device may reach.
//!
//! It reaches nothing but [`DmaBuffer`]s and pages that are pinned in a guest's memory, each at an
//! address that [`IovaSpace`] has given out.

#![expect(
    unsafe_code,
    reason = "the kernel is told addresses of this process, for the device to reach"
)]

use std::io;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use vfio_bindings::bindings::vfio::{
    VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE, vfio_iommu_type1_dma_map,
};
use vm_memory::VolatileSlice;

use super::HostError;
use super::ioctl::{map_dma, unmap_dma};
use super::iova_space::IovaSpace;
use crate::dma::pin::DeviceIommu;
use crate::dma::{Iova, IovaRange};

/// What a device may do with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceAccess {
    /// Read it.
    Read,
    /// Read and write it.
    Write,
}

/// The address space of a physical device.
#[derive(Debug)]
pub struct HostDma {
    container: OwnedFd,
    space: Mutex<IovaSpace>,
}

impl HostDma {
    pub(super) fn new(container: OwnedFd, valid: &[IovaRange], bits: u32) -> Arc<Self> {
        Arc::new(Self {
            container,
            space: Mutex::new(IovaSpace::new(valid, bits)),
        })
    }

    fn space(&self) -> MutexGuard<'_, IovaSpace> {
        self.space.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the device reach whole pages of this process.
    ///
    /// # Safety
    ///
    /// As for [`Self::map_at`].
    unsafe fn map(
        &self,
        base: *const u8,
        len: usize,
        access: DeviceAccess,
    ) -> Result<IovaRange, HostError> {
        let len = len as u64;
        let taken = self.space().take(len);
        let range = taken.ok_or(HostError::NoAddress(len))?;
        // SAFETY: there are as many bytes as were taken; for the rest the caller answers.
        unsafe { self.map_at(range, base, access) }?;
        Ok(range)
    }

    /// Lets the device reach whole pages of this process, at addresses that were taken for that and
    /// are free again on error.
    ///
    /// # Safety
    ///
    /// From `base` on there are as many bytes as there are addresses. Until [`Self::unmap_range`], the device
    /// may read them at any time and, if it is let, write them: they must be memory that is accessed
    /// as volatile alone.
    unsafe fn map_at(
        &self,
        range: IovaRange,
        base: *const u8,
        access: DeviceAccess,
    ) -> Result<(), HostError> {
        let flags = match access {
            DeviceAccess::Read => VFIO_DMA_MAP_FLAG_READ,
            DeviceAccess::Write => VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
        };
        let argument = vfio_iommu_type1_dma_map {
            flags,
            vaddr: base.expose_provenance() as u64,
            iova: range.start().0,
            size: range.len().unwrap_or_default(),
            ..Default::default()
        };
        // SAFETY: for the memory the caller answers.
        let mapped = unsafe { map_dma(&self.container, argument) };
        mapped.map_err(|error| {
            self.space().give_back(range);
            refusal(error)
        })
    }

    /// Takes from the device what one call of [`Self::map_at`] gave it. Once this returns it reaches it no more.
    fn unmap_range(&self, range: IovaRange) {
        let len = range.len().unwrap_or_default();
        match unmap_dma(&self.container, 0, range.start().0, len) {
            Ok(unmapped) if unmapped == len => self.space().give_back(range),
            // Its addresses are not given out again: something may still be there.
            Ok(_) => tracing::error!("the IOMMU has not unmapped all of {range:?}"),
            // The address space has ended with the device, and all mappings with it.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
            Err(error) => tracing::error!("the IOMMU has not unmapped {range:?}: {error}"),
        }
    }
}

/// What the kernel means by refusing to map.
fn refusal(error: io::Error) -> HostError {
    match error.kind() {
        io::ErrorKind::OutOfMemory => HostError::MemoryLock,
        io::ErrorKind::StorageFull => HostError::TooManyMappings,
        _ => HostError::call("map memory for the device")(error),
    }
}

impl DeviceIommu for HostDma {
    fn map(&self, _first: Iova, host: &VolatileSlice<'_>, write: bool) -> io::Result<IovaRange> {
        let access = match write {
            true => DeviceAccess::Write,
            false => DeviceAccess::Read,
        };
        let len = host.len() as u64;
        let range = self.space().take_most(len);
        let range = range.ok_or(HostError::NoAddress(len))?;
        let base = host.ptr_guard().as_ptr();
        // SAFETY: `take_most` takes at most as many as it is asked for. Whoever pins pages unmaps
        // them before it lets go of their extent, and all access to guest memory is volatile.
        unsafe { self.map_at(range, base, access) }?;
        Ok(range)
    }

    fn unmap(&self, _first: Iova, device: IovaRange) {
        self.unmap_range(device);
    }
}

/// Memory of this process that a device reaches.
///
/// # Invariants
///
/// `base..base + len` stays mapped, in this process and for the device, until drop; no reference
/// into it is ever formed.
#[derive(Debug)]
pub struct DmaBuffer {
    base: NonNull<u8>,
    len: usize,
    range: IovaRange,
    dma: Arc<HostDma>,
}

// SAFETY: the memory belongs to the process and not to a thread, and is unmapped only by `drop`.
unsafe impl Send for DmaBuffer {}
// SAFETY: as above; all access is volatile, and whoever else writes at the same time (the device
// does too) can only change the bytes that are read.
unsafe impl Sync for DmaBuffer {}

impl DmaBuffer {
    /// `len` bytes of zeroes, in whole pages.
    pub fn new(dma: &Arc<HostDma>, len: usize, access: DeviceAccess) -> Result<Self, HostError> {
        let len = len
            .max(1)
            .checked_next_multiple_of(4096)
            .ok_or(HostError::MemoryLock)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses an address where nothing is mapped yet.
        let base =
            unsafe { mmap_anonymous(std::ptr::null_mut(), len, protection, MapFlags::PRIVATE) }
                .map_err(|error| HostError::call("get memory")(error.into()))?;
        let unmapped = |error| {
            // SAFETY: it was mapped just now, and nobody else has it.
            let _ = unsafe { munmap(base, len) };
            error
        };
        // SAFETY: the memory is accessed through `slice` alone, and unmapped after the device's
        // mapping.
        let range = unsafe { dma.map(base.cast(), len, access) }.map_err(unmapped)?;
        let base = NonNull::new(base.cast());
        Ok(Self {
            base: base.unwrap_or_else(|| unreachable!("nothing is mapped at address 0")),
            len,
            range,
            dma: Arc::clone(dma),
        })
    }

    /// Where the device sees it.
    pub fn device_address(&self) -> u64 {
        self.range.start().0
    }

    /// All of it.
    pub fn slice(&self) -> VolatileSlice<'_> {
        // SAFETY: by the invariant it is mapped for as long as `self` is borrowed.
        unsafe { VolatileSlice::new(self.base.as_ptr(), self.len) }
    }
}

impl Drop for DmaBuffer {
    fn drop(&mut self) {
        self.dma.unmap_range(self.range);
        // SAFETY: this is exactly what `new` mapped, and nobody else has it any more. If the device
        // still reached the pages, the kernel would keep them for it.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A container that refuses everything.
    fn refusing(bits: u32) -> Arc<HostDma> {
        let null = std::fs::File::open("/dev/null").unwrap();
        HostDma::new(null.into(), &[IovaRange::EVERYTHING], bits)
    }

    #[test]
    fn memory_that_the_kernel_does_not_map_leaves_its_addresses_free() {
        let dma = refusing(13);
        for _ in 0..2 {
            let error = DmaBuffer::new(&dma, 1, DeviceAccess::Write).unwrap_err();
            assert!(matches!(error, HostError::Call { .. }), "{error}");
            assert_eq!(dma.space().free(), Some(4096));
        }
        let error = DmaBuffer::new(&dma, 4097, DeviceAccess::Read).unwrap_err();
        assert!(matches!(error, HostError::NoAddress(8192)), "{error}");
        assert!(DmaBuffer::new(&dma, usize::MAX, DeviceAccess::Read).is_err());
    }

    #[test]
    fn limits_of_the_kernel_are_errors_that_say_what_to_raise() {
        for (errno, expected) in [
            (libc::ENOMEM, "LimitMEMLOCK"),
            (libc::ENOSPC, "dma_entry_limit"),
        ] {
            let error = refusal(io::Error::from_raw_os_error(errno));
            assert_eq!(error.errno().raw_os_error(), errno);
            assert!(error.remedy().unwrap().contains(expected), "{error}");
            // Whoever pins is told both.
            let words = error.to_string();
            let pinned = crate::dma::AccessError::Iommu(error.into());
            assert_eq!(pinned.errno().raw_os_error(), errno);
            let source = std::error::Error::source(&pinned).unwrap();
            assert_eq!(source.to_string(), words);
        }
        let other = refusal(io::Error::from_raw_os_error(libc::EFAULT));
        assert_eq!((other.errno(), other.remedy()), (vfu::Errno::FAULT, None));
    }
}
