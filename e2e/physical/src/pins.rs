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

    /// All of it.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>, Failure> {
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
        let both = one(pin)?;
        edu.transfer(Way::ToDevice, both.start().0, PAGE as usize)?;
        edu.transfer(Way::ToMemory, both.start().0 + PAGE, PAGE as usize)?;
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
    let holds = |what: &str, expected: &[u8]| expect(what, &(memory.bytes()? == *expected), &true);

    // From page 0 to the device, and from there across the border of the two.
    let both = memory.pin(100, 2 * PAGE - 200, Access::Write)?;
    let range = one(&both)?;
    expect("bytes", &range.len(), &Some(2 * PAGE - 200))?;
    let at = range.start().0;
    edu.transfer(Way::ToDevice, at, 1000)?;
    edu.transfer(Way::ToMemory, at + PAGE - 600, 1000)?;
    let mut expected = noise.clone();
    expected.copy_within(100..1100, PAGE as usize - 500);
    holds("memory that is pinned", &expected)?;

    // Pinned twice, it is reached until it is let go twice.
    let again = memory.pin(PAGE, 1, Access::Read)?;
    let second = one(&again)?.start().0;
    expect("a page pinned twice", &second, &(at + PAGE - 100))?;
    drop(both);
    edu.transfer(Way::ToMemory, second, 100)?;
    expected.copy_within(100..200, PAGE as usize);
    holds("memory that is still pinned", &expected)?;

    // It keeps those that were mapped with it, and page 2 takes the next address.
    let later = memory.pin(PAGE / 2, 2 * PAGE, Access::Read)?;
    expect("bytes side by side", &one(&later)?.len(), &Some(2 * PAGE))?;
    drop((later, again));
    // The other way round they lie apart, and in the order of the guest's addresses all the same.
    let third = memory.pin(2 * PAGE, PAGE, Access::Read)?;
    let apart = memory.pin(PAGE / 2, 2 * PAGE, Access::Read)?;
    let lens: Vec<_> = apart.device_ranges().iter().map(IovaRange::len).collect();
    expect(
        "parts",
        &lens,
        &[PAGE / 2 + PAGE, PAGE / 2].map(Some).to_vec(),
    )?;
    drop((third, apart));
    edu.transfer(Way::ToMemory, second, 200)?;
    edu.transfer(Way::ToMemory, second - PAGE, 200)?;
    edu.transfer(Way::ToMemory, second + PAGE, 200)?;
    holds("memory that is pinned no more", &expected)?;

    // What the guest lets devices read alone is not written.
    let last = memory.pin((PAGES - 1) * PAGE, PAGE, Access::Read)?;
    edu.transfer(Way::ToMemory, one(&last)?.start().0, 200)?;
    holds("memory that is read alone", &expected)?;
    check_large(edu)?;
    println!("pins right");
    Ok(())
}

/// Many pages are seen side by side, and each is where it belongs.
fn check_large(edu: &Edu) -> Result<(), Failure> {
    const LARGE: u64 = 2 << 20;
    let memory = Memory::new(&edu.host, LARGE / PAGE + 1)?;
    let noise: Vec<u8> = Noise::new(5).take(PAGE as usize).collect();
    let (from, to) = (3 * PAGE, LARGE - PAGE);
    memory.file.write(from, &noise)?;
    let large = memory.pin(0, LARGE, Access::Write)?;
    let at = one(&large)?.start().0;
    edu.transfer(Way::ToDevice, at + from, PAGE as usize)?;
    edu.transfer(Way::ToMemory, at + to, PAGE as usize)?;
    let bytes = memory.bytes()?;
    let holds = |at: u64| bytes[at as usize..].starts_with(&noise);
    expect("the last page", &(holds(from) && holds(to)), &true)?;
    let left = bytes.iter().filter(|byte| **byte != 0).count();
    let written = 2 * noise.iter().filter(|byte| **byte != 0).count();
    expect("bytes that are written", &left, &written)
}

/// The only range of a pin.
fn one(pin: &Pin) -> Result<IovaRange, Failure> {
    match pin.device_ranges()[..] {
        [range] => Ok(range),
        ref ranges => Err(format!("the device sees it at {ranges:x?}").into()),
    }
}
