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

/// Parts of one mapping and of several, small and large, aligned and not.
#[test]
fn what_is_gathered_is_what_each_part_reads() {
    const PAGES: u64 = 600;
    let memory = connected(DmaLimits::default());
    let fd = memfd(PAGES);
    let bytes: Vec<_> = (0..PAGES * PAGE)
        .map(|at| (at * 7 + at / 251) as u8)
        .collect();
    assert_eq!(rustix::io::pwrite(&fd, &bytes, 0), Ok(bytes.len()));
    map(&memory, 0..10, BOTH, Some((&fd, 0))).unwrap();
    map(&memory, 10..PAGES, BOTH, Some((&fd, 10))).unwrap();
    let whole = (PAGES * PAGE) as usize;
    for parts in [
        vec![],
        vec![(0, 0), (5, 0)],
        vec![(3, 5), (0, 7), (9 * PAGE + 1, 4)],
        // Over the border of two mappings, and back.
        vec![(1, 2), (10 * PAGE - 3, 9), (1, 2)],
        // More than is copied at once, in one part and in many.
        vec![(8, whole - 8), (0, 8)],
        (0..PAGES)
            .rev()
            .map(|page| (page * PAGE, PAGE as usize))
            .collect(),
    ] {
        let expected: Vec<_> = parts
            .iter()
            .flat_map(|(at, len)| &bytes[*at as usize..][..*len])
            .copied()
            .collect();
        let part = |(at, len): &(u64, usize)| (Iova(*at), *len);
        for behind in [0, 3] {
            let mut out = vec![0x5a; expected.len() + behind];
            memory.gather(parts.iter().map(part), &mut out).unwrap();
            assert!(out[..expected.len()] == expected, "{parts:?}");
            assert_eq!(out[expected.len()..], [0x5a; 3][..behind]);
        }
        // What is full takes no more.
        let mut little = vec![0; expected.len() / 2];
        memory.gather(parts.iter().map(part), &mut little).unwrap();
        assert!(little == expected[..little.len()]);
    }
    for wrong in [(whole as u64, 1), (whole as u64 - 1, 2), (u64::MAX, 2)] {
        let parts = [(0, 4), wrong].map(|(at, len)| (Iova(at), len));
        memory.gather(parts, &mut [0; 6]).unwrap_err();
    }
    memory.set_bus_master(false);
    memory.gather([(Iova(0), 1)], &mut [0]).unwrap_err();
}
