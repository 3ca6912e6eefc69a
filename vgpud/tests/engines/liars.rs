//! Workers that lie about what they use, and one that ends no job: real processes beside real ones.

use vgpud::api::{Event, EventKind, InstanceState};

use crate::hogs::Hog;
use crate::hostile::{self, How};
use crate::support::{Daemon, uuid, wait_for};
use crate::{create, engine_use};

/// What each of the two was charged in a number of their last leases.
fn charged(daemon: &Daemon) -> [u64; 2] {
    let slices = daemon.client.engine_slices("soft0", 0).unwrap();
    [1, 2].map(|number| {
        let its = slices.iter().filter(|slice| slice.uuid == uuid(number));
        its.map(|slice| slice.charged_ns).sum()
    })
}

#[test]
fn who_says_that_it_has_a_job_and_sleeps_is_charged_and_takes_no_more_than_its_share() {
    let (daemon, _folder) = hostile::daemon_with("", How::Sleeps);
    create(&daemon, 1, &[]);
    create(&daemon, 2, &[]);
    let hog = Hog::start(&daemon, 2, 200);
    hog.goes_on(2000);
    let [liar, honest] = charged(&daemon);
    assert_eq!(engine_use(&daemon, 1).used_ns, 0, "it says so");
    assert!(3 * liar > honest, "{liar} {honest}");
    assert!(3 * honest > liar, "{liar} {honest}");
}

#[test]
fn who_works_the_cpus_and_says_nothing_is_charged_by_its_cpu_time() {
    let (daemon, _folder) = hostile::daemon_with("", How::Burns);
    create(&daemon, 1, &[]);
    create(&daemon, 2, &[]);
    let _hog = Hog::start(&daemon, 2, 1000);
    let liar = wait_for("a charge", || {
        let liar = engine_use(&daemon, 1);
        (liar.misreports > 0).then_some(liar)
    });
    assert!(liar.used_ns > 0, "{liar:?}");
    assert_eq!(engine_use(&daemon, 2).misreports, 0);
}

#[test]
fn a_worker_that_ends_no_job_and_obeys_nothing_is_ended_and_the_others_go_on() {
    let config = "[parents.soft0]\njob-limit-ms = 100";
    let (daemon, _folder) = hostile::daemon_with(config, How::Hangs);
    create(&daemon, 1, &[]);
    create(&daemon, 2, &[]);
    let hog = Hog::start(&daemon, 2, 200);
    hog.goes_on(200);
    let mut words = Vec::new();
    let see = |event: Event| {
        if event.kind == EventKind::Overlong {
            assert_eq!(event.instance, Some(uuid(1)));
            words.push(event.detail);
        }
        words.len() < 3
    };
    daemon.client.events(Some(0), see).unwrap();
    let expected = ["100 ms", "reset", "worker is ended"];
    assert_eq!(words.len(), expected.len(), "{words:?}");
    for (words, expected) in words.iter().zip(expected) {
        assert!(words.contains(expected), "{words}");
    }
    // It has left nothing that another could go on from, as a real one has.
    let ended = daemon.wait_state(uuid(1), InstanceState::Failed);
    assert_eq!(ended.last_exit.unwrap().signal, Some(9));
    hog.goes_on(200);
}
