//! Guest memory that is reached by messages, as QEMU serves them: it answers none while a command
//! of its own is unanswered.

use std::time::{Duration, Instant};

use rustix::io::Errno;
use vfu::wire::Command;
use vfu::wire::dma::DmaUnmap;

use super::guest::{COMMAND, CONFIG, Instance, PAGE, Ram, pattern};
use super::vmm::Vmm;
use crate::edu::registers::{Register, command};
use crate::edu::transfer::BUFFER;

/// QEMU gives up an answer after 5 s.
pub(super) const LIMIT: Duration = Duration::from_secs(4);

#[test]
fn memory_that_cannot_be_pinned_is_copied() {
    for way in ["pin", "copy"] {
        let instance = Instance::new(&[("dma", way)]);
        let mut vmm = Vmm::new(&instance);
        vmm.map(0, 2 * PAGE, None);
        vmm.map(2 * PAGE, 2 * PAGE, None);
        let bytes = pattern(6, PAGE);
        vmm.ram[..PAGE as usize].copy_from_slice(&bytes);
        vmm.start(0, BUFFER, PAGE, 0);
        assert_eq!(vmm.finish(), None, "{way}");
        // Over both mappings.
        vmm.start(BUFFER, 2 * PAGE - 1000, PAGE, command::TO_RAM);
        assert_eq!(vmm.finish(), None, "{way}");
        let written = &vmm.ram[2 * PAGE as usize - 1000..][..PAGE as usize];
        assert_eq!(written, bytes, "{way}");
    }
}

#[test]
fn what_the_vmm_refuses_is_an_error() {
    let instance = Instance::new(&[]);
    let mut vmm = Vmm::new(&instance);
    vmm.map(0x10_0000, PAGE, None);
    vmm.start(0x10_0000, BUFFER, 8, 0);
    assert_eq!(vmm.finish(), Some(Errno::NODEV));
    assert_eq!(vmm.read(Register::DmaFailures), 1);
}

/// What a device waits for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wait {
    /// To find out how the VMM lays out messages.
    Layout,
    /// To find out whether the VMM's file is the guest's memory.
    Trust,
    /// For the first of two messages, the second of which is for the second page.
    First,
    /// For the second.
    Second,
}

pub(super) const WAITS: [Wait; 4] = [Wait::Layout, Wait::Trust, Wait::First, Wait::Second];

/// A VMM whose device is in the middle of a transfer that touches its first page.
pub(super) fn waiting_for(instance: &Instance, wait: Wait) -> Vmm {
    let mut vmm = Vmm::new(instance);
    let file = Ram::new(PAGE);
    let file = matches!(wait, Wait::Trust | Wait::Second).then_some(&file);
    vmm.map(0, PAGE, file);
    vmm.map(PAGE, PAGE, None);
    match wait {
        Wait::Layout | Wait::Trust => vmm.let_wait(0),
        Wait::First => {
            vmm.start(0, BUFFER, PAGE, 0);
            assert_eq!(vmm.finish(), None);
            vmm.let_wait(PAGE / 2);
        }
        Wait::Second => {
            // So that the file is believed, and read without a message.
            file.unwrap().write(0, &[1; 8]);
            vmm.ram[..8].fill(1);
            vmm.start(0, BUFFER, PAGE, 0);
            assert_eq!(vmm.finish(), None);
            vmm.let_wait(PAGE / 2);
        }
    }
    vmm
}

#[test]
fn an_unmap_cancels_the_transfer_that_touches_its_memory() {
    for wait in WAITS {
        let instance = Instance::new(&[]);
        let mut vmm = waiting_for(&instance, wait);
        let unmap = DmaUnmap::One {
            iova: 0,
            size: PAGE,
        };
        let begin = Instant::now();
        vmm.call(Command::DmaUnmap, |out| unmap.emit(out));
        assert!(begin.elapsed() < LIMIT, "{wait:?}");
        assert_eq!(vmm.finish(), Some(Errno::CANCELED), "{wait:?}");
    }
}

#[test]
fn an_unmap_of_other_memory_does_not_wait_for_a_transfer() {
    let instance = Instance::new(&[]);
    let mut vmm = Vmm::new(&instance);
    vmm.map(0, PAGE, None);
    vmm.map(PAGE, PAGE, None);
    vmm.let_wait(0);
    let unmap = DmaUnmap::One {
        iova: PAGE,
        size: PAGE,
    };
    vmm.call(Command::DmaUnmap, |out| unmap.emit(out));
    assert_ne!(vmm.read(Register::DmaCommand) & command::START, 0);
    vmm.is_silent = false;
    assert_eq!(vmm.finish(), None, "it was not cancelled");
}

#[test]
fn a_reset_cancels_the_transfer_that_waits_for_the_vmm() {
    for wait in WAITS {
        let instance = Instance::new(&[]);
        let mut vmm = waiting_for(&instance, wait);
        let begin = Instant::now();
        vmm.call(Command::DeviceReset, |_| ());
        assert!(begin.elapsed() < LIMIT, "{wait:?}");
        assert_eq!(vmm.read(Register::DmaCommand), 0);
    }
}

#[test]
fn a_vmm_that_leaves_ends_the_transfer_that_waits_for_it() {
    for wait in WAITS {
        let instance = Instance::new(&[]);
        let begin = Instant::now();
        drop(waiting_for(&instance, wait));
        let mut next = Vmm::new(&instance);
        assert!(begin.elapsed() < LIMIT, "{wait:?}");
        assert_eq!(next.read(Register::DmaCommand), 0, "{wait:?}");
        assert_eq!(next.read(Register::DmaCount), 0, "{wait:?}");
    }
}

#[test]
fn without_bus_mastering_the_vmm_is_asked_nothing() {
    for way in ["pin", "copy"] {
        let instance = Instance::new(&[("dma", way)]);
        let mut vmm = Vmm::new(&instance);
        vmm.map(0, PAGE, Some(&Ram::new(PAGE)));
        vmm.map(PAGE, PAGE, None);
        vmm.region_write(CONFIG, COMMAND, &[0b010, 0]);
        vmm.is_silent = true;
        for ram in [0, PAGE] {
            vmm.start(ram, BUFFER, 8, 0);
            assert_eq!(vmm.finish(), Some(Errno::PERM), "{way}");
        }
        assert_eq!(vmm.asked.len(), 0, "{way}");
    }
}
