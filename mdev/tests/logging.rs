//! The log of DMA writes, as a client asks for it.

#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]

mod support;

use std::os::fd::{AsFd, OwnedFd};

use mdev::dma::Iova;
use vfu::Errno;
use vfu::client::{Client, ClientError};
use vfu::wire::dma::{DmaFlags, DmaMap, DmaUnmap};
use vfu::wire::feature::DmaReport;
use vfu::wire::version::Capabilities;

use support::{Instance, memfd, offer};

const PAGE: u64 = 4096;
/// Where the guest's memory begins, and how many pages it has.
const BASE: u64 = 0x10_0000;
const PAGES: u64 = 100;

/// A client that cannot be asked for memory, with some that is mapped.
fn client(instance: &Instance) -> (Client, OwnedFd) {
    let offer = Capabilities {
        max_dma_maps: None,
        ..offer()
    };
    let mut client = Client::negotiate(instance.connect().into(), offer).unwrap();
    client.region_write(7, 4, &[6, 0]).unwrap();
    let ram = memfd(PAGES * PAGE);
    map(&mut client, BASE, &ram);
    (client, ram)
}

fn map(client: &mut Client, iova: u64, ram: &OwnedFd) {
    let map = DmaMap {
        flags: DmaFlags::all(),
        offset: 0,
        iova,
        size: PAGES * PAGE,
    };
    client.dma_map(&map, Some(ram.as_fd())).unwrap();
}

/// The device writes to these pages.
fn write(instance: &Instance, pages: &[u64]) {
    for page in pages {
        let at = Iova(BASE + page * PAGE + 10);
        instance.memory.write(at, &[1]).unwrap();
    }
}

/// The numbers of the bits in a report on pages of the memory.
fn report(client: &mut Client, first: u64, pages: u64, page_size: u64) -> Vec<u64> {
    let report = DmaReport {
        iova: BASE + first * PAGE,
        length: pages * PAGE,
        page_size,
    };
    let words = client.report_dma_logging(report).unwrap();
    assert_eq!(words.len() as u64, report.bits().div_ceil(64));
    let is_set = |bit: &u64| words[(bit / 64) as usize] & (1 << (bit % 64)) != 0;
    (0..64 * words.len() as u64).filter(is_set).collect()
}

/// The errno of a report that is refused.
fn refusal(client: &mut Client, iova: u64, length: u64, page_size: u64) -> Errno {
    let report = DmaReport {
        iova,
        length,
        page_size,
    };
    match client.report_dma_logging(report) {
        Err(ClientError::Refused(errno)) => errno,
        other => panic!("{report:x?}: {other:?}"),
    }
}

#[test]
fn a_bit_stands_for_a_page_of_the_clients_size() {
    let instance = Instance::new();
    let (mut client, _ram) = client(&instance);
    client.start_dma_logging(PAGE).unwrap();
    for (page_size, first, bits) in [
        (4096, 0, vec![0, 3, 64, 99]),
        (8192, 0, vec![0, 1, 32, 49]),
        (0x1_0000, 0, vec![0, 4, 6]),
        (1 << 63, 0, vec![0]),
        (2048, 0, vec![0, 1, 6, 7, 128, 129, 198, 199]),
        (1024, 64, vec![0, 1, 2, 3, 140, 141, 142, 143]),
        (8192, 3, vec![0, 30, 48]),
    ] {
        report(&mut client, 0, PAGES, PAGE);
        write(&instance, &[0, 3, 64, 99]);
        let found = report(&mut client, first, PAGES - first, page_size);
        assert_eq!(found, bits, "{page_size} from {first}");
    }
    let bytes = {
        report(&mut client, 0, PAGES, PAGE);
        write(&instance, &[1]);
        report(&mut client, 0, 2, 1)
    };
    assert_eq!(bytes, (4096..8192).collect::<Vec<_>>(), "each byte");
}

#[test]
fn a_report_clears_what_it_tells_and_nothing_else() {
    let instance = Instance::new();
    let (mut client, _ram) = client(&instance);
    client.start_dma_logging(PAGE).unwrap();
    write(&instance, &[1, 70, 80]);
    assert_eq!(report(&mut client, 0, 64, PAGE), [1]);
    assert_eq!(report(&mut client, 0, PAGES, PAGE), [70, 80]);
    assert!(report(&mut client, 0, PAGES, PAGE).is_empty());
    write(&instance, &[70]);
    assert_eq!(report(&mut client, 70, 1, PAGE), [0]);
}

#[test]
fn a_report_that_cannot_be_is_refused_and_clears_nothing() {
    let instance = Instance::new();
    let (mut client, _ram) = client(&instance);
    client.start_dma_logging(PAGE).unwrap();
    write(&instance, &[5]);
    for (iova, length, page_size) in [
        (BASE + 1, PAGE, PAGE),
        (BASE + 512, 7 * PAGE, 512),
        (BASE, PAGE - 1, PAGE),
        (BASE, 6 * PAGE + 1, 1),
        (u64::MAX - PAGE + 1, 2 * PAGE, PAGE),
        (BASE, 6 * PAGE, PAGE + 1),
        (BASE, 6 * PAGE, 3),
    ] {
        let errno = refusal(&mut client, iova, length, page_size);
        assert_eq!(errno, Errno::INVAL, "{length:#x} at {iova:#x}");
    }
    assert_eq!(report(&mut client, 0, PAGES, PAGE), [5]);
}

#[test]
fn a_report_that_is_too_large_is_refused_before_memory_is_taken_for_it() {
    let instance = Instance::new();
    let (mut client, _ram) = client(&instance);
    client.start_dma_logging(PAGE).unwrap();
    let tib = 1 << 40;
    // Few bits for the client, and more of ours than any machine has memory for.
    for page_size in [1 << 63, 1 << 60] {
        let errno = refusal(&mut client, 0, u64::MAX - PAGE + 1, page_size);
        assert_ne!(errno, Errno::INVAL, "{page_size:#x}");
    }
    for (length, page_size) in [(tib + PAGE, PAGE), (tib >> 11, 1)] {
        let errno = refusal(&mut client, 0, length, page_size);
        assert_eq!(errno, Errno::NOSPC, "{length:#x} by {page_size}");
    }
    write(&instance, &[2]);
    assert_eq!(report(&mut client, 0, PAGES, PAGE), [2]);
}

#[test]
fn writes_are_noted_from_the_start_to_the_stop() {
    let instance = Instance::new();
    let (mut client, ram) = client(&instance);
    let is_refused = |client: &mut Client| {
        let errno = refusal(client, BASE, PAGES * PAGE, PAGE);
        assert_ne!(errno, Errno::NOSPC);
    };
    is_refused(&mut client);
    client.stop_dma_logging().unwrap();
    write(&instance, &[1]);
    client.start_dma_logging(PAGE).unwrap();
    write(&instance, &[2]);
    client.start_dma_logging(0x1000_0000).unwrap();
    assert_eq!(
        report(&mut client, 0, PAGES, PAGE),
        [2],
        "a second start loses nothing"
    );
    // What is mapped later is noted too.
    let all = DmaUnmap::One {
        iova: BASE,
        size: PAGES * PAGE,
    };
    client.dma_unmap(&all).unwrap();
    map(&mut client, BASE, &ram);
    write(&instance, &[7]);
    assert_eq!(report(&mut client, 0, PAGES, PAGE), [7]);
    write(&instance, &[8]);
    for _ in 0..2 {
        client.stop_dma_logging().unwrap();
        is_refused(&mut client);
    }
    client.start_dma_logging(PAGE).unwrap();
    let found = report(&mut client, 0, PAGES, PAGE);
    assert!(found.is_empty(), "it was stopped");
}

#[test]
fn the_next_client_finds_no_log() {
    let instance = Instance::new();
    let (mut first, _ram) = client(&instance);
    first.start_dma_logging(PAGE).unwrap();
    drop(first);
    let (mut next, _ram) = client(&instance);
    assert_ne!(refusal(&mut next, BASE, PAGE, PAGE), Errno::NOSPC);
}
