//! How QEMU 11.1.3 was seen to use interrupts; the sections are those of `qemu-11.1.md`.

#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]

mod support;

use mdev::fake::{FakeDevice, register};
use support::{Instance, assign, new_eventfd, set_irqs, signals};
use vfu::client::Client;
use vfu::wire::irq::{IrqAction, IrqData, SetIrqs};

const INTX: u32 = 0;
const MSI: u32 = 1;
const MSIX: u32 = 2;
const ERR: u32 = 3;
const CONFIG: u32 = 7;

fn write(client: &mut Client, register: u64, value: u8) {
    client.region_write(0, register, &[value]).unwrap();
}

fn switch_off(client: &mut Client, index: u32) {
    set_irqs(client, IrqAction::Trigger, index, 0).unwrap();
}

/// Takes the eventfd of the first vector away.
fn take_away(client: &mut Client, index: u32) {
    let none = SetIrqs {
        index,
        start: 0,
        count: 1,
        action: IrqAction::Trigger,
        data: IrqData::Eventfd(vec![None]),
    };
    client.set_irqs(&none).unwrap();
}

/// Section 7, INTx: QEMU raises the line at a signal; at the guest's first access to a BAR it
/// lowers it and sends UNMASK, before that access arrives here.
#[test]
fn a_level_that_is_still_up_at_unmask_is_signalled_again() {
    let instance = Instance::new();
    let mut client = instance.client();
    let eventfd = new_eventfd();
    assign(&mut client, INTX, 0, &[eventfd.try_clone().unwrap()]).unwrap();
    write(&mut client, register::LEVEL, 1);
    assert_eq!(signals(&eventfd), 1);
    for _ in 0..3 {
        // The guest looks at the device, and has not yet done what makes it let go.
        set_irqs(&mut client, IrqAction::Unmask, INTX, 1).unwrap();
        client.region_read(0, register::MEMORY, &mut [0]).unwrap();
        assert_eq!(signals(&eventfd), 1);
    }
    write(&mut client, register::LEVEL, 0);
    set_irqs(&mut client, IrqAction::Unmask, INTX, 1).unwrap();
    assert_eq!(signals(&eventfd), 0);
    write(&mut client, register::LEVEL, 1);
    assert_eq!(signals(&eventfd), 1);
}

/// Bit 10 of the command register, as a guest uses it while it sets MSI-X up.
#[test]
fn a_guest_that_disables_intx_is_not_interrupted_until_it_enables_it() {
    let instance = Instance::new();
    let mut client = instance.client();
    let eventfd = new_eventfd();
    assign(&mut client, INTX, 0, &[eventfd.try_clone().unwrap()]).unwrap();
    let command = |client: &mut Client, bits: u16| {
        client.region_write(CONFIG, 4, &bits.to_le_bytes()).unwrap();
        signals(&eventfd)
    };
    assert_eq!(command(&mut client, 0x0406), 0);
    write(&mut client, register::LEVEL, 1);
    assert_eq!(command(&mut client, 0x0402), 0);
    let mut status = [0; 2];
    client.region_read(CONFIG, 6, &mut status).unwrap();
    assert_eq!(status[0] & 8, 8, "the pin wants to be asserted");
    assert_eq!(command(&mut client, 0x0002), 1);
}

/// Section 7, MSI-X: for each vector that the guest takes into use, everything is switched off
/// and all vectors so far are sent again, in messages of 16.
#[test]
fn an_msix_storm_ends_with_every_vector_at_its_place() {
    let instance = Instance::new();
    let mut client = instance.client();
    switch_off(&mut client, INTX);
    take_away(&mut client, MSIX);
    switch_off(&mut client, MSIX);
    let mut eventfds = Vec::new();
    for _ in 0..FakeDevice::MSIX {
        eventfds.push(new_eventfd());
        switch_off(&mut client, MSIX);
        for (chunk, start) in eventfds.chunks(16).zip((0..).step_by(16)) {
            assign(&mut client, MSIX, start, chunk).unwrap();
        }
        let newest = eventfds.len() - 1;
        write(&mut client, register::FIRE_MSIX, newest as u8);
        for (vector, eventfd) in eventfds.iter().enumerate() {
            assert_eq!(signals(eventfd), u64::from(vector == newest));
        }
    }
    switch_off(&mut client, MSIX);
    write(&mut client, register::FIRE_MSIX, 3);
    assert_eq!(signals(&eventfds[3]), 0);
}

/// Sections 1 and 9.
#[test]
fn the_error_interrupt_is_set_up_and_taken_away() {
    let instance = Instance::new();
    let mut client = instance.client();
    let info = client.irq_info(ERR).unwrap();
    assert_eq!(info.count, 1, "QEMU warns about a device without");
    let eventfd = new_eventfd();
    assign(&mut client, ERR, 0, &[eventfd.try_clone().unwrap()]).unwrap();
    client.reset().unwrap();
    take_away(&mut client, ERR);
    assert_eq!(signals(&eventfd), 0, "a signal would stop the machine");
}

#[test]
fn every_group_is_described() {
    let instance = Instance::new();
    let mut client = instance.client();
    for (index, flags, count) in [
        (INTX, 7, 1),
        (MSI, 9, 4),
        (MSIX, 9, 32),
        (ERR, 9, 1),
        (4, 9, 1),
    ] {
        let info = client.irq_info(index).unwrap();
        assert_eq!((info.flags.bits(), info.count), (flags, count), "{index}");
    }
}

#[test]
fn msi_signals_the_vector_that_fires() {
    let instance = Instance::new();
    let mut client = instance.client();
    let eventfds: Vec<_> = (0..4).map(|_| new_eventfd()).collect();
    assign(&mut client, MSI, 0, &eventfds).unwrap();
    for vector in 0..6_u8 {
        write(&mut client, register::FIRE_MSI, vector);
        for (other, eventfd) in eventfds.iter().enumerate() {
            assert_eq!(signals(eventfd), u64::from(other == usize::from(vector)));
        }
    }
}
