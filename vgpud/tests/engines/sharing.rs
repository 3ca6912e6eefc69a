//! Who has how much. The rules of shares are tested in virtual time (`mdev/tests/scheduler`), and
//! measured by `./x bench -- shares`; here bounds are wide, since the machine may be busy.

use std::thread;
use std::time::Duration;

use vgpud::api::{EngineState, Policy};

use crate::hogs::{self, Hog};
use crate::support::{Daemon, uuid, wait_for};
use crate::{create, engine_use, set};

/// Long beside a lease.
const A_WHILE: Duration = Duration::from_millis(600);

/// So long that what waits lasts, should the thread that hands in more be kept from it for a while.
const JOB_US: u32 = 1000;

/// What each has used in a while, in nanoseconds.
fn used_in_a_while<const N: usize>(daemon: &Daemon, numbers: [u128; N]) -> [u64; N] {
    let used = || numbers.map(|number| engine_use(daemon, number).used_ns);
    let before = used();
    thread::sleep(A_WHILE);
    let after = used();
    std::array::from_fn(|place| after[place] - before[place])
}

#[test]
fn weights_divide_an_engine_and_are_changed_live() {
    let daemon = Daemon::start();
    create(&daemon, 1, &[("weight", "300")]);
    create(&daemon, 2, &[]);
    let hogs = [1, 2].map(|number| Hog::start(&daemon, number, JOB_US));
    hogs.iter().for_each(|hog| hog.goes_on(20));
    let [first, second] = used_in_a_while(&daemon, [1, 2]);
    assert!(
        (3 * second / 2..6 * second).contains(&first),
        "{first} {second}"
    );
    set(&daemon, 2, &[("weight", "900")]);
    let [first, second] = used_in_a_while(&daemon, [1, 2]);
    assert!(
        (3 * first / 2..6 * first).contains(&second),
        "{first} {second}"
    );
    let engine = daemon.client.engine("soft0").unwrap();
    assert!(engine.busy_permille > 300, "{engine:?}");
    let slices = daemon.client.engine_slices("soft0", 0).unwrap();
    let overlap = slices
        .windows(2)
        .find(|pair| pair[1].begun_ns < pair[0].ended_ns);
    assert_eq!(overlap, None, "two had the one place at once");
    assert!(slices.iter().any(|slice| slice.uuid == uuid(1)));
    let last = slices.last().unwrap().id;
    let newer = daemon.client.engine_slices("soft0", last).unwrap();
    assert!(newer.iter().all(|slice| slice.id > last));
}

#[test]
fn a_cap_holds_though_nobody_else_wants_the_engine() {
    let daemon = Daemon::start();
    create(&daemon, 1, &[("cap", "20")]);
    let hog = Hog::start(&daemon, 1, 200);
    hog.goes_on(20);
    let [used] = used_in_a_while(&daemon, [1]);
    assert!(used < 300_000_000, "{used} of {A_WHILE:?}");
    set(&daemon, 1, &[("cap", "none")]);
    hog.goes_on(100);
    let [used] = used_in_a_while(&daemon, [1]);
    assert!(used > 300_000_000, "{used} of {A_WHILE:?}");
}

#[test]
fn a_policy_holds_from_the_next_decision_on() {
    let daemon = Daemon::start();
    create(&daemon, 1, &[("weight", "900"), ("reservation", "20")]);
    create(&daemon, 2, &[("reservation", "60")]);
    let _hogs = [1, 2].map(|number| Hog::start(&daemon, number, JOB_US));
    daemon
        .client
        .set_policy("soft0", Policy::FixedShare)
        .unwrap();
    let [first, second] = used_in_a_while(&daemon, [1, 2]);
    assert!((2 * first..5 * first).contains(&second), "{first} {second}");
    daemon
        .client
        .set_policy("soft0", Policy::EqualShare)
        .unwrap();
    let [first, second] = used_in_a_while(&daemon, [1, 2]);
    assert!((first / 2..2 * first).contains(&second), "{first} {second}");
}

#[test]
fn one_that_is_stopped_loses_no_job_and_goes_on_where_it_was() {
    let daemon = Daemon::start();
    create(&daemon, 1, &[("stop", "on")]);
    let mut vmm = hogs::connect(&daemon, 1);
    for _ in 0..4 {
        hogs::spin(&mut vmm, 100);
    }
    wait_for("a job that waits", || {
        (engine_use(&daemon, 1).queued == 4).then_some(())
    });
    thread::sleep(Duration::from_millis(50));
    assert_eq!(engine_use(&daemon, 1).state, EngineState::Stopped);
    assert_eq!((hogs::waiting(&mut vmm), hogs::ended(&mut vmm)), (4, 0));
    set(&daemon, 1, &[("stop", "off")]);
    wait_for("their end", || (hogs::ended(&mut vmm) == 4).then_some(()));
    assert_eq!(engine_use(&daemon, 1).jobs, 4);
}

#[test]
fn a_frame_rate_limit_holds_for_what_is_shown() {
    const DISPLAY: u32 = 0x4000_0000;
    let daemon = Daemon::start();
    create(&daemon, 1, &[("frame_rate_limit", "20")]);
    let mut vmm = hogs::connect(&daemon, 1);
    for _ in 0..10 {
        hogs::spin(&mut vmm, DISPLAY | 10);
    }
    wait_for("their end", || (hogs::ended(&mut vmm) == 10).then_some(()));
    let slices = daemon.client.engine_slices("soft0", 0).unwrap();
    // On a busy machine a lease may end before its worker is woken.
    let drawn = slices.iter().filter(|slice| slice.used_ns > 0);
    let begun: Vec<_> = drawn.map(|slice| slice.begun_ns).collect();
    assert_eq!(begun.len(), 10);
    let apart = begun.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(apart.min().unwrap() >= 50_000_000, "{begun:?}");
}
