//! No descriptor is left open, whatever a client sends. Alone in its program, since it counts all
//! that the process has.

#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]

mod support;

use std::os::fd::{AsFd, OwnedFd};

use support::raw::{Outcome, Raw, dma, message, words};
use support::{Instance, borrow, memfd, new_eventfd, wait_until};
use vfu::wire::Command;

const PAGE: u64 = 4096;

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A session closes what is its own a little after its client has gone.
fn wait_until_open(count: usize) {
    wait_until("every descriptor of a client is closed", || {
        open_descriptors() == count
    });
}

/// Descriptors in every place where they do not belong, and some where they do.
fn misuse(raw: &mut Raw, files: &[OwnedFd], eventfds: &[OwnedFd]) {
    let good_map = dma(32, 3, &[0, 0, PAGE]);
    let bad_map = dma(32, 3, &[0, 1, PAGE]);
    for command in 0..20 {
        for payload in [&good_map, &bad_map, &vec![], &vec![0xff; 64]] {
            raw.ask(command, payload, &borrow(files));
        }
    }
    let set = |index, count| words(&[20, 0x24, index, 0, count]);
    let set_irqs = Command::DeviceSetIrqs as u16;
    for count in 0..4 {
        for index in [0, 2, 9] {
            raw.ask(set_irqs, &set(index, count), &borrow(eventfds));
            raw.ask(set_irqs, &set(index, count), &borrow(files));
        }
    }
    let map = Command::DmaMap as u16;
    assert_eq!(raw.ask(map, &good_map, &[]), Outcome::Success(vec![]));
}

#[test]
fn every_descriptor_of_a_client_is_closed_when_it_is_of_no_more_use() {
    let instance = Instance::new();
    let files: Vec<_> = (0..3).map(|_| memfd(PAGE)).collect();
    let eventfds: Vec<_> = (0..2).map(|_| new_eventfd()).collect();
    instance.mail.call(|_| ()).unwrap();
    let before = open_descriptors();
    for _ in 0..5 {
        let mut raw = instance.raw();
        misuse(&mut raw, &files, &eventfds);
        // A file is mapped and its descriptor closed; eventfds are kept, each in one place.
        let map = dma(32, 3, &[0, 0x10_0000, PAGE]);
        let with_client = open_descriptors();
        for slice in 0..100 {
            let map = dma(32, 3, &[0, (0x1000 + slice) * PAGE, PAGE]);
            raw.ask(2, &map, &[files[0].as_fd()]);
            let set = words(&[20, 0x24, 2, 0, 2]);
            raw.ask(8, &set, &borrow(&eventfds));
        }
        raw.ask(2, &map, &[files[1].as_fd()]);
        let kept = open_descriptors() - with_client;
        assert!(kept <= eventfds.len(), "{kept} more with a client");
        // It goes in the middle of a message that brought more.
        raw.send(&message(1, 2, &map)[..20], &borrow(&files));
        drop(raw);
        wait_until_open(before);
        // One whose VERSION brings some.
        let mut raw = Raw::new(instance.connect());
        raw.ask(1, &[0; 4], &borrow(&files));
        drop(raw);
        wait_until_open(before);
    }
    let _first = instance.client();
    let with_first = open_descriptors();
    for _ in 0..10 {
        assert!(instance.try_client().is_err());
    }
    wait_until_open(with_first);
}
