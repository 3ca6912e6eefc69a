//! Which pages are reported as written.

use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::dma::view::Access;

const NONE: [u64; 0] = [];

/// Bits for a thousand pages or so.
const MAX: u64 = 128;

/// Pages 0..64 and 64..128 of a file, a hole, and 256..260, which go by message.
fn tracked() -> GuestMemory {
    let memory = connected(DmaLimits::default());
    let fd = memfd(128);
    map(&memory, 0..64, BOTH, Some((&fd, 0))).unwrap();
    map(&memory, 64..128, BOTH, Some((&fd, 64))).unwrap();
    map(&memory, 256..260, BOTH, None).unwrap();
    memory.start_tracking(MAX).unwrap();
    memory
}

/// The written pages of a range of pages.
fn taken(memory: &GuestMemory, pages: std::ops::Range<u64>) -> Vec<u64> {
    let asked = range(pages.start * PAGE, (pages.end - pages.start) * PAGE);
    let report = memory.take_dirty(asked).unwrap();
    assert_eq!(
        report.words().len() as u64,
        (pages.end - pages.start).div_ceil(64)
    );
    pages
        .clone()
        .filter(|page| report.is_dirty(page - pages.start))
        .collect()
}

#[test]
fn every_way_to_write_is_reported_once() {
    let memory = tracked();
    memory.write(Iova(3 * PAGE - 1), b"ab").unwrap();
    memory.write(Iova(64 * PAGE - 1), b"ab").unwrap();
    {
        let view = memory.view().unwrap();
        view.write_obj(1_u32, GuestAddress(10 * PAGE)).unwrap();
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        view.store(1_u64, GuestAddress(12 * PAGE), relaxed).unwrap();
        for slice in view.slices(range(100 * PAGE, 8), Access::Write) {
            slice.unwrap().copy_from(&[1_u8; 8]);
        }
        // To be handed out for writing is not to be written, nor is to be read.
        let slice = view.slices(range(101 * PAGE, 8), Access::Write).next();
        assert!(slice.unwrap().is_ok());
        view.read_obj::<u32>(GuestAddress(11 * PAGE)).unwrap();
    }
    memory.read(Iova(20 * PAGE), &mut [0; 100]).unwrap();
    assert_eq!(taken(&memory, 0..300), [2, 3, 10, 12, 63, 64, 100]);
    assert_eq!(taken(&memory, 0..300), NONE);
}

#[test]
fn what_was_not_asked_for_stays_marked() {
    let memory = tracked();
    let pages = [0, 1, 62, 63, 64, 65, 127];
    for page in pages {
        memory.write(Iova(page * PAGE), b"x").unwrap();
    }
    for (asked, reported) in [
        (1..2, vec![1]),
        (2..62, vec![]),
        (63..65, vec![63, 64]),
        (0..1, vec![0]),
        (0..128, vec![62, 65, 127]),
        (0..128, vec![]),
    ] {
        assert_eq!(taken(&memory, asked.clone()), reported, "{asked:?}");
    }
}

#[test]
fn what_may_be_written_at_any_time_is_reported_each_time() {
    let memory = tracked();
    let reader = memory.pin(range(5 * PAGE, PAGE), Access::Read).unwrap();
    let writer = memory.pin(range(64 * PAGE - 1, 2), Access::Write).unwrap();
    for _ in 0..3 {
        assert_eq!(taken(&memory, 0..128), [63, 64]);
    }
    drop((reader, writer));
    assert_eq!(
        taken(&memory, 0..128),
        [63, 64],
        "written before it was let go"
    );
    assert_eq!(taken(&memory, 0..128), NONE);
}

#[test]
fn a_pin_that_is_older_than_the_tracking_is_reported_too() {
    let memory = tracked();
    memory.stop_tracking();
    let pin = memory.pin(range(PAGE, PAGE), Access::Write).unwrap();
    memory.start_tracking(MAX).unwrap();
    drop(pin);
    assert_eq!(taken(&memory, 0..8), [1]);
}

#[test]
fn only_what_is_written_while_writes_are_tracked_is_reported() {
    let memory = tracked();
    memory.stop_tracking();
    memory.write(Iova(PAGE), b"x").unwrap();
    let error = memory.take_dirty(range(0, PAGE)).unwrap_err();
    assert_eq!(error.errno(), Errno::INVAL);
    memory.start_tracking(MAX).unwrap();
    memory.write(Iova(2 * PAGE), b"x").unwrap();
    // To start again changes nothing.
    memory.start_tracking(MAX).unwrap();
    map(&memory, 200..201, BOTH, Some((&memfd(1), 0))).unwrap();
    memory.write(Iova(200 * PAGE), b"x").unwrap();
    assert_eq!(taken(&memory, 0..256), [2, 200]);
}

/// Bits are spent on memory that can be written here, and come back when it is unmapped.
#[test]
fn the_bits_are_bounded_by_what_was_agreed_on() {
    let memory = connected(DmaLimits::default());
    let fd = memfd(129);
    map(&memory, 0..64, BOTH, Some((&fd, 0))).unwrap();
    map(&memory, 1 << 30..1 << 40, BOTH, None).unwrap();
    assert_eq!(memory.start_tracking(7).unwrap_err().errno(), Errno::NOSPC);
    memory.start_tracking(24).unwrap();
    let large = map(&memory, 64..193, BOTH, Some((&fd, 0)));
    assert_eq!(large, Err(Errno::NOSPC));
    for unmap in [one(64..192), one(64..192), DmaUnmap::All] {
        map(&memory, 64..192, BOTH, Some((&fd, 0))).unwrap();
        map(&memory, 1 << 41..1 << 42, BOTH, None).unwrap();
        memory
            .unmap(&one(1 << 41..1 << 42), &mut Device::new(|_| ()))
            .unwrap();
        memory.unmap(&unmap, &mut Device::new(|_| ())).unwrap();
    }
    map(&memory, 0..128, BOTH, Some((&fd, 0))).unwrap();
    for (pages, expected) in [
        (3 * 64, Ok(())),
        (3 * 64 + 1, Err(Errno::NOSPC)),
        (1 << 51, Err(Errno::NOSPC)),
    ] {
        let report = memory.take_dirty(range(0, pages * PAGE));
        assert_eq!(
            report.map(drop).map_err(|error| error.errno()),
            expected,
            "{pages}"
        );
    }
}

#[test]
fn memory_without_a_file_is_the_clients_to_track() {
    let memory = tracked();
    assert!(memory.write(Iova(256 * PAGE), b"x").is_err());
    assert_eq!(taken(&memory, 250..270), NONE);
    memory.write(Iova(127 * PAGE), b"x").unwrap();
    memory
        .unmap(&one(64..128), &mut Device::new(|_| ()))
        .unwrap();
    assert_eq!(
        taken(&memory, 0..256),
        NONE,
        "what is unmapped is not reported"
    );
}
