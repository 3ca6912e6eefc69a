//! What a pin costs against the kernel's calls alone.

use std::hint::black_box;
use std::os::fd::OwnedFd;
use std::time::Instant;

use mdev::dma::view::Access;
use mdev::dma::{DmaLimits, GuestMemory, Iova, IovaRange};
use mdev::host::{HostDevice, PciAddress, PciBus};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::pwrite;
use vfu::wire::dma::{DmaFlags, DmaMap};

use crate::Failure;
use crate::bare::Bare;

const PAGE: u64 = 4096;
const LARGE: u64 = 2 << 20;

/// Bytes that are pinned, and how often in each round.
const SIZES: [(u64, usize); 2] = [(PAGE, 100), (LARGE, 10)];

/// Of pages of a guest's memory: to pin them, to be told where the device sees them, and to let them
/// go; against mapping and unmapping as many for another device. Prints, for each round, the bytes and
/// the median nanoseconds of each.
pub(crate) fn pins(device: &HostDevice, other: &str, rounds: usize) -> Result<(), Failure> {
    let file = memfd_create("guest", MemfdFlags::CLOEXEC)?;
    ftruncate(&file, LARGE)?;
    // No page is the kernel's to find any more.
    pwrite(&file, &vec![1; usize::try_from(LARGE)?], 0)?;
    let guest = guest(device, &file, LARGE)?;
    let group = PciBus::new("/").group(other.parse::<PciAddress>()?)?;
    let bare = Bare::new(group, &file, usize::try_from(LARGE)?)?;
    for _ in 0..rounds {
        for (len, times) in SIZES {
            let (mut ours, mut floor) = (Vec::new(), Vec::new());
            for time in 0..2 * times {
                let begin = Instant::now();
                // Each is first in every other pair.
                if time % 4 == 0 || time % 4 == 3 {
                    pin(&guest, len)?;
                    ours.push(begin.elapsed().as_nanos());
                } else {
                    bare.map_and_unmap(PAGE, len)?;
                    floor.push(begin.elapsed().as_nanos());
                }
            }
            println!("{len} {} {}", median(ours), median(floor));
        }
    }
    Ok(())
}

/// A guest whose memory, `size` bytes, is a file.
pub(crate) fn guest(
    device: &HostDevice,
    file: &OwnedFd,
    size: u64,
) -> Result<GuestMemory, Failure> {
    let guest = GuestMemory::standing_alone(DmaLimits::default());
    guest
        .set_device_iommu(device.dma().clone())
        .map_err(|_| "the memory has an IOMMU already")?;
    let map = DmaMap {
        flags: DmaFlags::READ | DmaFlags::WRITE,
        offset: 0,
        iova: 0,
        size,
    };
    guest.map(&map, Some(file.try_clone()?))?;
    Ok(guest)
}

fn pin(guest: &GuestMemory, len: u64) -> Result<(), Failure> {
    let range = IovaRange::new(Iova(0), len).ok_or("not a range")?;
    let pin = guest.pin(range, Access::Write)?;
    black_box(pin.device_ranges());
    Ok(())
}

fn median(mut taken: Vec<u128>) -> u128 {
    taken.sort_unstable();
    taken.get(taken.len() / 2).copied().unwrap_or_default()
}
