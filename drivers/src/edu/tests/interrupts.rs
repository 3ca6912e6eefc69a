//! Interrupts, counted at the VMM's eventfds.

use std::os::fd::OwnedFd;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use vfu::wire::irq::{IrqAction, IrqData, SetIrqs};

use super::guest::{CONFIG, Guest, Instance, PAGE, Ram};
use crate::edu::registers::{Register, cause, command, status};

const INTX: u32 = 0;
const MSI: u32 = 1;

/// Of the status register of configuration space.
const INTERRUPT_STATUS: u8 = 1 << 3;

/// An eventfd for the one vector of a group.
fn assign(guest: &mut Guest, index: u32) -> OwnedFd {
    let ours = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap();
    let theirs = ours.try_clone().unwrap();
    set_irqs(
        guest,
        index,
        IrqAction::Trigger,
        IrqData::Eventfd(vec![Some(theirs)]),
    );
    ours
}

fn set_irqs(guest: &mut Guest, index: u32, action: IrqAction, data: IrqData<'_>) {
    let set = SetIrqs {
        index,
        start: 0,
        count: 1,
        action,
        data,
    };
    guest.client.set_irqs(&set).unwrap();
}

/// How often it was signalled since the last look.
fn signals(eventfd: &OwnedFd) -> u64 {
    let mut count = [0; 8];
    match rustix::io::read(eventfd, &mut count) {
        Ok(_) => u64::from_ne_bytes(count),
        Err(Errno::AGAIN) => 0,
        Err(error) => panic!("{error}"),
    }
}

fn is_pin_asserted(guest: &mut Guest) -> bool {
    let mut status = [0; 2];
    guest.client.region_read(CONFIG, 6, &mut status).unwrap();
    status[0] & INTERRUPT_STATUS != 0
}

#[test]
fn intx_stays_asserted_until_every_cause_is_acknowledged() {
    let instance = Instance::new(&[]);
    let mut guest = instance.guest();
    let intx = assign(&mut guest, INTX);
    let unmask = |guest: &mut Guest| set_irqs(guest, INTX, IrqAction::Unmask, IrqData::None);
    guest.write(Register::InterruptRaise, 0x30);
    guest.write(Register::InterruptRaise, 0x01);
    assert_eq!(guest.read(Register::InterruptStatus), 0x31);
    assert_eq!(signals(&intx), 1, "it was raised, and is masked since");
    guest.write(Register::InterruptAcknowledge, 0x11);
    assert_eq!(guest.read(Register::InterruptStatus), 0x20);
    assert!(is_pin_asserted(&mut guest));
    unmask(&mut guest);
    assert_eq!(signals(&intx), 1, "a cause is left");
    guest.write(Register::InterruptAcknowledge, u32::MAX);
    assert_eq!(guest.read(Register::InterruptStatus), 0);
    assert!(!is_pin_asserted(&mut guest));
    unmask(&mut guest);
    assert_eq!(signals(&intx), 0);
    guest.write(Register::InterruptRaise, 0);
    assert_eq!(signals(&intx), 0, "no cause, no interrupt");
}

#[test]
fn with_msi_each_raise_is_a_message_and_the_pin_stays_low() {
    let instance = Instance::new(&[]);
    let mut guest = instance.guest();
    let (intx, msi) = (assign(&mut guest, INTX), assign(&mut guest, MSI));
    for causes in [0x01, 0x02, 0x02] {
        guest.write(Register::InterruptRaise, causes);
        assert_eq!((signals(&msi), signals(&intx)), (1, 0));
    }
    assert_eq!(guest.read(Register::InterruptStatus), 0x03);
    assert!(!is_pin_asserted(&mut guest));
    guest.write(Register::InterruptAcknowledge, 0x03);
    assert_eq!(guest.read(Register::InterruptStatus), 0);
    assert_eq!((signals(&msi), signals(&intx)), (0, 0));
}

/// Waits until this is what is pending.
fn wait_for(guest: &mut Guest, causes: u32) {
    guest.wait_until("the device has interrupted", |guest| {
        guest.read(Register::InterruptStatus) == causes
    });
}

#[test]
fn a_factorial_and_a_transfer_interrupt_once_if_they_are_asked_to() {
    for index in [INTX, MSI] {
        let instance = Instance::new(&[]);
        let mut guest = instance.guest();
        let eventfd = assign(&mut guest, index);
        let ram = Ram::new(PAGE);
        guest.map_rw(&ram, 0, PAGE);

        assert_eq!(guest.load(0, 8), None);
        guest.write(Register::Factorial, 5);
        guest.wait_until("the factorial is done", |guest| {
            guest.read(Register::Factorial) == 120
        });
        assert_eq!(
            guest.read(Register::InterruptStatus),
            0,
            "neither was asked to"
        );

        guest.write(Register::Status, status::INTERRUPT_AFTER_FACTORIAL);
        guest.write(Register::Factorial, 6);
        wait_for(&mut guest, cause::FACTORIAL);
        assert_eq!(
            (signals(&eventfd), guest.read(Register::Factorial)),
            (1, 720)
        );
        guest.write(Register::InterruptAcknowledge, cause::FACTORIAL);
        if index == INTX {
            set_irqs(&mut guest, INTX, IrqAction::Unmask, IrqData::None);
        }

        for ram in [0, 0x5000] {
            guest.start_store(ram, 8, command::INTERRUPT);
            wait_for(&mut guest, cause::DMA);
            assert_eq!(signals(&eventfd), 1, "whether or not it could be done");
            let ended = u64::from(guest.read(Register::DmaCommand));
            assert_eq!(ended, command::TO_RAM | command::INTERRUPT);
            guest.write(Register::InterruptAcknowledge, cause::DMA);
            if index == INTX {
                set_irqs(&mut guest, INTX, IrqAction::Unmask, IrqData::None);
            }
        }
        assert_eq!(signals(&eventfd), 0);
    }
}

#[test]
fn a_reset_lowers_the_pin() {
    let instance = Instance::new(&[]);
    let mut guest = instance.guest();
    let _intx = assign(&mut guest, INTX);
    guest.write(Register::InterruptRaise, 1);
    assert!(is_pin_asserted(&mut guest));
    guest.client.reset().unwrap();
    assert!(!is_pin_asserted(&mut guest));
    assert_eq!(guest.read(Register::InterruptStatus), 0);
}
