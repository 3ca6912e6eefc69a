//! Whether memory may be accessed at all.

use std::sync::Arc;
use std::thread;

use super::*;
use crate::dma::view::Access;

#[test]
fn a_device_that_is_not_bus_master_touches_nothing() {
    let memory = connected(DmaLimits::default());
    let fd = memfd(1);
    map(&memory, 0..1, BOTH, Some((&fd, 0))).unwrap();
    memory.set_bus_master(false);
    let perm = Err(Errno::PERM);
    let mut bytes = [7; 4];
    let errno = |error: AccessError| error.errno();
    assert_eq!(memory.read(Iova(0), &mut bytes).map_err(errno), perm);
    assert_eq!(memory.write(Iova(0), b"no").map_err(errno), perm);
    let pin = memory.pin(range(0, 1), Access::Read);
    assert_eq!(pin.map(drop).map_err(errno), perm);
    assert_eq!(memory.view().map(drop).map_err(errno), perm);
    assert_eq!(bytes, [7; 4]);
    rustix::io::pread(&fd, &mut bytes, 0).unwrap();
    assert_eq!(bytes, [0; 4]);
    memory.set_bus_master(true);
    memory.write(Iova(0), b"yes!").unwrap();
    rustix::io::pread(&fd, &mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"yes!");
    // The next client's guest has to allow it anew.
    memory.disconnect();
    memory.connect(DmaLimits::default());
    assert_eq!(memory.view().map(drop).map_err(errno), perm);
}

#[test]
fn a_range_that_wraps_is_none() {
    let memory = connected(DmaLimits::default());
    let last_page = DmaMap {
        flags: BOTH,
        offset: 0,
        iova: u64::MAX - PAGE + 1,
        size: PAGE,
    };
    memory.map(&last_page, Some(memfd(1))).unwrap();
    memory.write(Iova(u64::MAX - 1), b"ab").unwrap();
    let mut bytes = [0; 2];
    memory.read(Iova(u64::MAX - 1), &mut bytes).unwrap();
    assert_eq!(&bytes, b"ab");
    for (at, len) in [(u64::MAX, 2), (u64::MAX - 1, 3)] {
        let error = memory.write(Iova(at), &vec![0; len]).unwrap_err();
        assert!(
            matches!(error, AccessError::NotARange { .. }),
            "{at:#x}+{len}"
        );
    }
}

/// A word that is written whole is never read in part, while mappings come and go.
#[test]
fn threads_look_up_while_the_session_maps_and_unmaps() {
    use std::sync::atomic::{AtomicBool, Ordering};
    use vm_memory::{Bytes, GuestAddress};
    const ONES: u64 = u64::MAX;
    let memory = connected(DmaLimits::default());
    let fd = memfd(64);
    map(&memory, 0..1, BOTH, Some((&fd, 0))).unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..4_u64)
        .map(|thread| {
            let (memory, is_over) = (memory.clone(), Arc::clone(&is_over));
            thread::spawn(move || {
                let mut rounds = 0_u64;
                while rounds < 100 || !is_over.load(Ordering::Relaxed) {
                    rounds += 1;
                    let view = memory.view().unwrap();
                    let word = if thread % 2 == 0 { ONES } else { 0 };
                    view.write_obj(word, GuestAddress(8)).unwrap();
                    let seen: u64 = view.read_obj(GuestAddress(8)).unwrap();
                    assert!(seen == 0 || seen == ONES, "{seen:#x}");
                    // Here and gone.
                    let page = 1 + rounds % 63;
                    let _ = view.read_obj::<u64>(GuestAddress(page * PAGE));
                    drop(view);
                    let _ = memory.pin(range(page * PAGE, PAGE), Access::Write);
                }
            })
        })
        .collect();
    let mut device = Device::new(|_| ());
    for round in 0..20 {
        for page in 1..64 {
            map(
                &memory,
                page..page + 1,
                BOTH,
                Some((&fd, (page + round) % 64)),
            )
            .unwrap();
        }
        for page in 1..64 {
            memory.unmap(&one(page..page + 1), &mut device).unwrap();
        }
    }
    is_over.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(memory.counts(), (1, 0));
}
