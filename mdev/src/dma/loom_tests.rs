//! Every order of events between a device's threads and the session, on the code that runs.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p mdev --release --lib loom`
//!
//! The locks are loom's, and so every point where one is taken is a point where another thread
//! may go on. What else these paths share is read once, before or under a lock. The table's lock
//! is one lock here, where production has one for each of several processors: that is a matter of
//! `crossbeam-utils`.

use std::os::fd::OwnedFd;
use std::time::Duration;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vfu::wire::dma::{DmaFlags, DmaMap, DmaUnmap};
use vm_memory::VolatileSlice;

use super::pin::DeviceIommu;
use super::view::Access;
use super::*;
use crate::fake::FakeDevice;
use crate::irq::Interrupts;

const PAGE: u64 = DmaTable::PAGE_SIZE;

/// How often a thread may be interrupted where it would not have to wait.
const PREEMPTIONS: usize = 5;

fn model(test: impl Fn(&OwnedFd) + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    let fd = memfd_create("guest", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&fd, 2 * PAGE).unwrap();
    builder.check(move || test(&fd));
}

fn range() -> IovaRange {
    IovaRange::new(Iova(0), 2 * PAGE).unwrap()
}

/// Two mappings of a page, side by side.
fn connected(fd: &OwnedFd) -> GuestMemory {
    let memory = GuestMemory::default();
    memory.connect(DmaLimits {
        // Loom's time stands still, but the clock does not.
        unmap: Duration::from_secs(3600),
        ..DmaLimits::default()
    });
    memory.trust().connect(false);
    memory.set_bus_master(true);
    for page in 0..2 {
        let request = DmaMap {
            flags: DmaFlags::READ | DmaFlags::WRITE,
            offset: page * PAGE,
            iova: page * PAGE,
            size: PAGE,
        };
        memory.map(&request, Some(fd.try_clone().unwrap())).unwrap();
    }
    memory
}

/// Set once the client was told that its memory is free.
type Answered = Arc<AtomicBool>;

fn unmap(memory: &GuestMemory, unmap: &DmaUnmap, answered: &Answered) {
    let (mut device, _) = FakeDevice::new(Interrupts::default()).unwrap();
    memory.unmap(unmap, &mut device).unwrap();
    answered.store(true, Ordering::SeqCst);
    let pinned = memory.pin(range(), Access::Write);
    assert!(matches!(pinned, Err(AccessError::NotMapped(_))));
    assert_eq!(memory.counts().1, 0);
}

fn pin(memory: &GuestMemory, answered: &Answered) {
    if let Ok(pin) = memory.pin(range(), Access::Write) {
        assert!(!answered.load(Ordering::SeqCst), "pinned after the answer");
        drop(pin);
    }
}

const SECOND: DmaUnmap = DmaUnmap::One {
    iova: PAGE,
    size: PAGE,
};

#[test]
fn loom_no_pin_is_alive_or_made_after_unmap_has_returned() {
    for unmapped in [SECOND, DmaUnmap::All] {
        model(move |fd| {
            let (memory, answered) = (connected(fd), Answered::default());
            let device = {
                let (memory, answered) = (memory.clone(), Arc::clone(&answered));
                thread::spawn(move || pin(&memory, &answered))
            };
            unmap(&memory, &unmapped, &answered);
            device.join().unwrap();
        });
    }
}

/// Counts the mappings that a physical device has.
#[derive(Default)]
struct Counting(AtomicUsize);

impl DeviceIommu for Counting {
    fn map(&self, first: Iova, host: &VolatileSlice<'_>, _: bool) -> std::io::Result<IovaRange> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(IovaRange::new(first, host.len() as u64).unwrap())
    }

    fn unmap(&self, _: Iova, _: IovaRange) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn loom_no_device_reaches_memory_after_unmap_has_returned() {
    model(|fd| {
        let (memory, answered) = (connected(fd), Answered::default());
        let iommu = std::sync::Arc::new(Counting::default());
        memory.set_device_iommu(iommu.clone()).unwrap();
        let device = {
            let (memory, answered) = (memory.clone(), Arc::clone(&answered));
            thread::spawn(move || {
                pin(&memory, &answered);
                pin(&memory, &answered);
            })
        };
        unmap(&memory, &DmaUnmap::All, &answered);
        assert_eq!(iommu.0.load(Ordering::SeqCst), 0);
        device.join().unwrap();
    });
}

#[test]
fn loom_two_threads_that_pin_are_both_waited_for() {
    model(|fd| {
        let (memory, answered) = (connected(fd), Answered::default());
        let devices: Vec<_> = (0..2)
            .map(|_| {
                let (memory, answered) = (memory.clone(), Arc::clone(&answered));
                thread::spawn(move || pin(&memory, &answered))
            })
            .collect();
        unmap(&memory, &SECOND, &answered);
        for device in devices {
            device.join().unwrap();
        }
    });
}

#[test]
fn loom_nothing_is_written_through_a_view_after_unmap_has_returned() {
    model(|fd| {
        let (memory, answered) = (connected(fd), Answered::default());
        let device = {
            let (memory, answered) = (memory.clone(), Arc::clone(&answered));
            thread::spawn(move || {
                let view = memory.view().unwrap();
                for slice in view.slices(range(), Access::Write) {
                    let Ok(slice) = slice else {
                        continue;
                    };
                    let is_second = view.translate(Iova(PAGE)).is_some();
                    if is_second {
                        assert!(!answered.load(Ordering::SeqCst), "written after the answer");
                    }
                    slice.copy_from(&[1_u8; 8]);
                }
            })
        };
        unmap(&memory, &SECOND, &answered);
        device.join().unwrap();
    });
}

#[test]
fn loom_a_copy_that_crosses_mappings_is_done_or_stops_at_the_unmapped_one() {
    model(|fd| {
        rustix::io::pwrite(fd, &[0; 2 * PAGE as usize], 0).unwrap();
        let memory = connected(fd);
        let device = {
            let memory = memory.clone();
            thread::spawn(move || memory.write(Iova(PAGE - 4), &[1; 8]).is_ok())
        };
        unmap(&memory, &SECOND, &Answered::default());
        let mut at_the_answer = [0; 4];
        rustix::io::pread(fd, &mut at_the_answer, PAGE).unwrap();
        let is_done = device.join().unwrap();
        let mut at_the_end = [0; 4];
        rustix::io::pread(fd, &mut at_the_end, PAGE).unwrap();
        assert_eq!(at_the_end, at_the_answer, "written after the answer");
        assert_eq!(at_the_end, [u8::from(is_done); 4]);
    });
}

#[test]
fn loom_a_write_is_reported_by_the_look_after_it() {
    model(|fd| {
        let memory = connected(fd);
        memory.start_tracking(64).unwrap();
        let written = Answered::default();
        let device = {
            let (memory, written) = (memory.clone(), Arc::clone(&written));
            thread::spawn(move || {
                let pin = memory.pin(range(), Access::Write).unwrap();
                pin.slices().for_each(|slice| slice.copy_from(&[1_u8; 8]));
                written.store(true, Ordering::SeqCst);
            })
        };
        let was_written = written.load(Ordering::SeqCst);
        let during = memory.take_dirty(range()).unwrap();
        assert!(!was_written || during.is_dirty(0) && during.is_dirty(1));
        device.join().unwrap();
        let after = memory.take_dirty(range()).unwrap();
        for page in 0..2 {
            assert!(during.is_dirty(page) || after.is_dirty(page), "{page}");
        }
    });
}
