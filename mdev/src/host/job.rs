//! A job for a physical device's engine: whose it is, and memory that is held for as long as it runs.
//!
//! An IOMMU tells nobody of a transfer that it stopped. So what an engine is told to reach is checked
//! before: the one function of a driver that starts its engine takes a [`Job`], and there is none
//! without a [`Hold`] on guest memory that allows it. A job borrows its hold, which so cannot be let
//! go of before that function returns: it waits for the engine, or quiets it.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::Range;

use crate::dma::view::Access;
use crate::dma::{AccessError, GuestMemory, Iova, IovaRange, Pin};

/// Names a vGPU among those that share a device, as long as the device is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seat(pub u64);

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seat {}", self.0)
    }
}

/// Memory that a device may reach for one vGPU, until this is dropped.
#[derive(Debug)]
pub struct Hold {
    seat: Seat,
    access: Access,
    /// Where the device sees the memory, in its order.
    ranges: Vec<IovaRange>,
    _pin: Pin,
}

/// What an engine is to do: bytes that lie side by side for the device, and which way they go.
#[derive(Debug)]
pub struct Job<'hold> {
    seat: Seat,
    access: Access,
    range: IovaRange,
    hold: PhantomData<&'hold Hold>,
}

impl Hold {
    /// Pins all of the range for the device, or, on error, nothing. Memory that no IOMMU is set for is
    /// not held: no device reaches it.
    pub fn pin(
        seat: Seat,
        memory: &GuestMemory,
        range: IovaRange,
        access: Access,
    ) -> Result<Self, AccessError> {
        let pin = memory.pin(range, access)?;
        let ranges = pin.device_ranges();
        let held: Option<u64> = ranges.iter().map(IovaRange::len).sum();
        if held != range.len() {
            let error = io::Error::other("no device reaches all of the memory");
            return Err(AccessError::Iommu(error));
        }
        Ok(Self {
            seat,
            access,
            ranges,
            _pin: pin,
        })
    }

    /// The device is to read so much of the memory, counted from its start: the jobs that it takes, in
    /// the order of their bytes. `None` if that is not held.
    pub fn read(&self, part: Range<u64>) -> Option<Vec<Job<'_>>> {
        self.jobs(part, Access::Read)
    }

    /// As [`Self::read`]; the device is to write it, which memory that is held to be read does not allow.
    pub fn write(&self, part: Range<u64>) -> Option<Vec<Job<'_>>> {
        match self.access {
            Access::Read => None,
            Access::Write => self.jobs(part, Access::Write),
        }
    }

    fn jobs(&self, part: Range<u64>, access: Access) -> Option<Vec<Job<'_>>> {
        let mut jobs = Vec::new();
        let mut skipped = part.start;
        let mut left = part.end.checked_sub(part.start)?;
        for range in &self.ranges {
            let len = range.len()?;
            if left == 0 {
                break;
            }
            if skipped >= len {
                skipped -= len;
                continue;
            }
            let count = left.min(len - skipped);
            jobs.push(Job {
                seat: self.seat,
                access,
                range: IovaRange::new(Iova(range.start().0 + skipped), count)?,
                hold: PhantomData,
            });
            left -= count;
            skipped = 0;
        }
        (left == 0).then_some(jobs)
    }
}

impl Job<'_> {
    /// Whose it is.
    pub fn seat(&self) -> Seat {
        self.seat
    }

    /// Whether the device reads the memory, or writes it.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Where the device sees it.
    pub fn device_address(&self) -> u64 {
        self.range.start().0
    }

    /// Bytes, at least one.
    pub fn len(&self) -> u64 {
        self.range.last().0 - self.range.start().0 + 1
    }

    /// Never: nothing is no job.
    pub fn is_empty(&self) -> bool {
        false
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use vfu::wire::dma::{DmaFlags, DmaMap, DmaUnmap};
    use vm_memory::VolatileSlice;

    use super::*;
    use crate::dma::DmaLimits;
    use crate::dma::pin::DeviceIommu;
    use crate::fake::FakeDevice;
    use crate::irq::Interrupts;
    use crate::region_memory::RegionMemory;

    const PAGE: u64 = 4096;
    const SEAT: Seat = Seat(7);

    /// Gives out addresses from above, so that no page follows another; counts what is mapped.
    struct Apart {
        next: AtomicU64,
        mapped: AtomicU64,
    }

    impl DeviceIommu for Apart {
        fn map(&self, _: Iova, _: &VolatileSlice<'_>, _: bool) -> io::Result<IovaRange> {
            self.mapped.fetch_add(1, Ordering::SeqCst);
            let page = Iova(self.next.fetch_sub(PAGE, Ordering::SeqCst));
            Ok(IovaRange::new(page, PAGE).unwrap())
        }

        fn unmap(&self, _: Iova, _: IovaRange) {
            self.mapped.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Four pages, of which the last may only be read.
    fn memory() -> GuestMemory {
        let memory = GuestMemory::standing_alone(DmaLimits::default());
        let file = RegionMemory::new("guest", 4 * PAGE).unwrap();
        let both = DmaFlags::READ | DmaFlags::WRITE;
        for (first, size, flags) in [(0, 3 * PAGE, both), (3 * PAGE, PAGE, DmaFlags::READ)] {
            let map = DmaMap {
                flags,
                offset: first,
                iova: first,
                size,
            };
            let fd = file.file().try_clone().unwrap();
            memory.map(&map, Some(fd)).unwrap();
        }
        memory
    }

    fn behind_iommu() -> (GuestMemory, Arc<Apart>) {
        let iommu = Arc::new(Apart {
            next: AtomicU64::new(0x9000),
            mapped: AtomicU64::new(0),
        });
        let memory = memory();
        memory.set_device_iommu(Arc::clone(&iommu) as _).unwrap();
        (memory, iommu)
    }

    fn range(start: u64, len: u64) -> IovaRange {
        IovaRange::new(Iova(start), len).unwrap()
    }

    fn places(jobs: Option<Vec<Job<'_>>>) -> Option<Vec<(u64, u64)>> {
        let place = |job: &Job<'_>| (job.device_address(), job.len());
        jobs.map(|jobs| jobs.iter().map(place).collect())
    }

    #[test]
    fn a_job_is_a_part_of_what_is_held_and_names_whose_it_is() {
        let (memory, iommu) = behind_iommu();
        let hold = Hold::pin(SEAT, &memory, range(0x800, 0x1800), Access::Write).unwrap();
        for (part, expected) in [
            (0..0x1800, Some(vec![(0x9800, 0x800), (0x8000, 0x1000)])),
            (0x7ff..0x801, Some(vec![(0x9fff, 1), (0x8000, 1)])),
            (0x800..0x900, Some(vec![(0x8000, 0x100)])),
            (0x17ff..0x1800, Some(vec![(0x8fff, 1)])),
            (4..4, Some(vec![])),
            (0..0x1801, None),
            (0x1800..0x1801, None),
            (u64::MAX - 1..u64::MAX, None),
        ] {
            assert_eq!(places(hold.read(part.clone())), expected, "{part:x?}");
            assert_eq!(places(hold.write(part.clone())), expected, "{part:x?}");
        }
        let [job] = <[_; 1]>::try_from(hold.write(0..4).unwrap()).unwrap();
        assert_eq!((job.seat(), job.access()), (SEAT, Access::Write));
        assert_eq!(iommu.mapped.load(Ordering::SeqCst), 2);
        drop(hold);
        assert_eq!(iommu.mapped.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn what_may_only_be_read_is_never_written() {
        let (memory, _) = behind_iommu();
        let refused = Hold::pin(SEAT, &memory, range(3 * PAGE, 4), Access::Write);
        assert!(matches!(refused, Err(AccessError::Denied(..))));
        for start in [0, 3 * PAGE] {
            let hold = Hold::pin(SEAT, &memory, range(start, 4), Access::Read).unwrap();
            assert!(hold.read(0..4).is_some());
            assert!(hold.write(0..4).is_none(), "{start:#x}");
        }
    }

    #[test]
    fn memory_that_no_device_reaches_is_not_held() {
        let memory = memory();
        let refused = Hold::pin(SEAT, &memory, range(0, 4), Access::Read);
        assert!(matches!(refused, Err(AccessError::Iommu(_))));
        assert_eq!(memory.counts().1, 0);
        let (memory, _) = behind_iommu();
        let outside = Hold::pin(SEAT, &memory, range(4 * PAGE - 4, 8), Access::Read);
        assert!(matches!(outside, Err(AccessError::NotMapped(_))));
    }

    #[test]
    fn an_unmap_waits_for_what_is_held() {
        let (memory, iommu) = behind_iommu();
        let hold = Hold::pin(SEAT, &memory, range(0, 4), Access::Read).unwrap();
        let (mut device, _log) = FakeDevice::new(Interrupts::default()).unwrap();
        std::thread::scope(|scope| {
            let unmapped = scope.spawn(|| memory.unmap(&DmaUnmap::All, &mut device));
            while memory.counts().0 > 0 {
                std::thread::yield_now();
            }
            assert!(!unmapped.is_finished());
            assert_eq!(iommu.mapped.load(Ordering::SeqCst), 1);
            drop(hold);
            unmapped.join().unwrap().unwrap();
        });
        assert_eq!(iommu.mapped.load(Ordering::SeqCst), 0);
    }
}
