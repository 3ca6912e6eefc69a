//! Registers that a client writes by an eventfd.

#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]

mod support;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use mdev::fake::{Event, FakeDevice};
use mdev::mailbox::{Mail, MailSender};
use mdev::polling::Polling;
use mdev::region::RegionIndex;
use rustix::fs::{OFlags, fcntl_setfl};
use vfu::Errno;
use vfu::client::{Client, ClientError};
use vfu::wire::Command;
use vfu::wire::access::RegionAccess;
use vfu::wire::io_fds::{IoEvent, IoEventFlags, RegionIoFds, RegionIoFdsRequest};
use vfu::wire::migration::MigState;

use support::{Instance, wait_until};

/// The region with the doorbell.
const BAR2: u32 = 2;

fn ring(bell: &OwnedFd) {
    assert_eq!(rustix::io::write(bell, &1_u64.to_ne_bytes()), Ok(8));
}

/// The one eventfd of the fake.
fn bell(client: &mut Client) -> OwnedFd {
    let (_, mut fds) = client.region_io_fds(BAR2).unwrap();
    assert_eq!(fds.len(), 1);
    fds.remove(0)
}

/// How often the register was written since the last look.
fn heard(instance: &Instance) -> usize {
    let value = FakeDevice::DOORBELL.datamatch.unwrap() as u32;
    let (at, data) = (FakeDevice::DOORBELL.offset, value.to_le_bytes().to_vec());
    let write = Event::Write(RegionIndex::Bar2, at, data);
    let events = instance.log.take();
    events.iter().filter(|event| **event == write).count()
}

/// Rings, and waits until it was heard.
fn ring_and_wait(instance: &Instance, bell: &OwnedFd) {
    ring(bell);
    wait_until("the doorbell was heard", || heard(instance) > 0);
}

#[test]
fn a_write_of_the_eventfd_is_a_write_of_the_register() {
    let instance = Instance::new();
    let mut client = instance.client();
    let (described, fds) = client.region_io_fds(BAR2).unwrap();
    let doorbell = FakeDevice::DOORBELL;
    let event = IoEvent {
        offset: doorbell.offset,
        size: doorbell.size.into(),
        fd_index: 0,
        flags: IoEventFlags::DATAMATCH,
        datamatch: doorbell.datamatch.unwrap(),
    };
    assert_eq!((described.index, described.events), (BAR2, vec![event]));
    for _ in 0..3 {
        ring(&fds[0]);
        wait_until("the doorbell was heard", || heard(&instance) == 1);
    }
    let mut value = [0; 4];
    client
        .region_read(BAR2, doorbell.offset, &mut value)
        .unwrap();
    assert_eq!(u64::from(u32::from_le_bytes(value)), event.datamatch);
}

#[test]
fn several_writes_come_as_at_least_one_after_the_last() {
    let instance = Instance::new();
    let mut client = instance.client();
    let bell = bell(&mut client);
    for count in [2, 1000] {
        heard(&instance);
        let mut sum = 0;
        for _ in 0..count {
            // By now all that came before is heard, or will be after this.
            sum = heard(&instance);
            ring(&bell);
        }
        wait_until("the last was heard", || {
            sum += heard(&instance);
            sum > 0
        });
        assert!(sum <= count, "{sum} of {count}");
    }
}

#[test]
fn a_doorbell_is_heard_while_the_client_floods_us_with_messages() {
    for polling in [Polling::Off, Polling::Fixed(Duration::from_secs(1))] {
        let instance = Instance::polling(polling);
        let mut client = instance.client();
        let bell = bell(&mut client);
        let is_over = Arc::new(AtomicBool::new(false));
        let flooding = Arc::clone(&is_over);
        let flood = thread::spawn(move || {
            let access = RegionAccess {
                offset: 0,
                region: 0,
                count: 1,
            };
            while !flooding.load(Ordering::Relaxed) {
                let emit = |out: &mut Vec<u8>| access.emit(out);
                client.post(Command::RegionRead, &[], emit).unwrap();
            }
        });
        for _ in 0..10 {
            ring_and_wait(&instance, &bell);
        }
        is_over.store(true, Ordering::Relaxed);
        flood.join().unwrap();
    }
}

/// Sends mail that sends the next: the mailbox is never empty when it is looked at.
fn flood_with_mail(mail: MailSender, is_over: Arc<AtomicBool>) {
    let sender = mail.clone();
    let call = Mail::Call(Box::new(move |_| {
        if !is_over.load(Ordering::Relaxed) {
            flood_with_mail(mail, is_over);
        }
    }));
    let _ = sender.send(call);
}

#[test]
fn a_doorbell_and_the_client_are_heard_while_mail_keeps_coming() {
    let instance = Instance::new();
    let mut client = instance.client();
    let bell = bell(&mut client);
    let is_over = Arc::new(AtomicBool::new(false));
    flood_with_mail(instance.mail.clone(), Arc::clone(&is_over));
    for _ in 0..10 {
        ring_and_wait(&instance, &bell);
        client.device_info().unwrap();
    }
    is_over.store(true, Ordering::Relaxed);
}

#[test]
fn what_was_rung_before_a_stop_belongs_to_the_state() {
    // While it looks for messages it does not look at the doorbells.
    let instance = Instance::polling(Polling::Fixed(Duration::from_millis(500)));
    let mut client = instance.client();
    let bell = bell(&mut client);
    for state in [MigState::Stop, MigState::StopCopy, MigState::Resuming] {
        client.device_info().unwrap();
        ring(&bell);
        client.set_mig_state(state).unwrap();
        assert_eq!(heard(&instance), 1, "{state:?}");
        client.reset().unwrap();
        heard(&instance);
    }
}

#[test]
fn the_next_client_gets_fresh_eventfds_and_the_old_ones_ring_nothing() {
    let instance = Instance::new();
    let mut client = instance.client();
    let old = bell(&mut client);
    let again = bell(&mut client);
    ring_and_wait(&instance, &again);
    ring_and_wait(&instance, &old);
    drop(client);
    let mut next = instance.client();
    ring(&old);
    let new = bell(&mut next);
    ring(&old);
    next.device_info().unwrap();
    assert_eq!(heard(&instance), 0);
    ring_and_wait(&instance, &new);
}

#[test]
fn a_client_without_room_gets_the_fixed_part_and_no_descriptor() {
    let instance = Instance::new();
    let mut client = instance.client();
    let whole = RegionIoFds::LEN + IoEvent::LEN;
    let mut ask = |argsz: usize| {
        let request = RegionIoFdsRequest {
            argsz: argsz as u32,
            index: BAR2,
        };
        client.call(Command::DeviceGetRegionIoFds, &[], |out| request.emit(out))
    };
    for argsz in [0, RegionIoFds::LEN - 1] {
        let refused = matches!(ask(argsz), Err(ClientError::Refused(Errno::INVAL)));
        assert!(refused, "{argsz}");
    }
    for argsz in [RegionIoFds::LEN, whole - 1] {
        let answer = ask(argsz).unwrap();
        assert_eq!(
            (answer.payload.len(), answer.fds.len()),
            (RegionIoFds::LEN, 0)
        );
        let needed = u32::from_ne_bytes(answer.payload[..4].try_into().unwrap());
        assert_eq!(needed as usize, whole);
    }
    let answer = ask(whole).unwrap();
    assert_eq!((answer.payload.len(), answer.fds.len()), (whole, 1));
}

#[test]
fn a_region_without_doorbells_has_none_and_one_that_is_not_there_is_refused() {
    let instance = Instance::new();
    let mut client = instance.client();
    for region in [0, 1, 3, 6, 7, 8] {
        let (described, fds) = client.region_io_fds(region).unwrap();
        assert_eq!((described.events.len(), fds.len()), (0, 0), "{region}");
    }
    for region in [9, u32::MAX] {
        let refused = client.region_io_fds(region).unwrap_err();
        assert!(
            matches!(refused, ClientError::Refused(Errno::INVAL)),
            "{region}"
        );
    }
}

#[test]
fn an_eventfd_that_would_block_its_reader_or_is_full_blocks_nobody() {
    let instance = Instance::new();
    let mut client = instance.client();
    let bell = bell(&mut client);
    fcntl_setfl(&bell, OFlags::empty()).unwrap();
    for _ in 0..3 {
        ring_and_wait(&instance, &bell);
        client.device_info().unwrap();
    }
    fcntl_setfl(&bell, OFlags::NONBLOCK).unwrap();
    let full = u64::MAX - 1 - 3;
    rustix::io::write(&bell, &full.to_ne_bytes()).unwrap();
    wait_until("it was heard", || heard(&instance) > 0);
    let more = rustix::io::write(&bell, &1_u64.to_ne_bytes());
    assert_eq!(more, Err(Errno::AGAIN), "nobody reads it");
    client.device_info().unwrap();
}
