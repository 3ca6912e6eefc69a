//! VFIO's states over a session, and what each allows.

#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]

mod support;

use mdev::MediatedDevice;
use mdev::device::Reset;
use mdev::dma::AccessError;
use mdev::fake::{Event, register};
use mdev::mailbox::Gone;
use mdev::migration::snapshot;
use vfu::Errno;
use vfu::client::{Client, ClientError};
use vfu::wire::migration::{MigState, MigrationFlags};

use MigState::{PreCopy, Resuming, Running, Stop, StopCopy};
use support::{Instance, assign, new_eventfd, signals};

const CONFIG: u32 = 7;
/// The states that a client can take the device to.
const STATES: [MigState; 5] = [Running, Stop, StopCopy, Resuming, PreCopy];
/// What QEMU takes in one message.
const MAX_DATA: u32 = 1 << 20;

fn register_value(client: &mut Client) -> u8 {
    let mut value = [0];
    client.region_read(0, register::MEMORY, &mut value).unwrap();
    value[0]
}

fn set_register(client: &mut Client, value: u8) {
    client.region_write(0, register::MEMORY, &[value]).unwrap();
}

/// The state of a device with this in its register, taken at once.
fn snapshot(instance: &Instance) -> Vec<u8> {
    let save = |device: &mut dyn MediatedDevice| {
        let mut bytes = Vec::new();
        snapshot::save(device, &mut bytes).map(|()| bytes)
    };
    instance.mail.call(save).unwrap().unwrap()
}

fn restore(instance: &Instance, bytes: Vec<u8>) -> Result<bool, Gone> {
    let restore =
        move |device: &mut dyn MediatedDevice| snapshot::restore(device, &mut &bytes[..]).is_ok();
    instance.mail.call(restore)
}

fn read_all(client: &mut Client) -> Vec<u8> {
    let mut stream = Vec::new();
    loop {
        let read = client.mig_data_read(4000).unwrap();
        stream.extend(&read);
        if read.len() < 4000 {
            return stream;
        }
    }
}

fn is_invalid<T>(result: &Result<T, ClientError>) -> bool {
    matches!(result, Err(ClientError::Refused(Errno::INVAL)))
}

#[test]
fn every_pair_of_states_has_a_way_or_is_refused_as_specified() {
    let instance = Instance::new();
    let mut client = instance.client();
    let flags = client.migration_flags().unwrap();
    assert_eq!(flags, MigrationFlags::STOP_COPY | MigrationFlags::PRE_COPY);
    let stream = snapshot(&instance);
    // In the order of their numbers: ERROR, STOP, RUNNING, STOP_COPY, RESUMING, RUNNING_P2P,
    // PRE_COPY, PRE_COPY_P2P.
    for (from, ways) in [
        (Stop, "-yyyy-y-"),
        (Running, "-yyyy-y-"),
        (StopCopy, "-yyyy---"),
        (Resuming, "-yyyy-y-"),
        (PreCopy, "-yyyy-y-"),
    ] {
        for (to, way) in MigState::ALL.into_iter().zip(ways.chars()) {
            client.reset().unwrap();
            client.set_mig_state(from).unwrap();
            if from == Resuming && to != Resuming {
                client.mig_data_write(&stream).unwrap();
            }
            let result = client.set_mig_state(to);
            let there = if way == 'y' { to } else { from };
            assert_eq!(result.is_ok(), way == 'y', "{from:?} to {to:?}");
            assert_eq!(result.is_ok(), !is_invalid(&result), "{from:?} to {to:?}");
            assert_eq!(client.mig_state().unwrap(), there, "{from:?} to {to:?}");
        }
    }
}

#[test]
fn each_state_allows_its_own() {
    let instance = Instance::new();
    let mut client = instance.client();
    let stream = snapshot(&instance);
    for (state, is_read, is_written, serves) in [
        (Running, false, false, true),
        (Stop, false, false, false),
        (StopCopy, true, false, false),
        (Resuming, false, true, false),
        (PreCopy, true, false, true),
    ] {
        client.reset().unwrap();
        set_register(&mut client, 1);
        client.set_mig_state(state).unwrap();
        let read = client.mig_data_read(10);
        assert_eq!(read.is_ok(), is_read, "{state:?}");
        assert_eq!(is_invalid(&read), !is_read, "{state:?}");
        let written = client.mig_data_write(&stream);
        assert_eq!(written.is_ok(), is_written, "{state:?}");
        assert_eq!(is_invalid(&written), !is_written, "{state:?}");
        set_register(&mut client, 2);
        let expected = if serves { 2 } else { 0xff };
        assert_eq!(register_value(&mut client), expected, "{state:?}");
        let mut vendor = [0; 2];
        client.region_read(CONFIG, 0, &mut vendor).unwrap();
        assert_eq!(vendor, [0xfe, 0xff], "configuration space in {state:?}");
        assert_eq!(client.mig_state().unwrap(), state, "nothing else changed");
        client.set_mig_state(Stop).unwrap();
        client.set_mig_state(Running).unwrap();
        // The stream is that of a device as it was at first.
        let expected = match (serves, is_written) {
            (true, _) => 2,
            (_, true) => 0,
            _ => 1,
        };
        assert_eq!(register_value(&mut client), expected, "after {state:?}");
    }
}

#[test]
fn a_reset_and_the_clients_end_make_it_run_from_any_state() {
    let instance = Instance::new();
    for state in STATES {
        for resets in [true, false] {
            let mut client = instance.client();
            set_register(&mut client, 1);
            client.set_mig_state(state).unwrap();
            instance.log.take();
            let cause = if resets {
                client.reset().unwrap();
                Reset::Device
            } else {
                drop(client);
                client = instance.client();
                Reset::Close
            };
            let log = instance.log.take();
            assert_eq!(log, [Event::Reset(cause)], "{state:?}");
            assert_eq!(client.mig_state().unwrap(), Running, "{state:?}");
            assert_eq!(register_value(&mut client), 0, "{state:?}");
            set_register(&mut client, 3);
            assert_eq!(register_value(&mut client), 3, "{state:?}");
            assert!(client.mig_data_read(1).is_err(), "{state:?}");
            drop(client);
        }
    }
}

#[test]
fn a_function_level_reset_makes_it_run_too() {
    let instance = Instance::new();
    let mut client = instance.client();
    let (mut at, mut next) = ([0x34], [0; 2]);
    client.region_read(CONFIG, 0x34, &mut at).unwrap();
    while next[0] != 0x10 {
        client.region_read(CONFIG, at[0].into(), &mut next).unwrap();
        at[0] = if next[0] == 0x10 { at[0] } else { next[1] };
    }
    for state in STATES {
        client.set_mig_state(state).unwrap();
        let control = u64::from(at[0]) + 8;
        client.region_write(CONFIG, control, &[0, 0x80]).unwrap();
        assert_eq!(client.mig_state().unwrap(), Running, "{state:?}");
    }
}

#[test]
fn a_state_that_is_refused_leaves_the_device_in_resuming_to_be_sent_again() {
    let instance = Instance::new();
    let mut client = instance.client();
    set_register(&mut client, 1);
    let stream = snapshot(&instance);
    set_register(&mut client, 2);
    client.set_mig_state(Resuming).unwrap();
    assert!(is_invalid(&client.set_mig_state(Running)), "nothing came");
    client.mig_data_write(&stream[..stream.len() - 1]).unwrap();
    assert!(is_invalid(&client.set_mig_state(Stop)), "it is cut off");
    client.mig_data_write(&stream[..8]).unwrap();
    assert!(is_invalid(
        &client.mig_data_write(b"noise, and a lot of it")
    ));
    assert!(is_invalid(&client.mig_data_write(&stream[8..])));
    assert!(is_invalid(&client.set_mig_state(PreCopy)));
    assert_eq!(client.mig_state().unwrap(), Resuming);
    client.mig_data_write(&stream).unwrap();
    client.set_mig_state(Running).unwrap();
    assert_eq!(register_value(&mut client), 1);
}

#[test]
fn what_is_written_while_it_is_read_in_pre_copy_comes_along() {
    let (from, to) = (Instance::new(), Instance::new());
    let (mut source, mut target) = (from.client(), to.client());
    source.region_write(1, 0x5000, &[1; 16]).unwrap();
    source.set_mig_state(PreCopy).unwrap();
    let mut stream = read_all(&mut source);
    source.region_write(1, 0x5008, &[2; 16]).unwrap();
    source.region_write(2, 0x7ff0, &[3; 16]).unwrap();
    set_register(&mut source, 4);
    source.set_mig_state(StopCopy).unwrap();
    stream.extend(read_all(&mut source));
    target.set_mig_state(Resuming).unwrap();
    target.mig_data_write(&stream).unwrap();
    target.set_mig_state(Running).unwrap();
    for (region, at, expected) in [(1, 0x5000, 1), (1, 0x5008, 2), (2, 0x7ff0, 3)] {
        let mut data = [0; 8];
        target.region_read(region, at, &mut data).unwrap();
        assert_eq!(data, [expected; 8], "{at:#x} of {region}");
    }
    assert_eq!(register_value(&mut target), 4);
}

#[test]
fn data_of_migration_are_held_to_the_size_that_was_agreed_on() {
    let instance = Instance::new();
    let mut client = instance.client();
    client.set_mig_state(StopCopy).unwrap();
    assert!(client.mig_data_read(0).unwrap().is_empty());
    for size in [MAX_DATA + 1, u32::MAX - 8] {
        assert!(is_invalid(&client.mig_data_read(size)), "{size}");
    }
    let stream = client.mig_data_read(MAX_DATA).unwrap();
    assert_eq!(&stream[..8], b"vgpudst\n", "a refused read took nothing");
    assert!(client.mig_data_read(MAX_DATA).unwrap().is_empty());
    client.set_mig_state(Resuming).unwrap();
    let too_long = vec![0; MAX_DATA as usize + 1];
    assert!(is_invalid(&client.mig_data_write(&too_long)));
    client.mig_data_write(&[]).unwrap();
    client.mig_data_write(&stream).unwrap();
    client.set_mig_state(Running).unwrap();
}

/// A device whose guest has asserted the pin and set the command register to this; its state.
fn asserted(command: u16) -> Vec<u8> {
    let instance = Instance::new();
    let mut client = instance.client();
    client.region_write(0, register::LEVEL, &[1]).unwrap();
    let command = command.to_le_bytes();
    client.region_write(CONFIG, 4, &command).unwrap();
    snapshot(&instance)
}

fn is_bus_master(instance: &Instance) -> bool {
    !matches!(instance.memory.view(), Err(AccessError::NotBusMaster))
}

#[test]
fn a_restored_command_register_takes_effect_before_the_device_goes_on() {
    for (command, masters, interrupts) in [(0x002, false, 1), (0x006, true, 1), (0x406, true, 0)] {
        let stream = asserted(command);
        for at_once in [false, true] {
            let instance = Instance::new();
            let mut client = instance.client();
            let intx = new_eventfd();
            let theirs = [intx.try_clone().unwrap()];
            assign(&mut client, 0, 0, &theirs).unwrap();
            if at_once {
                assert_eq!(restore(&instance, stream.clone()), Ok(true));
            } else {
                client.set_mig_state(Resuming).unwrap();
                client.mig_data_write(&stream).unwrap();
                client.set_mig_state(Stop).unwrap();
                assert_eq!(signals(&intx), 0, "a stopped device does not interrupt");
                client.set_mig_state(Running).unwrap();
            }
            let words = format!("{command:#x}, at once: {at_once}");
            client.device_info().unwrap();
            assert_eq!(is_bus_master(&instance), masters, "{words}");
            assert_eq!(signals(&intx), interrupts, "{words}");
            client.region_write(CONFIG, 4, &[2, 0]).unwrap();
            assert_eq!(signals(&intx), 1 - interrupts, "{words}");
        }
    }
}

#[test]
fn a_state_that_was_put_in_before_the_client_came_is_what_it_finds() {
    let instance = Instance::new();
    assert_eq!(restore(&instance, asserted(0x006)), Ok(true));
    let mut client = instance.client();
    client.device_info().unwrap();
    assert!(is_bus_master(&instance));
    let intx = new_eventfd();
    let theirs = [intx.try_clone().unwrap()];
    assign(&mut client, 0, 0, &theirs).unwrap();
    assert_eq!(signals(&intx), 1);
    set_register(&mut client, 5);
    assert_eq!(register_value(&mut client), 5, "it runs");
}
