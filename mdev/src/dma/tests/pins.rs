//! What is pinned is counted, held all or not at all, and waited for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use vm_memory::VolatileSlice;

use super::*;
use crate::dma::pin::DeviceIommu;
use crate::dma::view::Access;

fn quick() -> DmaLimits {
    DmaLimits {
        unmap: Duration::from_millis(100),
        ..DmaLimits::default()
    }
}

/// Pages 0..4 of a file, the last of them read-only, and nothing after.
fn four_pages() -> (GuestMemory, OwnedFd) {
    let memory = connected(quick());
    let fd = memfd(4);
    map(&memory, 0..3, BOTH, Some((&fd, 0))).unwrap();
    map(&memory, 3..4, DmaFlags::READ, Some((&fd, 3))).unwrap();
    (memory, fd)
}

#[test]
fn a_page_is_counted_once_however_often_it_is_pinned() {
    let (memory, _fd) = four_pages();
    let pin = |start, len| memory.pin(range(start, len), Access::Read).unwrap();
    let first = pin(PAGE - 1, 2);
    assert_eq!(memory.counts(), (2, 2));
    let second = pin(PAGE, 3 * PAGE);
    assert_eq!(memory.counts(), (2, 4));
    assert_eq!(second.slices().count(), 2);
    drop(first);
    assert_eq!(memory.counts(), (2, 3));
    drop(second);
    assert_eq!(memory.counts(), (2, 0));
}

#[test]
fn a_pin_that_cannot_be_whole_holds_nothing() {
    let (memory, _fd) = four_pages();
    map(&memory, 8..9, BOTH, None).unwrap();
    for (start, len, access, expected) in [
        (0, 5 * PAGE, Access::Read, Errno::FAULT),
        (0, 4 * PAGE, Access::Write, Errno::ACCESS),
        (8 * PAGE, PAGE, Access::Read, Errno::OPNOTSUPP),
        (5 * PAGE, 1, Access::Read, Errno::FAULT),
    ] {
        let error = memory.pin(range(start, len), access).unwrap_err();
        assert_eq!(error.errno(), expected, "{start:#x}+{len:#x}");
        assert_eq!(memory.counts(), (3, 0), "{start:#x}+{len:#x}");
    }
}

/// Remembers what it was told, and refuses one page.
#[derive(Default)]
struct FakeIommu {
    /// The page, whether the device may write it, and what it holds.
    mapped: Mutex<BTreeMap<u64, (bool, u8)>>,
    refused: Option<u64>,
}

impl FakeIommu {
    fn pages(&self) -> Vec<(u64, bool, u8)> {
        let mapped = self.mapped.lock().unwrap();
        mapped
            .iter()
            .map(|(&page, &(write, byte))| (page, write, byte))
            .collect()
    }
}

impl DeviceIommu for FakeIommu {
    fn map(
        &self,
        first: Iova,
        host: &VolatileSlice<'_>,
        write: bool,
    ) -> std::io::Result<IovaRange> {
        let device = range(first.0 + (1 << 40), host.len() as u64);
        let bytes = content(host);
        let pages = (first.0 / PAGE..).zip(bytes.chunks_exact(PAGE as usize));
        for (page, bytes) in pages.clone() {
            if self.refused == Some(page * PAGE) {
                return Err(std::io::ErrorKind::OutOfMemory.into());
            }
            let twice = self.mapped.lock().unwrap().get(&(page * PAGE)).copied();
            assert_eq!(twice, None, "{page} with {}", bytes[0]);
        }
        let mapped = pages.map(|(page, bytes)| (page * PAGE, (write, bytes[0])));
        self.mapped.lock().unwrap().extend(mapped);
        Ok(device)
    }

    fn unmap(&self, first: Iova, device: IovaRange) {
        assert_eq!(device.start().0, first.0 + (1 << 40));
        for page in 0..device.pages() {
            let was = self.mapped.lock().unwrap().remove(&(first.0 + page * PAGE));
            assert!(was.is_some(), "{first:?} {page}");
        }
    }
}

fn content(slice: &VolatileSlice<'_>) -> Vec<u8> {
    let mut bytes = vec![0; slice.len()];
    slice.copy_to(&mut bytes[..]);
    bytes
}

#[test]
fn a_device_with_an_iommu_gets_each_page_once_until_the_last_pin_of_a_run_ends() {
    let (memory, fd) = four_pages();
    for page in 0..4 {
        rustix::io::pwrite(&fd, &[page as u8 + 1], page * PAGE).unwrap();
    }
    let iommu = Arc::new(FakeIommu::default());
    memory.set_device_iommu(iommu.clone()).unwrap();
    assert_eq!(memory.set_device_iommu(iommu.clone()), Err(Errno::BUSY));
    let first = memory.pin(range(PAGE + 8, PAGE), Access::Read).unwrap();
    // What a later pin may need is given at once: a page is not mapped again to be written.
    assert_eq!(iommu.pages(), [(PAGE, true, 2), (2 * PAGE, true, 3)]);
    let second = memory.pin(range(2 * PAGE, PAGE), Access::Write).unwrap();
    assert_eq!(iommu.pages().len(), 2);
    assert_eq!(second.device_ranges(), [range((1 << 40) + 2 * PAGE, PAGE)]);
    assert_eq!(first.device_ranges(), [range((1 << 40) + PAGE + 8, PAGE)]);
    // They were mapped at once, and stay so until both are let go; and so page 1 is where it was.
    drop(first);
    assert_eq!((memory.counts().1, iommu.pages().len()), (1, 2));
    let again = memory.pin(range(PAGE, PAGE), Access::Read).unwrap();
    assert_eq!(again.device_ranges(), [range((1 << 40) + PAGE, PAGE)]);
    drop(second);
    assert_eq!(iommu.pages().len(), 2);
    drop(again);
    assert_eq!(iommu.pages(), []);
}

/// An IOMMU that puts pages apart: each of odd number 1 MiB higher.
struct ScatteringIommu;

impl DeviceIommu for ScatteringIommu {
    fn map(&self, first: Iova, _: &VolatileSlice<'_>, _: bool) -> std::io::Result<IovaRange> {
        Ok(range(first.0 + (first.0 / PAGE % 2) * (1 << 20), PAGE))
    }

    fn unmap(&self, _: Iova, device: IovaRange) {
        assert_eq!(device.len(), Some(PAGE));
    }
}

#[test]
fn a_device_sees_every_byte_of_a_pin_in_order_and_what_is_side_by_side_as_one() {
    let (scattered, _fd) = four_pages();
    scattered
        .set_device_iommu(Arc::new(ScatteringIommu))
        .unwrap();
    let (whole, _fd) = four_pages();
    whole
        .set_device_iommu(Arc::new(FakeIommu::default()))
        .unwrap();
    let (none, _fd) = four_pages();
    let end = 4 * PAGE;
    for (start, len) in [(0, 1), (PAGE - 1, 2), (8, end - 8), (0, end), (end - 1, 1)] {
        let pin = |memory: &GuestMemory| memory.pin(range(start, len), Access::Read).unwrap();
        let expected = range((1 << 40) + start, len);
        assert_eq!(pin(&whole).device_ranges(), [expected]);
        assert_eq!(pin(&none).device_ranges(), []);
        // Byte for byte, as far as the whole is seen.
        let seen: Vec<u64> = pin(&scattered)
            .device_ranges()
            .iter()
            .flat_map(|range| range.start().0..=range.last().0)
            .collect();
        let apart = |at: u64| at + (at / PAGE % 2) * (1 << 20);
        let bytes: Vec<u64> = (start..start + len).map(apart).collect();
        assert!(seen == bytes, "{start:#x}+{len:#x}");
    }
    let pin = scattered.pin(range(8, 3 * PAGE), Access::Read).unwrap();
    assert_eq!(pin.device_ranges().len(), 4);
}

/// Though the client's file is open for writing.
#[test]
fn a_device_with_an_iommu_cannot_write_what_the_guest_lets_it_read() {
    let (memory, _fd) = four_pages();
    let iommu = Arc::new(FakeIommu::default());
    memory.set_device_iommu(iommu.clone()).unwrap();
    let _pin = memory.pin(range(2 * PAGE, 2 * PAGE), Access::Read).unwrap();
    assert_eq!(iommu.pages(), [(2 * PAGE, true, 0), (3 * PAGE, false, 0)]);
}

#[test]
fn a_page_that_the_iommu_refuses_lets_go_of_those_before_it() {
    let (memory, _fd) = four_pages();
    let iommu = Arc::new(FakeIommu {
        refused: Some(3 * PAGE),
        ..FakeIommu::default()
    });
    memory.set_device_iommu(iommu.clone()).unwrap();
    let before = memory.pin(range(PAGE, PAGE), Access::Read).unwrap();
    let error = memory.pin(range(0, 4 * PAGE), Access::Read).unwrap_err();
    assert!(matches!(error, AccessError::Iommu(_)), "{error}");
    assert_eq!(memory.counts(), (2, 1));
    assert_eq!(iommu.pages(), [(PAGE, true, 0)]);
    drop(before);
    assert_eq!((memory.counts(), iommu.pages()), ((2, 0), vec![]));
}

#[test]
fn unmap_waits_for_a_pin_that_another_thread_holds() {
    let memory = connected(DmaLimits::default());
    map(&memory, 0..1, BOTH, Some((&memfd(1), 0))).unwrap();
    let (tell, told) = mpsc::channel();
    let is_held = Arc::new(AtomicBool::new(true));
    let pin = memory.pin(range(0, PAGE), Access::Write).unwrap();
    let holder = {
        let is_held = Arc::clone(&is_held);
        thread::spawn(move || {
            told.recv().unwrap();
            thread::sleep(Duration::from_millis(20));
            is_held.store(false, Ordering::SeqCst);
            drop(pin);
        })
    };
    let mut asked = Vec::new();
    let mut device = Device::new(|range| {
        asked.push(range);
        tell.send(()).unwrap();
    });
    memory.unmap(&one(0..1), &mut device).unwrap();
    assert!(
        !is_held.load(Ordering::SeqCst),
        "unmap went on while the pin was held"
    );
    assert_eq!(asked, [range(0, PAGE)]);
    holder.join().unwrap();
}

#[test]
fn unmap_does_not_wait_for_ever_and_takes_the_mapping_away_all_the_same() {
    let (memory, fd) = four_pages();
    for unmap in [one(0..3), DmaUnmap::All] {
        let pin = memory.pin(range(3 * PAGE, PAGE), Access::Read).unwrap();
        let low = memory.pin(range(0, 1), Access::Read);
        let error = memory.unmap(&unmap, &mut Device::new(|_| ())).unwrap_err();
        assert!(matches!(error, DmaError::StillPinned(_)), "{error}");
        assert_eq!(
            memory.view().unwrap().translate(Iova(0)).map(|it| it.range),
            None
        );
        drop((pin, low));
        memory.disconnect();
        memory.connect(quick());
        memory.set_bus_master(true);
        map(&memory, 3..4, BOTH, Some((&fd, 3))).unwrap();
    }
}

/// The limit is for the whole: a client does not wait longer because more is pinned.
#[test]
fn many_pins_together_are_waited_for_no_longer_than_one() {
    let memory = connected(quick());
    let fd = memfd(64);
    for page in 0..64 {
        map(&memory, page..page + 1, BOTH, Some((&fd, page))).unwrap();
    }
    let pins: Vec<_> = (0..64)
        .map(|page| memory.pin(range(page * PAGE, 1), Access::Read).unwrap())
        .collect();
    let letting_go = thread::spawn(move || {
        for pin in pins {
            thread::sleep(Duration::from_millis(20));
            drop(pin);
        }
    });
    let result = memory.unmap(&DmaUnmap::All, &mut Device::new(|_| ()));
    assert!(matches!(result, Err(DmaError::StillPinned(_))));
    letting_go.join().unwrap();
}

#[test]
fn a_device_that_takes_too_long_to_let_go_is_not_answered_late() {
    let (memory, _fd) = four_pages();
    let mut slow = Device::new(|_| thread::sleep(Duration::from_millis(150)));
    let result = memory.unmap(&one(0..3), &mut slow);
    assert!(matches!(result, Err(DmaError::StillPinned(_))));
}

#[test]
fn a_guard_keeps_its_memory_after_the_client_is_gone() {
    let (memory, fd) = four_pages();
    let pin = memory.pin(range(2 * PAGE, 2 * PAGE), Access::Read).unwrap();
    rustix::io::pwrite(&fd, b"still here", 3 * PAGE).unwrap();
    memory.disconnect();
    memory.connect(quick());
    drop(fd);
    let mut bytes = [0; 10];
    let last = pin.slices().last().unwrap();
    last.copy_to(&mut bytes[..]);
    assert_eq!(&bytes, b"still here");
    assert_eq!(memory.counts(), (0, 0));
}
