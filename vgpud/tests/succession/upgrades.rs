//! A worker takes over from one that serves, and a daemon from another.

use std::io::Write;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use vgpud::api::{EventKind, InstanceState};
use vgpud::client::{Client, ClientError};

use crate::fake::{Vmm, behave, daemon_with, pid_of, wait_other};
use crate::support::{Daemon, Process, uuid, wait_for};

#[test]
fn a_worker_that_dies_when_it_has_gone_on_is_recovered_as_any() {
    let (daemon, _folder) = daemon_with("");
    let old = daemon.create(uuid(1), "edu-1");
    let mut vmm = Vmm::connect(&old.socket);
    let journal = vmm.ask(b'i');
    behave(&daemon, "die-later");
    let upgraded = daemon.client.upgrade(uuid(1));
    behave(&daemon, "");
    // Whether that was seen in time is chance; what matters is that the client is served.
    drop(upgraded);
    assert_eq!(vmm.ask(b'i'), journal);
}

#[test]
fn an_upgrade_keeps_connection_and_descriptors() {
    let (daemon, _folder) = daemon_with("");
    let old = daemon.create(uuid(1), "edu-1");
    let mut vmm = Vmm::connect(&old.socket);
    let journal = vmm.ask(b'i');
    for count in 1..=2 {
        let before = daemon.client.instance(uuid(1)).unwrap();
        let process = Process::open(before.pid.unwrap());
        let upgrade = daemon.client.upgrade(uuid(1)).unwrap();
        assert!(upgrade.exact && upgrade.connected && upgrade.pause_us > 0);
        assert!(process.has_ended(Duration::ZERO));
        assert_eq!(vmm.ask(b'p'), u64::from(upgrade.pid));
        assert_eq!(vmm.ask(b'i'), journal);
        let after = daemon.client.instance(uuid(1)).unwrap();
        assert_eq!((after.upgrades, after.crashes), (count, 0));
        assert_eq!(after.pid, Some(upgrade.pid));
        assert_eq!(daemon.client.status(uuid(1)).unwrap().pid, upgrade.pid);
    }
    daemon.event(EventKind::Upgraded);
    // The third one is recovered from what the first had parked.
    vmm.0.write_all(b"a").unwrap();
    assert_eq!(vmm.ask(b'i'), journal);
    assert!(
        !daemon
            .run_files()
            .iter()
            .any(|name| name.ends_with(".aside"))
    );
}

#[test]
fn after_an_upgrade_that_fails_the_old_worker_goes_on() {
    let (daemon, _folder) = daemon_with("");
    let old = daemon.create(uuid(1), "edu-1");
    let mut vmm = Vmm::connect(&old.socket);
    vmm.echo(b'x');
    for (how, words) in [
        ("refuse", "of another make"),
        ("die", "too new"),
        ("hang", "took too long"),
    ] {
        behave(&daemon, how);
        let refused = daemon.client.upgrade(uuid(1)).unwrap_err();
        let problem = refused.problem().unwrap();
        assert_eq!(problem.errno, "EPROTO");
        assert!(problem.detail.contains(words), "{}", problem.detail);
        assert!(problem.remedy.is_some());
        assert_eq!(vmm.ask(b'p'), pid_of(&old));
        assert_eq!(daemon.client.status(uuid(1)).unwrap().pid, old.pid.unwrap());
        assert_eq!(daemon.client.instance(uuid(1)).unwrap(), old);
    }
    behave(&daemon, "");
    daemon.client.upgrade(uuid(1)).unwrap();
}

#[test]
fn a_worker_that_does_not_stand_still_is_busy_and_not_of_an_older_build() {
    let (daemon, _folder) = daemon_with("");
    behave(&daemon, "busy");
    let old = daemon.create(uuid(1), "edu-1");
    let mut vmm = Vmm::connect(&old.socket);
    let refused = daemon.client.upgrade(uuid(1)).unwrap_err();
    let problem = refused.problem().unwrap();
    assert_eq!((problem.errno.as_str(), problem.status), ("EBUSY", 409));
    let words = "did not come to a stop";
    assert!(problem.detail.contains(words), "{}", problem.detail);
    assert_eq!(vmm.ask(b'p'), pid_of(&old));
    assert_eq!(daemon.client.instance(uuid(1)).unwrap(), old);
}

#[test]
fn a_new_worker_that_has_too_little_memory_says_which_limit_that_is() {
    let (daemon, _folder) = daemon_with("[workers]\nmemory-limit = \"64M\"");
    daemon.create(uuid(1), "edu-1");
    behave(&daemon, "starve");
    let refused = daemon.client.upgrade(uuid(1)).unwrap_err();
    let problem = refused.problem().unwrap();
    assert_eq!(problem.errno, "EPROTO");
    for words in [
        ": killed by SIGABRT",
        ": memory allocation of 4096 bytes",
        "workers.memory-limit",
    ] {
        assert!(problem.detail.contains(words), "{}", problem.detail);
    }
}

#[test]
fn only_what_runs_is_upgraded() {
    let (daemon, _folder) = daemon_with("");
    daemon.create(uuid(1), "edu-1");
    daemon.client.stop(uuid(1), false).unwrap();
    for (number, errno) in [(1, "ENXIO"), (2, "ENODEV")] {
        let refused: ClientError = daemon.client.upgrade(uuid(number)).unwrap_err();
        assert_eq!(refused.problem().unwrap().errno, errno);
    }
}

#[test]
fn after_a_daemons_kill_its_workers_are_adopted_and_recovered_as_before() {
    let (mut daemon, _folder) = daemon_with("");
    let old = daemon.create(uuid(1), "edu-1");
    let mut vmm = Vmm::connect(&old.socket);
    let journal = vmm.ask(b'i');
    for end in [Daemon::kill, Daemon::terminate] {
        end(&mut daemon);
        vmm.echo(b'x');
        daemon.start_again();
        daemon.event(EventKind::Adopted);
        assert_eq!(vmm.ask(b'p'), pid_of(&old));
    }
    Process::open(old.pid.unwrap()).signal(Signal::KILL);
    let new = wait_other(&daemon, &old);
    assert_eq!((vmm.ask(b'i'), vmm.ask(b'p')), (journal, pid_of(&new)));
    daemon.kill();
    daemon.start_again();
    daemon.event(EventKind::Adopted);
    let upgrade = daemon.client.upgrade(uuid(1)).unwrap();
    assert_eq!(
        (vmm.ask(b'i'), vmm.ask(b'p')),
        (journal, upgrade.pid.into())
    );
}

#[test]
fn a_worker_that_cannot_be_adopted_is_watched_all_the_same() {
    let (mut daemon, _folder) = daemon_with("");
    behave(&daemon, "proud");
    let instance = daemon.create(uuid(1), "edu-1");
    daemon.kill();
    daemon.start_again();
    let told = daemon.event(EventKind::NotAdopted);
    assert!(told.detail.contains("not a request"), "{}", told.detail);
    Process::open(instance.pid.unwrap()).signal(Signal::KILL);
    let failed = daemon.wait_state(uuid(1), InstanceState::Failed);
    assert_eq!(failed.crashes, 1);
}

#[test]
fn a_daemon_that_is_stopped_ends_what_runs_if_it_is_told_to() {
    let (mut daemon, _folder) = daemon_with("[daemon]\non-stop = \"end\"");
    let instance = daemon.create(uuid(1), "edu-1");
    daemon.create(uuid(2), "edu-1");
    daemon.client.stop(uuid(2), false).unwrap();
    let process = Process::open(instance.pid.unwrap());
    daemon.terminate();
    assert!(process.has_ended(Duration::ZERO));
    daemon.start_again();
    let again = daemon.wait_state(uuid(1), InstanceState::Running);
    assert_eq!(again.crashes, 0);
    let other = daemon.client.instance(uuid(2)).unwrap();
    assert_eq!(other.state, InstanceState::Stopped);
}

#[test]
fn a_daemon_that_dies_in_the_middle_of_an_upgrade_leaves_the_old_worker_serving() {
    let (mut daemon, _folder) = daemon_with("");
    let old = daemon.create(uuid(1), "edu-1");
    let mut vmm = Vmm::connect(&old.socket);
    vmm.echo(b'x');
    behave(&daemon, "hang");
    let client = Client::new(&daemon.path("run/vgpud/api.sock")).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| client.upgrade(uuid(1)).unwrap_err());
        wait_for("an upgrade that has begun", || {
            let aside = |name: &String| name.ends_with(".aside");
            daemon.run_files().iter().any(aside).then_some(())
        });
        daemon.kill();
    });
    behave(&daemon, "");
    daemon.start_again();
    daemon.event(EventKind::Adopted);
    assert_eq!(vmm.ask(b'p'), pid_of(&old));
    let upgrade = daemon.client.upgrade(uuid(1)).unwrap();
    assert_eq!(vmm.ask(b'p'), u64::from(upgrade.pid));
}
