//! A physical PCI device: its regions, its configuration space, its reset.

use std::io;
use std::mem::offset_of;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::{pread, pwrite, retry_on_intr};
use vfio_bindings::bindings::vfio::{
    VFIO_DEVICE_FLAGS_RESET, VFIO_PCI_CONFIG_REGION_INDEX, vfio_device_info, vfio_region_info,
};

use super::container::ask_all;
use super::files::{BUS_MASTER, COMMAND};
use super::ioctl::{Argument, Numbered, Request, ask, tell};
use super::{HostDma, HostError, HostFiles, PciAddress, PciBus, RegionMapping, info};
use crate::dma::DmaTable;

/// Regions beyond these are vendors' own.
const MAX_REGIONS: u32 = 64;

/// The bit of the command register that lets the device answer in its memory regions.
const MEMORY: u16 = 1 << 1;

/// What there is of a device, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// As VFIO counts them: 0 to 5 are the BARs, 6 is the ROM, 7 configuration space.
    pub index: u32,
    /// Bytes.
    pub size: u64,
    /// Whether it can be read.
    pub is_readable: bool,
    /// Whether it can be written.
    pub is_writable: bool,
    /// The parts that can be mapped: offset and bytes of each.
    pub mappable: Vec<(u64, u64)>,
    /// Where it begins in the device's file.
    pub(super) file_offset: u64,
}

impl Region {
    fn holds(&self, offset: u64, len: usize) -> bool {
        let end = offset.checked_add(len as u64);
        end.is_some_and(|end| end <= self.size)
    }

    pub(super) fn can_map(&self, offset: u64, len: u64) -> bool {
        let is_whole = offset.is_multiple_of(DmaTable::PAGE_SIZE) && len > 0;
        let end = offset.checked_add(len);
        let is_in = |&(start, size): &(u64, u64)| {
            start <= offset && end.is_some_and(|end| end <= start + size)
        };
        is_whole && self.mappable.iter().any(is_in)
    }
}

/// A physical device, open. Dropping it gives it back, once nobody has duplicates of its files: the
/// kernel resets it then, if it can be reset.
#[derive(Debug)]
pub struct HostDevice {
    address: PciAddress,
    pub(super) file: OwnedFd,
    /// The kernel keeps the device in its address space for as long as the group is open.
    group: OwnedFd,
    dma: Arc<HostDma>,
    regions: Vec<Region>,
    can_reset: bool,
}

impl HostDevice {
    /// Opens a device that `vfio-pci` has, whose own addresses are of `address_bits`: beyond them it
    /// is given no memory. It is no bus master yet.
    pub fn open(bus: &PciBus, address: PciAddress, address_bits: u32) -> Result<Self, HostError> {
        Self::from_files(HostFiles::open(bus, address)?, address, address_bits)
    }

    /// The same of one that somebody else has opened; whatever it does, it ends that:
    /// [`HostFiles::quiet`].
    pub fn from_files(
        files: HostFiles,
        address: PciAddress,
        address_bits: u32,
    ) -> Result<Self, HostError> {
        files.quiet()?;
        let iovas = files.iova_ranges()?;
        let mut device = Self {
            address,
            file: files.device,
            group: files.group,
            dma: HostDma::new(files.container, &iovas, address_bits),
            regions: Vec::new(),
            can_reset: false,
        };
        let mut found = Argument::new(size_of::<vfio_device_info>());
        ask(&device.file, Request::DeviceInfo, &mut found)
            .map_err(HostError::call("ask for the device"))?;
        let flags = found.u32(offset_of!(vfio_device_info, flags));
        device.can_reset = flags & VFIO_DEVICE_FLAGS_RESET != 0;
        let count = found.u32(offset_of!(vfio_device_info, num_regions));
        device.regions = device.look_for_regions(count.min(MAX_REGIONS))?;
        Ok(device)
    }

    fn look_for_regions(&self, count: u32) -> Result<Vec<Region>, HostError> {
        let mut regions = Vec::new();
        for index in 0..count {
            let mut argument = Argument::new(size_of::<vfio_region_info>());
            argument.set_u32(offset_of!(vfio_region_info, index), index);
            match ask_all(&self.file, Request::RegionInfo, argument) {
                Ok(found) => regions.push(info::region(&found)),
                // As for the legacy VGA region of what is no VGA.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
                Err(error) => return Err(HostError::call("ask for a region")(error)),
            }
        }
        regions.retain(|region| region.size > 0);
        Ok(regions)
    }

    /// Where it is.
    pub fn address(&self) -> PciAddress {
        self.address
    }

    /// What there is of it: regions that have a size.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The memory that it may reach.
    pub fn dma(&self) -> &Arc<HostDma> {
        &self.dma
    }

    pub(super) fn region(&self, index: u32, offset: u64, len: usize) -> Result<&Region, HostError> {
        let mut regions = self.regions.iter();
        regions
            .find(|region| region.index == index && region.holds(offset, len))
            .ok_or(HostError::OutOfRegion {
                region: index,
                offset,
                len: len as u64,
            })
    }

    /// The group, in which the device can be opened once more.
    pub(super) fn group(&self) -> &OwnedFd {
        &self.group
    }

    /// Reads from a region through the kernel, which makes accesses of one, two, four or eight bytes
    /// of it.
    pub fn read(&self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), HostError> {
        let at = self.region(region, offset, data.len())?.file_offset + offset;
        let whole = data.len();
        let count = retry_on_intr(|| pread(&self.file, &mut *data, at));
        check_whole(count, whole).map_err(HostError::call("read from the device"))
    }

    /// Writes to a region; see [`Self::read`].
    pub fn write(&self, region: u32, offset: u64, data: &[u8]) -> Result<(), HostError> {
        let at = self.region(region, offset, data.len())?.file_offset + offset;
        let count = retry_on_intr(|| pwrite(&self.file, data, at));
        check_whole(count, data.len()).map_err(HostError::call("write to the device"))
    }

    /// Maps a part of a region, by whole pages.
    pub fn map(&self, region: u32, offset: u64, len: u64) -> Result<RegionMapping, HostError> {
        let refused = HostError::NotMappable {
            region,
            offset,
            len,
        };
        let (Ok(size), Ok(found)) = (usize::try_from(len), self.region(region, offset, 0)) else {
            return Err(refused);
        };
        if !found.can_map(offset, len) {
            return Err(refused);
        }
        RegionMapping::new(&self.file, found.file_offset + offset, size)
    }

    /// Reads configuration space.
    pub fn read_config(&self, offset: u64, data: &mut [u8]) -> Result<(), HostError> {
        self.read(VFIO_PCI_CONFIG_REGION_INDEX, offset, data)
    }

    /// Writes configuration space. The kernel lets through what concerns the device alone.
    pub fn write_config(&self, offset: u64, data: &[u8]) -> Result<(), HostError> {
        self.write(VFIO_PCI_CONFIG_REGION_INDEX, offset, data)
    }

    /// Whether the device may reach memory, and raise interrupts by message. One that may not is
    /// quiet.
    pub fn set_bus_master(&self, on: bool) -> Result<(), HostError> {
        self.set_command(BUS_MASTER, on)
    }

    /// Whether the device answers in its memory regions.
    pub fn set_memory(&self, on: bool) -> Result<(), HostError> {
        self.set_command(MEMORY, on)
    }

    fn set_command(&self, bit: u16, on: bool) -> Result<(), HostError> {
        let mut bytes = [0; 2];
        self.read_config(COMMAND, &mut bytes)?;
        let command = u16::from_le_bytes(bytes) & !bit;
        let command = if on { command | bit } else { command };
        self.write_config(COMMAND, &command.to_le_bytes())
    }

    /// Whether it can be reset by itself.
    pub fn can_reset(&self) -> bool {
        self.can_reset
    }

    /// Resets it.
    pub fn reset(&self) -> Result<(), HostError> {
        let done = tell(&self.file, Numbered::DeviceReset, 0);
        done.map(drop).map_err(HostError::call("reset the device"))
    }
}

/// Whether all was read or written.
pub(super) fn check_whole(count: rustix::io::Result<usize>, whole: usize) -> io::Result<()> {
    if count? == whole {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_region_is_mapped_by_pages_where_the_kernel_says() {
        let region = Region {
            index: 0,
            size: 0x10000,
            is_readable: true,
            is_writable: true,
            mappable: vec![(0, 0x2000), (0x4000, 0x1000)],
            file_offset: 0,
        };
        for (offset, len, can) in [
            (0, 0x2000, true),
            (0x1000, 0x10, true),
            (0x4000, 0x1000, true),
            (0, 0, false),
            (0x800, 0x800, false),
            (0, 0x3000, false),
            (0x3000, 0x1000, false),
            (0x4000, u64::MAX, false),
            (0x1_0000, 0x1000, false),
        ] {
            assert_eq!(region.can_map(offset, len), can, "{offset:#x}+{len:#x}");
        }
        assert!(region.holds(0xfffc, 4) && !region.holds(0xfffd, 4));
        assert!(!region.holds(u64::MAX, 1));
    }
}
