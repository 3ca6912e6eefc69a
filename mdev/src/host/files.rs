//! The three files of a physical device, which another process may keep or be given.

use std::io;
use std::mem::offset_of;
use std::os::fd::OwnedFd;

use rustix::io::{pread, pwrite, retry_on_intr};
use vfio_bindings::bindings::vfio::{
    VFIO_DMA_UNMAP_FLAG_ALL, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_UNMAP_ALL, vfio_region_info,
};

use super::container::ask_all;
use super::ioctl::{Argument, Numbered, Request, tell, unmap_dma};
use super::{HostError, PciAddress, PciBus, container, info, interrupts};
use crate::dma::IovaRange;

/// Where the command register is, in configuration space.
pub(super) const COMMAND: u64 = 4;
/// Its bit that lets the device reach memory.
pub(super) const BUS_MASTER: u16 = 1 << 2;

/// A physical device, open. Whoever has duplicates of all three has the device; it is given back, and
/// reset if it can be, when the last of them is closed.
#[derive(Debug)]
pub struct HostFiles {
    /// Its own address space, which is set up.
    pub container: OwnedFd,
    /// The kernel keeps the device in its address space for as long as the group is open.
    pub group: OwnedFd,
    /// The device itself.
    pub device: OwnedFd,
}

impl HostFiles {
    /// Opens a device that `vfio-pci` has.
    pub fn open(bus: &PciBus, address: PciAddress) -> Result<Self, HostError> {
        container::open(bus, address)
    }

    /// Duplicates.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            container: self.container.try_clone()?,
            group: self.group.try_clone()?,
            device: self.device.try_clone()?,
        })
    }

    /// Ends all that the device does by itself, whoever had it do so: it is no bus master, raises no
    /// interrupt, and reaches no memory. To be called once the process that had the device has ended,
    /// before anything that it had let the device reach is given to others.
    ///
    /// Whoever maps the device's regions still can. If one of these fails, the others are done.
    pub fn quiet(&self) -> Result<(), HostError> {
        let deaf = self.clear_bus_master();
        let mute = interrupts::silence_all(&self.device);
        let blind = self.unmap_all();
        deaf.and(mute).and(blind)
    }

    fn clear_bus_master(&self) -> Result<(), HostError> {
        let at = self.config_offset()? + COMMAND;
        let failed = HostError::call;
        let mut bytes = [0; 2];
        let count = retry_on_intr(|| pread(&self.device, &mut bytes, at));
        super::device::check_whole(count, bytes.len())
            .map_err(failed("read the command register"))?;
        let command = u16::from_le_bytes(bytes) & !BUS_MASTER;
        let bytes = command.to_le_bytes();
        let count = retry_on_intr(|| pwrite(&self.device, &bytes, at));
        super::device::check_whole(count, bytes.len()).map_err(failed("write the command register"))
    }

    /// Where configuration space begins in the device's file.
    fn config_offset(&self) -> Result<u64, HostError> {
        let mut argument = Argument::new(size_of::<vfio_region_info>());
        argument.set_u32(
            offset_of!(vfio_region_info, index),
            VFIO_PCI_CONFIG_REGION_INDEX,
        );
        let found = ask_all(&self.device, Request::RegionInfo, argument)
            .map_err(HostError::call("ask for configuration space"))?;
        Ok(info::region(&found).file_offset)
    }

    fn unmap_all(&self) -> Result<(), HostError> {
        let failed = HostError::call;
        let can = tell(&self.container, Numbered::CheckExtension, VFIO_UNMAP_ALL)
            .map_err(failed("ask how memory is unmapped"))?;
        if can == 1 {
            return self.unmap(VFIO_DMA_UNMAP_FLAG_ALL, 0, 0);
        }
        // Kernels before 5.12.
        let info = container::iommu_info(&self.container)?;
        for range in info::iova_ranges(&info) {
            // The size is 64 bits: what is larger goes in two.
            let half = 1 << 63;
            for (start, last) in [(0, half - 1), (half, u64::MAX)] {
                let (start, last) = (range.start().0.max(start), range.last().0.min(last));
                if start <= last {
                    self.unmap(0, start, last - start + 1)?;
                }
            }
        }
        Ok(())
    }

    fn unmap(&self, flags: u32, iova: u64, size: u64) -> Result<(), HostError> {
        unmap_dma(&self.container, flags, iova, size)
            .map(drop)
            .map_err(HostError::call("unmap the device's memory"))
    }

    /// Which addresses the IOMMU translates.
    pub(super) fn iova_ranges(&self) -> Result<Vec<IovaRange>, HostError> {
        Ok(info::iova_ranges(&container::iommu_info(&self.container)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_device_is_refused_and_not_taken_for_a_quiet_one() {
        let file = || std::fs::File::open("/dev/null").unwrap().into();
        let files = HostFiles {
            container: file(),
            group: file(),
            device: file(),
        };
        assert!(files.try_clone().unwrap().quiet().is_err());
        assert!(files.unmap_all().is_err());
    }
}
