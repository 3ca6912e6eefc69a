//! How another worker goes on with the seats of one that has died.

use ::worker::control::ControlError;
use ::worker::parking::{CLIENT, JOURNAL};
use rustix::process::Signal;

use crate::guest::{interrupt, loop_back, set_mode, transfer};
use crate::host::{Host, wait_closed};

#[test]
fn clients_of_all_seats_are_served_on_after_the_worker_was_killed() {
    let mut host = Host::start(&[]);
    let mut display = host.serve("display", "bochs-4m");
    let mut edu = host.serve("edu", "edu-1");
    let mut idle = host.serve("idle", "serial-1");
    let (mut painter, mut user) = (display.client(), edu.client());
    set_mode(&mut painter, 640, 480);
    transfer(&mut user);
    for _ in 0..3 {
        display.wait_parked(CLIENT);
        edu.wait_parked(CLIENT);
        idle.wait_parked(JOURNAL);
        host.kill(Signal::KILL);
        host.start_next();
        for (seat, connected) in [(&mut display, true), (&mut edu, true), (&mut idle, false)] {
            let outlook = host.recover(seat).unwrap();
            assert_eq!((outlook.connected, outlook.exact), (connected, true));
        }
        transfer(&mut user);
        interrupt(&mut user);
        painter.device_info().unwrap();
        let geometry = display.control().scanout(0).unwrap().geometry;
        assert_eq!((geometry.width, geometry.height), (640, 480));
        loop_back(&mut idle.client());
        host.wait_until("it has left", |_| {
            !idle.control().status().unwrap().connected
        });
    }
    assert_eq!(host.control().status().unwrap().seats, Some(3));
    host.stop();
}

#[test]
fn a_seat_that_nobody_can_go_on_with_is_refused_and_the_others_go_on() {
    let mut host = Host::start(&[]);
    let (mut good, mut bad) = (host.serve("good", "edu-1"), host.serve("bad", "edu-1"));
    let mut user = good.client();
    transfer(&mut user);
    good.wait_parked(CLIENT);
    bad.wait_parked(JOURNAL);
    host.kill(Signal::KILL);
    host.start_next();
    bad.lose();
    match host.recover(&mut bad) {
        Err(ControlError::Refused { errno, message }) => {
            assert_eq!(errno, "EPROTO", "{message}");
        }
        other => panic!("{other:?}"),
    }
    host.recover(&mut good).unwrap();
    transfer(&mut user);
    assert_eq!(host.control().status().unwrap().seats, Some(1));
    host.stop();
}

/// Whoever was to say the word may be too late, and try again.
#[test]
fn a_seat_that_is_not_told_to_go_on_leaves_all_to_the_next() {
    let mut host = Host::start(&["--parent-setting", "places=2"]);
    let mut edu = host.serve("edu", "edu-1");
    let mut idle = host.serve("idle", "bochs-4m");
    let mut user = edu.client();
    transfer(&mut user);
    edu.wait_parked(CLIENT);
    idle.wait_parked(JOURNAL);
    host.kill(Signal::KILL);
    host.start_next();
    for (others, seat) in [&mut edu, &mut idle].into_iter().enumerate() {
        if others > 0 {
            // The first one has all that it needs, and no more, once it has answered.
            user.device_info().unwrap();
        }
        // Two of the process, four of a seat.
        let threads = 2 + 4 * others;
        host.wait_until("whoever asked is gone", |host| host.counts().0 == threads);
        let before = (host.counts(), host.mapped_files());
        for _ in 0..3 {
            let (handing, outlook) = host.hand(seat).unwrap();
            assert!(outlook.exact);
            drop(handing);
            wait_closed(&seat.line);
            // Others are served there: it must not keep what was the client's.
            host.wait_counts(before.0);
            assert_eq!(host.mapped_files(), before.1);
        }
        assert!(host.recover(seat).unwrap().exact);
    }
    transfer(&mut user);
    interrupt(&mut user);
    set_mode(&mut idle.client(), 640, 480);
    host.stop();
}
