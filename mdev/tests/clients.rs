//! One client after the other: who is served, who is refused, and what is left of one that went.

mod support;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use mdev::device::Reset;
use mdev::fake::{Event, register};
use mdev::instance::Clients;
use mdev::mailbox::{Gone, Mail, MailSender};
use support::raw::{Outcome, Raw, access, header, message};
use support::{Instance, PATIENCE, assign, memfd, new_eventfd, signals, wait_until};
use vfu::Errno;
use vfu::wire::dma::{DmaFlags, DmaMap};

const PAGE: u64 = 4096;

/// What a client is told whose VERSION is here before anybody has a look at it.
fn greeting(instance: &Instance) -> Outcome {
    let mut raw = Raw::new(instance.connect_with(&message(0, 1, &[0; 4])));
    let (_, outcome) = raw.receive();
    outcome
}

#[test]
fn while_one_client_lives_another_is_refused_and_disturbs_nothing() {
    let instance = Instance::new();
    let mut first = instance.client();
    for _ in 0..3 {
        assert_eq!(greeting(&instance), Outcome::Refused(Errno::BUSY));
        assert!(instance.try_client().is_err());
    }
    first.region_write(0, register::MEMORY, &[1]).unwrap();
    assert_eq!(instance.metrics.refused_clients.value(), 6);
    assert_eq!(instance.metrics.sessions.value(), 1);
}

#[test]
fn a_client_that_comes_while_another_streams_is_refused_at_once() {
    let instance = Instance::new();
    let first = instance.raw();
    let posted = [&header(1, 10, 33, 1 << 4)[..], &access(8, 0, 1, &[1])].concat();
    let many = posted.repeat(100);
    thread::scope(|scope| {
        scope.spawn(|| {
            while instance.metrics.refused_clients.value() == 0 {
                first.send(&many, &[]);
            }
        });
        assert_eq!(greeting(&instance), Outcome::Refused(Errno::BUSY));
    });
}

#[test]
fn the_next_client_is_served_once_the_first_has_gone() {
    let instance = Instance::new();
    for round in 1..=20 {
        let mut client = instance.client();
        let mut data = [0xff];
        client.region_read(0, register::MEMORY, &mut data).unwrap();
        assert_eq!(data, [0], "as new");
        client.region_write(0, register::MEMORY, &[round]).unwrap();
        // Gone, perhaps before the device has seen it.
        drop(client);
    }
    assert_eq!(instance.metrics.sessions.value(), 20);
    assert_eq!(instance.metrics.refused_clients.value(), 0);
}

/// The device is kept busy, so that it finds the end of one client and the other at once.
#[test]
fn the_next_client_is_served_though_the_end_of_the_first_was_not_read() {
    let instance = Instance::new();
    for how in [
        "idle",
        "with requests under way",
        "in the middle of a message",
    ] {
        let first = instance.raw();
        let (release, released) = std::sync::mpsc::channel();
        let mail = Mail::Call(Box::new(move |_| released.recv().unwrap()));
        instance.mail.send(mail).unwrap();
        match how {
            "with requests under way" => {
                first.send(&message(1, 10, &access(8, 0, 1, &[1])).repeat(1000), &[]);
            }
            "in the middle of a message" => first.send(&message(1, 13, &[])[..15], &[]),
            _ => {}
        }
        drop(first);
        let next = instance.connect();
        release.send(()).unwrap();
        let mut next = Raw::new(next);
        next.agree();
        assert!(next.is_in_step(), "{how}");
    }
    assert_eq!(instance.metrics.refused_clients.value(), 0);
}

#[test]
fn nothing_is_left_of_a_client_that_went() {
    let instance = Instance::new();
    let mut client = instance.client();
    let (memory, eventfd) = (memfd(PAGE), new_eventfd());
    let map = DmaMap {
        flags: DmaFlags::READ,
        offset: 0,
        iova: 0,
        size: PAGE,
    };
    client.dma_map(&map, Some(memory.as_fd())).unwrap();
    assign(&mut client, 0, 0, &[eventfd.try_clone().unwrap()]).unwrap();
    let (_, fds) = client.region_info(1).unwrap();
    rustix::io::pwrite(&fds[0], b"secret", 0).unwrap();
    instance.log.take();
    drop(client);
    let mut next = instance.client();
    assert_eq!(instance.log.take(), [Event::Reset(Reset::Close)]);
    next.dma_map(&map, None).unwrap();
    next.region_write(0, register::LEVEL, &[1]).unwrap();
    assert_eq!(signals(&eventfd), 0);
    // The old file is still the first client's; the next one has another.
    let mut seen = [0xff; 6];
    next.region_read(1, 0, &mut seen).unwrap();
    assert_eq!(seen, [0; 6]);
    rustix::io::pwrite(&fds[0], b"later!", 0).unwrap();
    next.region_read(1, 0, &mut seen).unwrap();
    assert_eq!(seen, [0; 6]);
}

#[test]
fn a_client_that_goes_silent_loses_its_place() {
    // Before VERSION, and in the middle of it.
    let version = message(0, 1, &[0; 4]);
    let early = [0, 1, 15, 16, 19].map(|len| (false, &version[..len]));
    // In a later message.
    let write = message(0, 10, &access(0, 0, 16, &[0; 16]));
    let late = [1, 15, 16, 40].map(|len| (true, &write[..len]));
    thread::scope(|scope| {
        for (agrees, bytes) in early.into_iter().chain(late) {
            scope.spawn(move || {
                let instance = Instance::impatient();
                let mut raw = Raw::new(instance.connect());
                if agrees {
                    raw.agree();
                }
                raw.send(bytes, &[]);
                assert_eq!(raw.receive().1, Outcome::Closed, "{bytes:?}");
                assert!(instance.raw().is_in_step());
            });
        }
    });
}

#[test]
fn neither_calls_nor_single_bytes_give_a_silent_client_more_time() {
    let instance = Instance::impatient();
    let raw = Raw::new(instance.connect());
    let long = message(0, 1, &[0; 4000]);
    let mut bytes = long.chunks(1);
    wait_until("the silent client lost its place", || {
        instance.mail.call(|_| ()).unwrap();
        raw.send(bytes.next().expect("it has more time than it should"), &[]);
        let resets = instance.metrics.resets.value();
        resets == 1
    });
}

#[test]
fn a_client_that_owes_nothing_may_be_silent_for_long() {
    let instance = Instance::impatient();
    let mut raw = instance.raw();
    for _ in 0..2 {
        thread::sleep(PATIENCE + PATIENCE / 4);
        // In two parts, which come soon enough.
        let (front, rest) = (&message(1, 13, &[])[..8], &message(1, 13, &[])[8..]);
        raw.send(front, &[]);
        thread::sleep(PATIENCE / 20);
        raw.send(rest, &[]);
        assert_eq!(raw.receive().1, Outcome::Success(vec![]));
    }
}

#[test]
fn a_client_that_is_always_in_the_middle_of_a_message_is_served() {
    let instance = Instance::impatient();
    let mut raw = instance.raw();
    let reset = message(1, 13, &[]);
    let (front, rest) = reset.split_at(8);
    raw.send(front, &[]);
    for _ in 0..30 {
        thread::sleep(PATIENCE / 10);
        raw.send(&[rest, front].concat(), &[]);
        assert_eq!(raw.receive().1, Outcome::Success(vec![]));
    }
}

#[test]
fn calls_reach_the_device_with_and_without_a_client() {
    let instance = Instance::new();
    let config_size = || instance.mail.call(|device| device.config().size());
    assert_eq!(config_size(), Ok(4096));
    let mut client = instance.client();
    assert_eq!(config_size(), Ok(4096));
    client.reset().unwrap();
    drop(client);
    assert_eq!(config_size(), Ok(4096));
}

/// A call that leaves itself as the next one, until it is told to end.
fn endless(mail: MailSender, end: Arc<AtomicBool>) -> Mail {
    Mail::Call(Box::new(move |_| {
        if !end.load(Relaxed) {
            let _ = mail.clone().send(endless(mail, end));
        }
    }))
}

#[test]
fn mail_without_end_does_not_hold_up_the_client() {
    let instance = Instance::new();
    let mut raw = instance.raw();
    let end = Arc::new(AtomicBool::new(false));
    let call = endless(instance.mail.clone(), Arc::clone(&end));
    instance.mail.send(call).unwrap();
    for _ in 0..100 {
        assert!(raw.is_in_step());
    }
    end.store(true, Relaxed);
}

#[test]
fn an_order_to_stop_ends_the_session_and_the_instance() {
    let instance = Instance::new();
    let mut raw = instance.raw();
    let mail = instance.mail.clone();
    mail.send(Mail::Stop).unwrap();
    assert_eq!(raw.receive().1, Outcome::Closed);
    assert_eq!(instance.join(), Ok(()));
    assert_eq!(mail.call(|_| ()), Err(Gone));
}

#[test]
fn an_instance_for_one_client_ends_with_it() {
    let instance = Instance::all_trapped(Clients::One);
    let client = instance.client();
    let log = instance.log.clone();
    drop(client);
    assert_eq!(instance.join(), Ok(()));
    assert_eq!(log.take(), [Event::Reset(Reset::Close)]);
}

#[test]
fn whether_a_client_is_connected_can_be_seen() {
    let instance = Instance::new();
    let metrics = &instance.metrics;
    assert!(!metrics.connected.load(Relaxed));
    let client = instance.client();
    assert!(metrics.connected.load(Relaxed));
    drop(client);
    wait_until("the client is gone", || !metrics.connected.load(Relaxed));
}
