//! A region's memory, mapped into this process.

#![expect(
    unsafe_code,
    reason = "a device's memory is a raw mapping, and is reached only here"
)]

use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use vm_memory::{Bytes, VolatileSlice};

use super::HostError;

/// Part of a region of a physical device.
///
/// While the device does not decode memory (bit 1 of its command register), an access is a SIGBUS:
/// whoever turns that off sees to it that nobody accesses a mapping meanwhile.
///
/// # Invariants
///
/// `base..base + len` stays mapped until drop.
#[derive(Debug)]
pub struct RegionMapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the process and not to a thread, and is unmapped only by `drop`,
// which has it alone. No reference into it is ever formed.
unsafe impl Send for RegionMapping {}
// SAFETY: as above; all access is volatile or atomic.
unsafe impl Sync for RegionMapping {}

impl RegionMapping {
    /// Maps `len` bytes of a device's file.
    pub(super) fn new(file: &OwnedFd, offset: u64, len: usize) -> Result<Self, HostError> {
        let anywhere = std::ptr::null_mut();
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses an address where nothing is mapped yet.
        let base = unsafe { mmap(anywhere, len, protection, MapFlags::SHARED, file, offset) }
            .map_err(|error| HostError::call("map the device's memory")(error.into()))?;
        let base = NonNull::new(base.cast());
        let base = base.unwrap_or_else(|| unreachable!("nothing is mapped at address 0"));
        Ok(Self { base, len })
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: nothing cannot be mapped.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of it.
    pub fn slice(&self) -> VolatileSlice<'_> {
        // SAFETY: by the invariant it is mapped for as long as `self` is borrowed. Nobody forms
        // references to it.
        unsafe { VolatileSlice::new(self.base.as_ptr(), self.len) }
    }

    /// Copies what is at `offset`, in accesses of any size. `None`, and nothing is copied, if that
    /// leaves the mapping.
    pub fn read(&self, offset: usize, data: &mut [u8]) -> Option<()> {
        let part = self.slice().subslice(offset, data.len()).ok()?;
        part.copy_to(data);
        Some(())
    }

    /// Copies `data` to `offset`; see [`Self::read`].
    pub fn write(&self, offset: usize, data: &[u8]) -> Option<()> {
        let part = self.slice().subslice(offset, data.len()).ok()?;
        part.copy_from(data);
        Some(())
    }

    /// Reads a register, in one access. `None` if it does not lie in the mapping, at a multiple of
    /// its size.
    pub fn read_u32(&self, offset: usize) -> Option<u32> {
        self.slice().load(offset, Ordering::SeqCst).ok()
    }

    /// Writes a register, in one access. `None` as for [`Self::read_u32`].
    pub fn write_u32(&self, offset: usize, value: u32) -> Option<()> {
        self.slice().store(value, offset, Ordering::Release).ok()
    }
}

impl Drop for RegionMapping {
    fn drop(&mut self) {
        // SAFETY: this is exactly what `new` mapped, and nobody else has it any more.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok());
    }
}

#[cfg(test)]
mod tests {
    use crate::region_memory::RegionMemory;

    use super::*;

    #[test]
    fn registers_lie_at_multiples_of_their_size_within_the_mapping() {
        let memory = RegionMemory::new("region", 8192).unwrap();
        memory.write(4096, &[1, 2, 3, 4]).unwrap();
        let mapping = RegionMapping::new(memory.file(), 4096, 4096).unwrap();
        assert_eq!((mapping.len(), mapping.is_empty()), (4096, false));
        assert_eq!(mapping.read_u32(0), Some(0x0403_0201));
        assert_eq!(mapping.write_u32(4092, 7), Some(()));
        let mut last = [0; 4];
        memory.read(8188, &mut last).unwrap();
        assert_eq!(last, [7, 0, 0, 0]);
        for (at, len, is_in) in [
            (4094, 2, true),
            (4095, 2, false),
            (4096, 1, false),
            (usize::MAX, 2, false),
        ] {
            let mut data = vec![9; len];
            assert_eq!(mapping.write(at, &data).is_some(), is_in, "{at}");
            data.fill(0);
            assert_eq!(mapping.read(at, &mut data).is_some(), is_in, "{at}");
            assert_eq!(data == vec![9; len], is_in, "{at}");
        }
        for wrong in [1, 4094, 4096, usize::MAX] {
            assert_eq!(mapping.read_u32(wrong), None, "{wrong}");
            assert_eq!(mapping.write_u32(wrong, 0), None, "{wrong}");
        }
    }
}
