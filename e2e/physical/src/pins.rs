//! Transfers with pages of a guest's memory: they reach it while they are pinned, and no longer.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use guest::noise::Noise;
use mdev::dma::view::Access;
use mdev::dma::{DmaLimits, GuestMemory, Iova, IovaRange, Pin};
use mdev::host::HostDevice;
use mdev::region_memory::RegionMemory;
use vfu::wire::dma::{DmaFlags, DmaMap};

use crate::edu::{Edu, Way};
use crate::{Failure, expect};

const PAGE: u64 = 4096;
/// Where the guest has the memory.
const GUEST: u64 = 0x40_0000_0000;
const PAGES: u64 = 4;

/// A guest's memory: a file, which its VMM maps as well.
pub(crate) struct Memory {
    file: RegionMemory,
    pub(crate) guest: GuestMemory,
}

impl Memory {
    /// Its last page is one that the guest lets devices read alone.
    pub(crate) fn new(device: &HostDevice, pages: u64) -> Result<Self, Failure> {
        let file = RegionMemory::new("guest", pages * PAGE)?;
        let guest = GuestMemory::standing_alone(DmaLimits::default());
        guest
            .set_device_iommu(device.dma().clone())
            .map_err(|_| "the memory has an IOMMU already")?;
        let both = DmaFlags::READ | DmaFlags::WRITE;
        for (first, count, flags) in [(0, pages - 1, both), (pages - 1, 1, DmaFlags::READ)] {
            let map = DmaMap {
                flags,
                offset: first * PAGE,
                iova: GUEST + first * PAGE,
                size: count * PAGE,
            };
            let fd: OwnedFd = Arc::clone(file.file()).try_clone()?;
            guest.map(&map, Some(fd))?;
        }
        Ok(Self { file, guest })
    }

    pub(crate) fn range(&self, start: u64, len: u64) -> Result<IovaRange, Failure> {
        Ok(IovaRange::new(Iova(GUEST + start), len).ok_or("not a range")?)
    }

    fn pin(&self, start: u64, len: u64, access: Access) -> Result<Pin, Failure> {
        Ok(self.guest.pin(self.range(start, len)?, access)?)
    }

    fn bytes(&self) -> Result<Vec<u8>, Failure> {
        let len = usize::try_from(self.file.len())?;
        let mut bytes = vec![0; len];
        self.file.read(0, &mut bytes)?;
        Ok(bytes)
    }
}

/// Two guests with the same addresses: what one has transferred is not in the other's memory.
pub(crate) fn guests(edu: &Edu) -> Result<(), Failure> {
    let guests = [
        Memory::new(&edu.host, PAGES)?,
        Memory::new(&edu.host, PAGES)?,
    ];
    let mut pins = Vec::new();
    for (seed, guest) in (3..).zip(&guests) {
        let noise: Vec<u8> = Noise::new(seed).take(PAGE as usize).collect();
        guest.file.write(0, &noise)?;
        pins.push(guest.pin(0, 2 * PAGE, Access::Write)?);
    }
    for (pin, guest) in pins.iter().zip(&guests) {
        let pages = pin.device_pages();
        edu.transfer(Way::ToDevice, pages[0], PAGE as usize)?;
        edu.transfer(Way::ToMemory, pages[1], PAGE as usize)?;
        let bytes = guest.bytes()?;
        let (first, rest) = bytes.split_at(PAGE as usize);
        expect(
            "a guest's own bytes",
            &(rest[..PAGE as usize] == *first),
            &true,
        )?;
    }
    // The second guest's transfers have left the first's memory as it was.
    let bytes = guests[0].bytes()?;
    let noise: Vec<u8> = Noise::new(3).take(PAGE as usize).collect();
    let expected = [&noise[..], &noise[..], &[0; 2 * PAGE as usize][..]].concat();
    expect("the other guest's bytes", &(bytes == expected), &true)?;
    println!("guests apart");
    Ok(())
}

pub(crate) fn run(edu: &Edu) -> Result<(), Failure> {
    let memory = Memory::new(&edu.host, PAGES)?;
    let noise: Vec<u8> = Noise::new(2).take((PAGES * PAGE) as usize).collect();
    memory.file.write(0, &noise)?;

    // Page 0 to the device, and from there into the middle of page 1.
    let both = memory.pin(100, 2 * PAGE - 200, Access::Write)?;
    let [first, second] = both.device_pages()[..] else {
        return Err("two pages are not two".into());
    };
    edu.transfer(Way::ToDevice, first + 100, 1000)?;
    edu.transfer(Way::ToMemory, second + 200, 1000)?;
    let mut expected = noise.clone();
    expected.copy_within(100..1100, PAGE as usize + 200);
    expect(
        "memory that is pinned",
        &(memory.bytes()? == expected),
        &true,
    )?;

    // Pinned twice, it is reached until it is let go twice.
    let again = memory.pin(PAGE, 1, Access::Read)?;
    expect(
        "a page pinned twice",
        &again.device_pages()[..],
        &[second][..],
    )?;
    drop(both);
    edu.transfer(Way::ToMemory, second, 100)?;
    expected.copy_within(100..200, PAGE as usize);
    expect(
        "memory that is still pinned",
        &(memory.bytes()? == expected),
        &true,
    )?;
    drop(again);
    edu.transfer(Way::ToMemory, second, 200)?;
    edu.transfer(Way::ToMemory, first, 200)?;
    expect(
        "memory that is pinned no more",
        &(memory.bytes()? == expected),
        &true,
    )?;

    // What the guest lets devices read alone is not written.
    let last = memory.pin((PAGES - 1) * PAGE, PAGE, Access::Read)?;
    for page in last.device_pages() {
        edu.transfer(Way::ToMemory, page, 200)?;
    }
    expect(
        "memory that is read alone",
        &(memory.bytes()? == expected),
        &true,
    )?;
    println!("pins right");
    Ok(())
}
