//! A worker takes over from one that crashed, under its client's connection.

use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;

use rustix::process::Signal;
use vgpud::api::{EventKind, InstanceState, Outcome};

use crate::fake::{Vmm, behave, daemon_with, pid_of, wait_other};
use crate::support::{Process, uuid};

#[test]
fn a_crash_is_recovered_with_the_same_descriptors_under_the_same_connection() {
    let (daemon, _folder) = daemon_with("");
    let old = daemon.create(uuid(1), "edu-1");
    let mut vmm = Vmm::connect(&old.socket);
    let journal = vmm.ask(b'i');
    assert_eq!(vmm.ask(b'p'), pid_of(&old));
    Process::open(old.pid.unwrap()).signal(Signal::ABORT);
    let new = wait_other(&daemon, &old);
    assert_eq!((vmm.ask(b'i'), vmm.ask(b'p')), (journal, pid_of(&new)));
    assert_eq!((new.crashes, new.recoveries), (1, 1));
    let recovery = new.last_recovery.unwrap();
    assert_eq!(recovery.outcome, Outcome::Exact);
    assert!(new.last_exit.unwrap().reason.contains("SIGABRT"));
    assert_eq!(daemon.event(EventKind::Crashed).instance, Some(old.uuid));
    let told = daemon.event(EventKind::Recovered);
    assert_eq!(told.detail, recovery.detail);
    let metrics = daemon.client.metrics().unwrap();
    assert!(metrics.contains("vgpud_instance_recoveries_total{"));
}

#[test]
fn what_comes_between_two_workers_is_served_by_the_second() {
    let (daemon, _folder) = daemon_with("");
    let old = daemon.create(uuid(1), "edu-1");
    let mut vmm = Vmm::connect(&old.socket);
    vmm.echo(b'x');
    vmm.0.write_all(b"axyz").unwrap();
    let mut back = [0; 3];
    vmm.0.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"xyz");
}

#[test]
fn a_client_that_comes_while_no_worker_is_there_waits_for_the_next() {
    let (daemon, _folder) = daemon_with("");
    let old = daemon.create(uuid(1), "edu-1");
    Process::open(old.pid.unwrap()).kill();
    let mut vmm = Vmm::connect(&old.socket);
    vmm.echo(b'x');
    wait_other(&daemon, &old);
}

#[test]
fn three_crashes_in_a_minute_end_it_and_the_client_sees_an_end_not_a_reset() {
    let (daemon, _folder) = daemon_with("");
    let instance = daemon.create(uuid(1), "edu-1");
    let mut vmm = Vmm::connect(&instance.socket);
    vmm.echo(b'x');
    vmm.0.write_all(b"aaaxyz").unwrap();
    let failed = daemon.wait_state(uuid(1), InstanceState::Failed);
    assert_eq!(failed.crashes, 3);
    assert_eq!(failed.last_recovery.unwrap().outcome, Outcome::GivenUp);
    assert!(failed.last_exit.unwrap().reason.contains("SIGABRT"));
    // Bytes of its are unread: even so it is an end.
    assert_eq!(vmm.0.read(&mut [0; 8]).unwrap(), 0);
    assert!(daemon.event(EventKind::GaveUp).detail.contains("3 crashes"));
    assert!(UnixStream::connect(&instance.socket).is_err());
    // Who starts it begins anew.
    let again = daemon.client.start(uuid(1)).unwrap();
    let mut vmm = Vmm::connect(&again.socket);
    vmm.0.write_all(b"ax").unwrap();
    vmm.0.read_exact(&mut [0]).unwrap();
    daemon.client.destroy(uuid(1), true).unwrap();
    assert_eq!(vmm.0.read(&mut [0; 8]).unwrap(), 0);
    assert_eq!(daemon.run_files(), [""; 0]);
}

#[test]
fn workers_that_cannot_take_over_count_as_crashes_and_the_reason_is_told() {
    for (how, words) in [("refuse", "of another make"), ("die", "too new")] {
        let (daemon, _folder) = daemon_with("");
        let instance = daemon.create(uuid(1), "edu-1");
        let mut vmm = Vmm::connect(&instance.socket);
        vmm.echo(b'x');
        behave(&daemon, how);
        vmm.0.write_all(b"a").unwrap();
        assert_eq!(vmm.0.read(&mut [0; 8]).unwrap(), 0);
        let failed = daemon.wait_state(uuid(1), InstanceState::Failed);
        assert_eq!((failed.crashes, failed.recoveries), (3, 0));
        let detail = failed.last_recovery.unwrap().detail;
        assert!(detail.contains(words), "{detail}");
        assert!(UnixStream::connect(&instance.socket).is_err());
    }
}

#[test]
fn with_restart_never_a_crash_is_a_failure() {
    let (daemon, _folder) = daemon_with("[workers]\nrestart = \"never\"");
    let instance = daemon.create(uuid(1), "edu-1");
    let mut vmm = Vmm::connect(&instance.socket);
    vmm.echo(b'x');
    vmm.0.write_all(b"ax").unwrap();
    let failed = daemon.wait_state(uuid(1), InstanceState::Failed);
    assert_eq!((failed.crashes, failed.recoveries), (1, 0));
    assert_eq!(vmm.0.read(&mut [0; 8]).unwrap(), 0);
    assert!(UnixStream::connect(&instance.socket).is_err());
}

#[test]
fn a_worker_that_parked_nothing_is_not_continued() {
    let (daemon, _folder) = daemon_with("");
    behave(&daemon, "careless");
    let instance = daemon.create(uuid(1), "edu-1");
    let refused = daemon.client.upgrade(uuid(1)).unwrap_err();
    assert_eq!(refused.problem().unwrap().errno, "ENOTSUP");
    Process::open(instance.pid.unwrap()).signal(Signal::KILL);
    let failed = daemon.wait_state(uuid(1), InstanceState::Failed);
    assert_eq!((failed.crashes, failed.recoveries), (1, 0));
}

#[test]
fn a_crash_in_the_middle_of_a_stop_is_a_stop() {
    let (daemon, _folder) = daemon_with("");
    behave(&daemon, "abort-on-stop");
    let instance = daemon.create(uuid(1), "edu-1");
    let mut vmm = Vmm::connect(&instance.socket);
    vmm.echo(b'x');
    let refused = daemon.client.stop(uuid(1), false).unwrap_err();
    assert_eq!(refused.problem().unwrap().errno, "EBUSY");
    let stopped = daemon.client.stop(uuid(1), true).unwrap();
    assert_eq!(
        (stopped.state, stopped.crashes),
        (InstanceState::Stopped, 0)
    );
    assert_eq!(vmm.0.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn a_stop_in_the_middle_of_a_recovery_waits_for_it() {
    let (daemon, _folder) = daemon_with("");
    let old = daemon.create(uuid(1), "edu-1");
    let mut vmm = Vmm::connect(&old.socket);
    vmm.echo(b'x');
    behave(&daemon, "hang");
    vmm.0.write_all(b"a").unwrap();
    daemon.wait_state(uuid(1), InstanceState::Recovering);
    behave(&daemon, "");
    let refused = daemon.client.stop(uuid(1), false).unwrap_err();
    assert_eq!(refused.problem().unwrap().errno, "EBUSY");
    assert_eq!(daemon.client.instance(uuid(1)).unwrap().recoveries, 1);
    daemon.client.destroy(uuid(1), true).unwrap();
    assert_eq!(vmm.0.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn a_full_disk_stops_neither_recovery_nor_upgrade() {
    let (daemon, _folder) = daemon_with("");
    let old = daemon.create(uuid(1), "edu-1");
    let mut vmm = Vmm::connect(&old.socket);
    let journal = vmm.ask(b'i');
    let record = format!("var/lib/vgpud/instances/{}.json.part", uuid(1));
    symlink("/dev/full", daemon.path(&record)).unwrap();
    vmm.0.write_all(b"a").unwrap();
    assert_eq!(vmm.ask(b'i'), journal);
    wait_other(&daemon, &old);
    symlink("/dev/full", daemon.path(&record)).unwrap_or_default();
    let upgrade = daemon.client.upgrade(uuid(1)).unwrap();
    assert_eq!(vmm.ask(b'p'), u64::from(upgrade.pid));
    assert!(daemon.log().contains("write the record of"));
}
