//! How seats come, go, and leave nothing.

use std::fs::File;
use std::os::fd::AsFd;

use ::worker::control::Control;
use ::worker::lending;
use ::worker::parking::Parking;
use ::worker::seat::{CONTAINER, DEVICE, GROUP};
use mdev::sched::lease::{GrantWords, Page, UsageWords};
use rustix::process::Signal;
use vfu::client::Client;

use crate::guest::{interrupt, loop_back, set_mode, transfer};
use crate::host::{Host, request, wait_closed};

#[test]
fn each_guest_has_its_own_device() {
    let host = Host::start(&[]);
    let (first, second) = (host.serve("a", "bochs-4m"), host.serve("b", "bochs-4m"));
    let (edu, serial) = (host.serve("c", "edu-1"), host.serve("d", "serial-1"));
    let (mut one, mut two) = (first.client(), second.client());
    set_mode(&mut one, 640, 480);
    set_mode(&mut two, 800, 600);
    let width = |control: Control| control.scanout(0).unwrap().geometry.width;
    assert_eq!(width(first.control()), 640);
    assert_eq!(width(second.control()), 800);
    let mut three = edu.client();
    transfer(&mut three);
    interrupt(&mut three);
    loop_back(&mut serial.client());
    let status = host.control().status().unwrap();
    assert_eq!((status.seats, status.connected), (Some(4), true));
    assert_eq!(status.type_name, "fake");
    let status = edu.control().status().unwrap();
    assert_eq!((status.seats, status.type_name.as_str()), (None, "edu-1"));
    assert_eq!(status.pid, host.child.id());
    host.stop();
}

#[test]
fn a_daemon_that_comes_later_gets_the_devices_files() {
    let host = Host::start(&[]);
    for _ in 0..2 {
        let (mut parking, theirs) = Parking::new().unwrap();
        host.control().adopt(theirs.as_fd()).unwrap();
        drop(theirs);
        parking.take_in().unwrap();
        let numbers: Vec<_> = parking.parked().keys().copied().collect();
        assert_eq!(numbers, [CONTAINER, GROUP, DEVICE]);
    }
    host.stop();
}

#[test]
fn a_seat_that_is_stopped_ends_alone_and_leaves_nothing() {
    let mut host = Host::start(&["--parent-setting", "places=2"]);
    let stays = host.serve("stays", "edu-1");
    let mut client = stays.client();
    let _watches = stays.control();
    transfer(&mut client);
    // Two of the process, four of the seat, and one who asks it.
    host.wait_until("whoever asked is gone", |host| host.counts().0 == 7);
    let before = host.counts();
    for round in 0..10 {
        let mut goes = host.serve(&format!("goes{round}"), "edu-1");
        let mut other = goes.client();
        transfer(&mut other);
        let (control, silent) = (goes.control(), goes.connect());
        goes.control().stop().unwrap();
        goes.wait_end();
        wait_closed(&control);
        assert!(other.device_info().is_err());
        drop(silent);
        transfer(&mut client);
        assert_eq!(host.control().status().unwrap().seats, Some(1));
    }
    host.wait_counts(before);
    host.stop();
}

#[test]
fn a_seat_ends_while_others_ask_it_and_watch_it() {
    let host = Host::start(&[]);
    let mut seat = host.serve("a", "bochs-4m");
    let askers: Vec<Control> = (0..10).map(|_| seat.control()).collect();
    for asker in &askers {
        asker.watch(0).unwrap();
    }
    seat.control().stop().unwrap();
    seat.wait_end();
    for asker in &askers {
        assert!(asker.scanout(0).is_err());
    }
    host.stop();
}

/// After a crash all of them are asked for at once.
#[test]
fn many_seats_are_asked_for_at_a_time() {
    let host = Host::start(&[]);
    let askers: Vec<Control> = (0..20).map(|_| host.control()).collect();
    for asker in &askers {
        asker.status().unwrap();
    }
    let seats: Vec<_> = (0..20)
        .map(|number| host.serve(&number.to_string(), "serial-1"))
        .collect();
    for asker in &askers {
        assert_eq!(asker.status().unwrap().seats, Some(20));
    }
    for seat in &seats {
        loop_back(&mut seat.client());
    }
    host.stop();
}

/// Its client has left, its seat has not: the next one finds the device as new.
#[test]
fn clients_of_a_seat_come_and_go() {
    let mut host = Host::start(&[]);
    let seat = host.serve("a", "serial-1");
    for _ in 0..10 {
        loop_back(&mut seat.client());
        host.wait_until("it has left", |_| {
            !seat.control().status().unwrap().connected
        });
    }
    assert_eq!(seat.control().status().unwrap().counters.sessions, 10);
    host.stop();
}

#[test]
fn time_is_granted_to_each_seat_and_its_end_is_told_to_who_grants() {
    let host = Host::start(&[]);
    let mut request = request("edu-1", &[]);
    request.leased = true;
    let mut seat = host.try_serve("a", &request).unwrap();
    let grant = Page::<GrantWords>::new().unwrap();
    let usage = Page::<UsageWords>::new().unwrap();
    let (ours, theirs) = lending::offer(&grant, &usage).unwrap();
    let other = host.serve("b", "edu-1");
    assert!(
        other
            .control()
            .lend(ours.try_clone().unwrap().as_fd())
            .is_err()
    );
    seat.control().lend(theirs.as_fd()).unwrap();
    drop(theirs);
    seat.control().stop().unwrap();
    seat.wait_end();
    // Perhaps behind a word about its jobs.
    wait_closed(&ours);
    host.stop();
}

#[test]
fn all_end_with_the_worker_that_is_told_to_or_gets_a_signal() {
    for signal in [None, Some(Signal::TERM), Some(Signal::INT)] {
        let mut host = Host::start(&[]);
        let mut seats = [host.serve("a", "edu-1"), host.serve("b", "gpu-2d-hd")];
        let mut clients: Vec<Client> = seats.iter().map(|seat| seat.client()).collect();
        match signal {
            None => host.control().stop().unwrap(),
            Some(signal) => host.kill(signal),
        }
        assert!(host.end().success(), "{}", host.log());
        seats.iter_mut().for_each(|seat| seat.wait_end());
        assert!(clients.iter_mut().all(|it| it.device_info().is_err()));
    }
}

#[test]
fn a_worker_can_be_started_with_one_vgpu_on_the_device() {
    let dir = tempfile::tempdir().unwrap();
    let log = File::create(dir.path().join("log")).unwrap();
    let mut child = crate::host::command(dir.path())
        .args(["--type", "serial-1", "--socket-path", "sock"])
        .args(["--control", "control", "--parent-setting", "places=1"])
        .stderr(log)
        .spawn()
        .unwrap();
    let control = dir.path().join("control");
    let begun = std::time::Instant::now();
    let connected = loop {
        match Control::connect(&control) {
            Ok(control) => break control,
            Err(_) => assert!(begun.elapsed() < crate::host::DEADLINE),
        }
    };
    let mut client = Client::connect(&dir.path().join("sock")).unwrap();
    loop_back(&mut client);
    connected.stop().unwrap();
    assert!(child.wait().unwrap().success());
    assert!(!control.exists() && !dir.path().join("sock").exists());
}
