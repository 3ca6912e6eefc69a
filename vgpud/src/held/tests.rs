//! Seats in a worker that is played.

use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use uuid::Uuid;

use super::played::{LIMIT, PARENT, Rig};
use super::*;
use crate::worker_process::exit::SUCCESSION;
use crate::worker_process::identity;

#[test]
fn a_seat_that_ends_alone_is_told_from_the_end_of_its_process() {
    let mut rig = Rig::new();
    let (one, two) = (rig.launch("one").unwrap(), rig.launch("two").unwrap());
    assert_eq!(one.identity.pid, rig.child.id());
    assert!(!one.life.has_ended_within(Duration::ZERO));
    rig.end_seat("one");
    assert!(one.life.has_ended_within(LIMIT));
    assert!(!two.life.has_ended_within(Duration::ZERO));
    let exit = one.life.reap(&one.log);
    assert_eq!((exit.signal, exit.code), (None, None));
    assert!(exit.reason.contains("goes on"), "{}", exit.reason);

    // Not by any signal but the one that ends them all.
    two.life.signal(Signal::TERM);
    assert!(rig.child.try_wait().unwrap().is_none());
    two.life.signal(Signal::KILL);
    rig.end_played();
    assert!(two.life.has_ended_within(LIMIT));
    let exit = two.life.reap(&two.log);
    assert_eq!(exit.signal, Some(9), "{}", exit.reason);
    // It is reaped once, and told to each.
    assert_eq!(one.life.reap(&one.log).signal, Some(9));
}

#[test]
fn who_asks_for_a_seat_after_the_process_died_has_another_started() {
    let rig = Rig::new();
    let worker = rig.launch("one").unwrap();
    worker.life.signal(Signal::KILL);
    rig.end_played();
    let mut expected = rig.files();
    let mut plan = rig.plan("two");
    plan.name = Uuid::from_u128(2).into();
    let refused = rig.launcher.launch(&plan).unwrap_err().to_string();
    // There is no program here that would.
    assert!(refused.contains("start /nonexistent"), "{refused}");
    // Of the one that failed there is what it may have said.
    expected.remove(&format!("{PARENT}.control"));
    expected.insert(format!("{PARENT}.log"));
    assert_eq!(rig.files(), expected);
}

#[test]
fn who_waited_while_a_worker_did_not_start_does_not_start_another() {
    let mut rig = Rig::new();
    rig.child.kill().unwrap();
    rig.end_played();
    // It ends at once.
    rig.launcher.program = "/bin/false".into();
    let device = rig.plan("one").seat.unwrap().device;
    let log = rig.launcher.paths.device_log(PARENT);
    // All but the first say so there.
    let starts = || {
        let text = std::fs::read_to_string(&log).unwrap();
        text.matches(SUCCESSION).count()
    };
    let before = rig.device.failures();
    let first = rig.device.worker(&rig.launcher, &device).unwrap_err();
    let waited = rig.device.worker_since(before, &rig.launcher, &device);
    assert_eq!(waited.unwrap_err().to_string(), first.to_string());
    assert_eq!(starts(), 0);
    rig.device.worker(&rig.launcher, &device).unwrap_err();
    assert_eq!(starts(), 1);
}

#[test]
fn the_files_of_a_device_are_asked_for_again() {
    let rig = Rig::new();
    let process = rig.device.process().unwrap();
    assert!(!rig.device.take_files_again(&process));
    // As if it had been too slow.
    rig.device.state().files = None;
    assert!(rig.device.take_files_again(&process));
    assert!(rig.device.state().files.is_some());
    // Another one's are not this device's any more.
    rig.device.state().files = None;
    assert!(!rig.device.take_files_again(&Arc::new(rig.process())));
}

#[test]
fn a_seat_that_is_refused_leaves_nothing_and_says_why() {
    let rig = Rig::new();
    let before = rig.files();
    for (type_name, errno, status, words) in [
        (
            "EINVAL:no such attribute",
            "EINVAL",
            422,
            "no such attribute",
        ),
        ("ENOMEM:no lock", "ENOMEM", 409, "no lock"),
        ("EUSERS:no room", "EUSERS", 409, "no room"),
        ("ENOSPC:no slice", "ENOSPC", 409, "no slice"),
    ] {
        let refused = rig.launch(type_name).unwrap_err();
        assert_eq!((refused.errno(), refused.status()), (errno, status));
        assert!(refused.to_string().contains(words), "{refused}");
    }
    assert_eq!(rig.files(), before);
    assert_eq!(rig.played.lock().unwrap().serves, 4);
}

#[test]
fn a_device_is_given_back_once_nobody_uses_it() {
    let mut rig = Rig::new();
    rig.device.give_back(|| true);
    assert!(rig.device.process().is_some());
    assert!(!rig.played.lock().unwrap().is_stopped);
    // Asked to stop, it goes, and is not told to by a signal: it would not be told that it was asked.
    let (pid, played) = (rig.child.id(), Arc::clone(&rig.played));
    let ending = thread::spawn(move || {
        for _ in 0..LIMIT.as_millis() {
            if played.lock().unwrap().is_stopped {
                let pidfd = identity::open_pid(pid).unwrap();
                // By one that nobody else sends, and that nohup(1) leaves as it is.
                return rustix::process::pidfd_send_signal(pidfd, Signal::USR1).unwrap();
            }
            thread::sleep(Duration::from_millis(1));
        }
    });
    let process = rig.device.process().unwrap();
    rig.device.give_back(|| false);
    ending.join().unwrap();
    let signal = rig.device.reap(&process).signal;
    assert_eq!(signal, Some(Signal::USR1.as_raw()));
    assert!(rig.device.process().is_none());
    assert!(rig.child.try_wait().is_err() || rig.child.try_wait().unwrap().is_some());
    assert!(!rig.launcher.paths.device_control(PARENT).exists());
}
