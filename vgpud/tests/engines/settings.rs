//! What is refused, told and kept.

use std::sync::Barrier;
use std::thread;

use vgpud::api::{Policy, Priority};
use vgpud::client::Client;

use crate::support::{Daemon, uuid};
use crate::{attribute, create, engine_use, request, set};

/// The settings as they are told beside the device's attributes.
fn told(daemon: &Daemon, number: u128) -> Vec<(String, String)> {
    let status = daemon.client.status(uuid(number)).unwrap();
    let attributes = status.attributes.into_iter().skip(4);
    attributes.map(|it| (it.name, it.value)).collect()
}

#[test]
fn settings_are_told_changed_and_kept_over_daemons_and_starts() {
    let mut daemon = Daemon::start();
    create(&daemon, 1, &[("weight", "250"), ("cap", "80%")]);
    set(&daemon, 1, &[("reservation", "12.5"), ("priority", "high")]);
    let expected = [
        ("cap", "80%"),
        ("frame_rate_limit", "none"),
        ("priority", "high"),
        ("reservation", "12.5%"),
        ("stop", "off"),
        ("weight", "250"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(told(&daemon, 1), expected);
    daemon
        .client
        .set_policy("soft0", Policy::EqualShare)
        .unwrap();
    daemon.kill();
    daemon.start_again();
    assert_eq!(told(&daemon, 1), expected);
    let engine = daemon.client.engine("soft0").unwrap();
    assert_eq!((engine.policy, engine.places), (Policy::EqualShare, 1));
    daemon.client.stop(uuid(1), true).unwrap();
    daemon.client.start(uuid(1)).unwrap();
    let settings = crate::support::wait_for("the worker's part", || {
        let engine = daemon.client.engine("soft0").unwrap();
        engine.clients.first().map(|client| client.settings)
    });
    assert_eq!((settings.weight, settings.cap_permille), (250, Some(800)));
    assert_eq!(settings.reservation_permille, Some(125));
    assert_eq!(settings.priority, Priority::High);
}

#[test]
fn what_makes_no_sense_is_refused_with_words_and_changes_nothing() {
    let daemon = Daemon::start();
    create(&daemon, 1, &[("reservation", "70")]);
    create(&daemon, 2, &[]);
    let before = engine_use(&daemon, 2).settings;
    for (changes, errno, words) in [
        (&[("weight", "0")][..], "EINVAL", "1 to 10000"),
        (&[("cap", "101")], "EINVAL", "percent"),
        (
            &[("weight", "7"), ("priority", "top")],
            "EINVAL",
            "low, normal or high",
        ),
        (
            &[("cap", "10"), ("reservation", "20")],
            "EINVAL",
            "below the reservation",
        ),
        (&[("reservation", "31")], "ENOSPC", "all but 300/1000"),
        (
            &[("weight", "7"), ("mode", "1x1")],
            "EINVAL",
            "no attribute 'mode'",
        ),
    ] {
        let changes = changes.iter().map(|(name, value)| attribute(name, value));
        let refused = daemon.client.set_attributes(uuid(2), changes.collect());
        let problem = refused.unwrap_err().problem().unwrap().clone();
        assert_eq!(problem.errno, errno, "{problem}");
        assert!(problem.detail.contains(words), "{problem}");
        assert_eq!(engine_use(&daemon, 2).settings, before);
    }
    let refused = daemon
        .client
        .create(uuid(3), &request(&[("reservation", "40")]));
    let problem = refused.unwrap_err().problem().unwrap().clone();
    assert_eq!(problem.errno, "ENOSPC");
    assert!(daemon.client.instance(uuid(3)).is_err());
    // The second has reserved nothing, which then would be its share.
    let refused = daemon.client.set_policy("soft0", Policy::FixedShare);
    let problem = refused.unwrap_err().problem().unwrap().clone();
    assert!(problem.detail.contains("reservation"), "{problem}");
    set(&daemon, 2, &[("reservation", "30")]);
    daemon
        .client
        .set_policy("soft0", Policy::FixedShare)
        .unwrap();
    let refused = daemon.client.create(uuid(3), &request(&[]));
    assert_eq!(refused.unwrap_err().problem().unwrap().errno, "EINVAL");
}

#[test]
fn types_without_an_engine_have_no_such_settings_and_parents_may_have_none() {
    let daemon = Daemon::start_with(
        "[parents.gpu7]\ndevice = \"/dev/null\"\n[parents.soft0]\npolicy = \"equal-share\"\n\
         engine-places = 2\njob-limit-ms = 500",
    );
    daemon.create(uuid(1), "bochs-4m");
    let refused = daemon
        .client
        .set_attributes(uuid(1), vec![attribute("weight", "5")]);
    let problem = refused.unwrap_err().problem().unwrap().clone();
    assert!(
        problem.detail.contains("no attribute 'weight'"),
        "{problem}"
    );
    let engines = daemon.client.engines().unwrap();
    assert_eq!(engines.len(), 1);
    assert_eq!(engines[0].policy, Policy::EqualShare);
    assert_eq!((engines[0].places, engines[0].job_limit_ms), (2, 500));
    assert!(engines[0].clients.is_empty());
    for parent in ["gpu7", "none"] {
        let refused = daemon.client.engine(parent).unwrap_err();
        assert_eq!(refused.problem().unwrap().status, 404, "{parent}");
    }
}

/// Two at once, each with a connection of its own: what came of both.
fn both<T: Send>(daemon: &Daemon, ask: impl Fn(&Client, usize) -> T + Sync) -> [T; 2] {
    let clients = [0, 1].map(|_| Client::new(&daemon.path("run/vgpud/api.sock")).unwrap());
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        let (barrier, ask) = (&barrier, &ask);
        let threads = clients.iter().enumerate().map(|(number, client)| {
            scope.spawn(move || {
                barrier.wait();
                ask(client, number)
            })
        });
        let threads: Vec<_> = threads.collect();
        let mut results = threads.into_iter().map(|it| it.join().unwrap());
        [(); 2].map(|()| results.next().unwrap())
    })
}

#[test]
fn of_two_reservations_at_once_that_do_not_fit_one_is_kept_and_one_is_refused() {
    let daemon = Daemon::start();
    create(&daemon, 1, &[]);
    create(&daemon, 2, &[]);
    for round in 0..20 {
        let set = both(&daemon, |client, number| {
            // Its device is asked in between, so that the other comes meanwhile.
            let way = ["pin", "copy"][round % 2];
            let changes = vec![attribute("dma", way), attribute("reservation", "60%")];
            client
                .set_attributes(uuid(1 + number as u128), changes)
                .is_ok()
        });
        let kept = [1, 2].map(|number| {
            let attributes = daemon.client.instance(uuid(number)).unwrap().attributes;
            attributes.contains(&attribute("reservation", "60%"))
        });
        assert_eq!(kept, set, "{round}: what is refused is not kept");
        assert_eq!(set.iter().filter(|is_set| **is_set).count(), 1, "{round}");
        for number in [1, 2] {
            set_none(&daemon, number);
        }
    }
}

fn set_none(daemon: &Daemon, number: u128) {
    let none = vec![attribute("reservation", "none")];
    daemon.client.set_attributes(uuid(number), none).unwrap();
}

#[test]
fn of_two_policies_at_once_the_one_that_holds_is_kept() {
    let mut daemon = Daemon::start();
    for _ in 0..20 {
        let policies = [Policy::BestEffort, Policy::EqualShare];
        both(&daemon, |client, number| {
            client.set_policy("soft0", policies[number]).unwrap();
        });
        let holds = daemon.client.engine("soft0").unwrap().policy;
        let kept = std::fs::read_to_string(daemon.path("var/lib/vgpud/policies.json")).unwrap();
        let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
        assert_eq!(kept["soft0"], serde_json::to_value(holds).unwrap());
    }
    let holds = daemon.client.engine("soft0").unwrap().policy;
    daemon.kill();
    daemon.start_again();
    assert_eq!(daemon.client.engine("soft0").unwrap().policy, holds);
}
