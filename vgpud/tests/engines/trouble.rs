//! Daemons and workers that are killed or stopped, jobs that do not end: the others go on.

use rustix::process::Signal;
use vgpud::api::{EngineState, EventKind};

use crate::hogs::{self, Hog};
use crate::support::{Daemon, Process, uuid, wait_for};
use crate::{create, engine_use, set};

fn pid(daemon: &Daemon, number: u128) -> u32 {
    daemon.client.instance(uuid(number)).unwrap().pid.unwrap()
}

#[test]
fn without_a_daemon_nobody_stops_and_the_next_one_goes_on() {
    let mut daemon = Daemon::start();
    create(&daemon, 1, &[]);
    create(&daemon, 2, &[("cap", "30")]);
    create(&daemon, 3, &[("stop", "on")]);
    let hogs = [1, 2].map(|number| Hog::start(&daemon, number, 200));
    let mut stopped = hogs::connect(&daemon, 3);
    hogs::spin(&mut stopped, 100);
    hogs.iter().for_each(|hog| hog.goes_on(20));
    daemon.kill();
    hogs.iter().for_each(|hog| hog.goes_on(100));
    daemon.start_again();
    hogs.iter().for_each(|hog| hog.goes_on(100));
    wait_for("all of them", || {
        let engine = daemon.client.engine("soft0").unwrap();
        (engine.clients.len() == 3).then_some(())
    });
    hogs.iter().for_each(|hog| hog.goes_on(100));
    assert_eq!(hogs::ended(&mut stopped), 0);
    let slices = daemon.client.engine_slices("soft0", 0).unwrap();
    assert!(!slices.is_empty());
    set(&daemon, 3, &[("stop", "off")]);
    wait_for("its job", || (hogs::ended(&mut stopped) == 1).then_some(()));
}

#[test]
fn a_worker_that_is_killed_or_stands_still_with_a_lease_holds_up_nobody() {
    let daemon = Daemon::start();
    create(&daemon, 1, &[]);
    create(&daemon, 2, &[]);
    // So long that it is within one when it is stopped.
    let mut first = hogs::connect(&daemon, 1);
    let other = Hog::start(&daemon, 2, 200);
    for _ in 0..4 {
        hogs::spin(&mut first, 500_000);
    }
    wait_for("a long job", || {
        (engine_use(&daemon, 1).state == EngineState::Running).then_some(())
    });
    let process = Process::open(pid(&daemon, 1));
    process.signal(Signal::STOP);
    other.goes_on(500);
    assert_eq!(engine_use(&daemon, 1).state, EngineState::Stuck);
    process.signal(Signal::CONT);
    wait_for("the rest", || {
        (hogs::waiting(&mut first) == 0).then_some(())
    });
    assert_eq!(hogs::ended(&mut first), 4);

    hogs::spin(&mut first, 1_000_000);
    wait_for("a long job", || {
        (engine_use(&daemon, 1).state == EngineState::Running).then_some(())
    });
    Process::open(pid(&daemon, 1)).kill();
    other.goes_on(500);
    // Another worker goes on with it, in its turn.
    wait_for("its end", || (hogs::waiting(&mut first) == 0).then_some(()));
    assert_eq!(hogs::ended(&mut first), 5);
}

#[test]
fn a_job_that_takes_too_long_is_ended_and_told() {
    let daemon = Daemon::start_with("[parents.soft0]\njob-limit-ms = 100");
    create(&daemon, 1, &[]);
    create(&daemon, 2, &[]);
    let mut first = hogs::connect(&daemon, 1);
    let other = Hog::start(&daemon, 2, 200);
    hogs::spin(&mut first, 10_000_000);
    let event = daemon.event(EventKind::Overlong);
    assert_eq!(event.instance, Some(uuid(1)));
    assert!(event.detail.contains("100 ms"), "{}", event.detail);
    other.goes_on(100);
    wait_for("its end", || (hogs::ended(&mut first) == 1).then_some(()));
    wait_for("its place", || {
        (engine_use(&daemon, 1).state == EngineState::Idle).then_some(())
    });
    assert_eq!(engine_use(&daemon, 1).overlong_jobs, 1);
    assert_eq!(daemon.client.instance(uuid(1)).unwrap().crashes, 0);
    // It may go on as before.
    hogs::spin(&mut first, 100);
    wait_for("another job", || {
        (hogs::ended(&mut first) == 2).then_some(())
    });
}

#[test]
fn an_upgrade_takes_the_settings_along_and_loses_no_job() {
    let daemon = Daemon::start();
    create(&daemon, 1, &[("reservation", "60")]);
    let hog = Hog::start(&daemon, 1, 200);
    hog.goes_on(20);
    daemon.client.upgrade(uuid(1)).unwrap();
    hog.goes_on(100);
    let engine_use = engine_use(&daemon, 1);
    assert_eq!(engine_use.settings.reservation_permille, Some(600));
}
