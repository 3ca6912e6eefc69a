//! Saved and restored: what is under way is done once, and all that a guest sees comes along.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use vfu::client::{Client, ClientError};
use vfu::wire::Command;
use vfu::wire::feature::{Feature, FeatureFlags, FeatureHead};
use vfu::wire::irq::{IrqAction, IrqData, SetIrqs};
use vfu::wire::migration::{MigDataRead, MigDataWrite, MigState};

use super::guest::{COMMAND, CONFIG, Guest, Instance, PAGE, Ram, pattern};
use super::messages::{LIMIT, WAITS, waiting_for};
use super::vmm::Vmm;
use crate::edu::registers::{Register, cause, command, status};
use crate::edu::transfer::BUFFER;

const INTX: u32 = 0;
const MSI: u32 = 1;

fn set_state(vmm: &mut Vmm, state: MigState) {
    let head = FeatureHead {
        argsz: 16,
        feature: Feature::MigDeviceState,
        flags: FeatureFlags::SET,
    };
    vmm.call(Command::DeviceFeature, |out| {
        head.emit(out);
        state.emit(out);
    });
}

fn save(client: &mut Client) -> Vec<u8> {
    client.set_mig_state(MigState::StopCopy).unwrap();
    client.mig_data_read(1 << 20).unwrap()
}

fn restore(client: &mut Client, stream: &[u8]) -> Result<(), ClientError> {
    client.set_mig_state(MigState::Resuming)?;
    client.mig_data_write(stream)?;
    client.set_mig_state(MigState::Running)
}

/// Eventfds, and what gives them to the first vectors of a group.
fn eventfds(index: u32, count: u32) -> (Vec<OwnedFd>, SetIrqs<'static>) {
    let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
    let ours: Vec<_> = (0..count).map(|_| eventfd(0, flags).unwrap()).collect();
    let theirs = ours.iter().map(|fd| Some(fd.try_clone().unwrap()));
    let set = SetIrqs {
        index,
        start: 0,
        count,
        action: IrqAction::Trigger,
        data: IrqData::Eventfd(theirs.collect()),
    };
    (ours, set)
}

fn signals(eventfd: &OwnedFd) -> u64 {
    let mut count = [0; 8];
    match rustix::io::read(eventfd, &mut count) {
        Ok(_) => u64::from_ne_bytes(count),
        Err(Errno::AGAIN) => 0,
        Err(error) => panic!("{error}"),
    }
}

/// A VMM with memory that has no file, and an eventfd for the pin.
fn vmm_with_pin(instance: &Instance) -> (Vmm, OwnedFd) {
    let mut vmm = Vmm::new(instance);
    vmm.map(0, PAGE, None);
    let (mut ours, set) = eventfds(INTX, 1);
    let IrqData::Eventfd(theirs) = &set.data else {
        panic!("they are eventfds");
    };
    let fds: Vec<_> = theirs.iter().flatten().map(AsFd::as_fd).collect();
    vmm.call_with(Command::DeviceSetIrqs, &fds, |out| set.emit(out));
    (vmm, ours.remove(0))
}

/// A transfer was under way: it ends well, and looks as if it had never been stopped.
fn ends_once(vmm: &mut Vmm, pin: &OwnedFd, ram: &[u8], to_ram: bool) {
    vmm.ram[..ram.len()].copy_from_slice(ram);
    vmm.is_silent = false;
    assert_eq!(vmm.finish(), None);
    assert_eq!(vmm.read(Register::DmaFailures), 0);
    while vmm.read_narrow(Register::InterruptStatus) != cause::DMA {}
    assert_eq!(signals(pin), 1);
    if to_ram {
        assert!(vmm.ram[..PAGE as usize].iter().all(|byte| *byte == 0));
        return;
    }
    vmm.ram.fill(0);
    vmm.start(BUFFER, 0, PAGE, command::TO_RAM);
    assert_eq!(vmm.finish(), None);
    assert_eq!(&vmm.ram[..ram.len()], ram);
}

#[test]
fn a_transfer_that_waits_for_a_silent_client_is_done_once_wherever_it_goes_on() {
    let bytes = pattern(9, PAGE);
    for to_ram in [false, true] {
        let (source, to, flags) = match to_ram {
            true => (BUFFER, 0, command::TO_RAM | command::INTERRUPT),
            false => (0, BUFFER, command::INTERRUPT),
        };
        let (here, there) = (Instance::new(&[]), Instance::new(&[]));
        let (mut vmm, pin) = vmm_with_pin(&here);
        vmm.start_silently(source, to, PAGE, flags);
        set_state(&mut vmm, MigState::StopCopy);
        let read = MigDataRead { size: 1 << 16 };
        let reply = vmm.call(Command::MigDataRead, |out| read.emit(out));
        let stream = MigDataRead::parse_reply(&reply).unwrap();
        assert_eq!(signals(&pin), 0);

        let (mut other, other_pin) = vmm_with_pin(&there);
        // What it may is in the state: it has to be known before the transfer is begun.
        other.region_write(CONFIG, COMMAND, &[0, 0]);
        set_state(&mut other, MigState::Resuming);
        let write = MigDataWrite { data: stream };
        other.call(Command::MigDataWrite, |out| write.emit(out));
        other.is_silent = true;
        set_state(&mut other, MigState::Running);
        ends_once(&mut other, &other_pin, &bytes, to_ram);

        set_state(&mut vmm, MigState::Running);
        ends_once(&mut vmm, &pin, &bytes, to_ram);
    }
}

#[test]
fn a_stop_waits_for_no_client_whatever_the_transfer_waits_for() {
    for wait in WAITS {
        let instance = Instance::new(&[]);
        let mut vmm = waiting_for(&instance, wait);
        let begin = Instant::now();
        set_state(&mut vmm, MigState::Stop);
        assert!(begin.elapsed() < LIMIT / 2, "{wait:?}");
        set_state(&mut vmm, MigState::Running);
        assert_ne!(vmm.read(Register::DmaCommand) & command::START, 0);
        vmm.is_silent = false;
        assert_eq!(vmm.finish(), None, "{wait:?}");
        assert_eq!(vmm.read(Register::DmaFailures), 0, "{wait:?}");
    }
}

#[test]
fn the_buffer_the_registers_and_the_level_of_the_pin_come_along() {
    let on = [("spin-register", "on")];
    let (here, there) = (Instance::new(&on), Instance::new(&on));
    let (mut guest, mut other) = (here.guest(), there.guest());
    let (ram, bytes) = (Ram::new(PAGE), pattern(8, PAGE));
    guest.map_rw(&ram, 0, PAGE);
    ram.write(0, &bytes);
    assert_eq!(guest.load(0, PAGE), None);
    assert_eq!(guest.load(0x5000, 4), Some(Errno::FAULT));
    guest.write(Register::Factorial, 6);
    guest.wait_until("the factorial is done", |guest| {
        guest.read(Register::Status) & status::COMPUTING == 0
    });
    guest.write(Register::Status, status::INTERRUPT_AFTER_FACTORIAL);
    guest.write(Register::Liveness, 0x1234_5678);
    guest.write(Register::InterruptRaise, 0x30);
    let stream = save(&mut guest.client);
    guest.client.set_mig_state(MigState::Running).unwrap();

    let (pins, set) = eventfds(INTX, 1);
    other.client.set_irqs(&set).unwrap();
    restore(&mut other.client, &stream).unwrap();
    assert_eq!(signals(&pins[0]), 1, "the pin is asserted");
    for register in Register::ALL {
        let is_readable = ![
            Register::InterruptRaise,
            Register::InterruptAcknowledge,
            Register::DmaDoorbell,
        ]
        .contains(&register);
        let (old, new) = (guest.read(register), other.read(register));
        assert!(
            old == new && is_readable == (old != u32::MAX),
            "{register:?}"
        );
    }
    other.map_rw(&ram, 0, PAGE);
    ram.write(0, &vec![0; PAGE as usize]);
    assert_eq!(other.store(0, PAGE), None);
    assert_eq!(ram.read(0, PAGE), bytes);
    other.write(Register::InterruptAcknowledge, u32::MAX);
    let stream = save(&mut other.client);
    restore(&mut guest.client, &stream).unwrap();
    assert_eq!(guest.read(Register::InterruptStatus), 0);
}

#[test]
fn a_state_of_a_device_with_another_mask_or_type_is_refused() {
    let instance = Instance::new(&[]);
    let stream = save(&mut instance.guest().client);
    for (name, mask) in [("edu-1", "27"), ("edu-1", "64"), ("edu-2", "28")] {
        let other = Instance::of(name, &[("dma-mask", mask)]);
        let refused = restore(&mut other.guest().client, &stream);
        let refused = matches!(refused, Err(ClientError::Refused(Errno::INVAL)));
        assert!(refused, "{name} with {mask}");
    }
    let same = Instance::new(&[("dma-mask", "28"), ("dma", "copy")]);
    restore(&mut same.guest().client, &stream).unwrap();
}

#[test]
fn the_doorbell_gives_the_last_command_again() {
    let instance = Instance::new(&[]);
    let mut guest = instance.guest();
    let ram = Ram::new(PAGE);
    guest.map_rw(&ram, 0, PAGE);
    let (_, bells) = guest.client.region_io_fds(0).unwrap();
    let ring = |guest: &mut Guest| {
        rustix::io::write(&bells[0], &1_u64.to_ne_bytes()).unwrap();
        // Which was heard before the device stops.
        guest.client.set_mig_state(MigState::Stop).unwrap();
        guest.client.set_mig_state(MigState::Running).unwrap();
    };
    ring(&mut guest);
    guest.write(Register::DmaDoorbell, 1);
    let (errno, failures) = (Register::DmaError, Register::DmaFailures);
    assert_eq!(
        (guest.read(errno), guest.read(failures)),
        (0, 0),
        "no command, no transfer"
    );
    guest.start_load(0, PAGE, command::INTERRUPT);
    for round in 1..4 {
        guest.wait_until("the transfer has interrupted", |guest| {
            guest.read(Register::InterruptStatus) == cause::DMA
        });
        guest.write(Register::InterruptAcknowledge, cause::DMA);
        let bytes = pattern(round, PAGE);
        ram.write(0, &bytes);
        ring(&mut guest);
        assert_eq!(guest.finish(), None);
    }
    guest.write(Register::InterruptAcknowledge, cause::DMA);
    ram.write(0, &[0; 8]);
    assert_eq!(guest.store(0, PAGE), None);
    assert_eq!(ram.read(0, PAGE), pattern(3, PAGE), "it was loaded anew");
}

#[test]
fn each_cause_has_its_vector_and_all_have_the_first_if_it_is_the_only_one() {
    for (count, expected) in [(4, [0, 1, 2]), (3, [0, 1, 2]), (1, [0, 0, 0])] {
        let instance = Instance::of("edu-2", &[]);
        let mut guest = instance.guest();
        let (vectors, set) = eventfds(MSI, count);
        guest.client.set_irqs(&set).unwrap();
        guest.write(Register::Status, status::INTERRUPT_AFTER_FACTORIAL);
        let all = [cause::FACTORIAL, cause::DMA, 0x40];
        for (causes, vector) in all.into_iter().zip(expected) {
            match causes {
                cause::FACTORIAL => guest.write(Register::Factorial, 5),
                cause::DMA => guest.start_load(0, 0, command::INTERRUPT),
                others => guest.write(Register::InterruptRaise, others),
            }
            guest.wait_until("it has interrupted", |guest| {
                guest.read(Register::InterruptStatus) == causes
            });
            guest.write(Register::InterruptAcknowledge, causes);
            let found: Vec<_> = vectors.iter().map(signals).collect();
            let only = |at| u64::from(at == vector);
            let expected: Vec<_> = (0..count).map(only).collect();
            assert_eq!(found, expected, "{causes:#x}, {count} vectors");
        }
    }
}
