//! What is left when a worker or the daemon is killed.

mod support;

use std::fs;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::process::Signal;
use support::{Daemon, Process, lives, read, request, uuid, wait_for};
use vfu::client::Client as Vmm;
use vgpud::api::{EventKind, InstanceState};

const CONFIG: u32 = 7;

/// What becomes of a worker's end when no other takes over.
const NEVER: &str = "[workers]\nrestart = \"never\"";

#[test]
fn a_worker_that_is_killed_is_seen_told_counted_and_alone() {
    let daemon = Daemon::start_with(NEVER);
    let victim = daemon.create(uuid(1), "edu-1");
    let other = daemon.create(uuid(2), "edu-1");
    let mut vmm = Vmm::connect(other.socket.as_ref()).unwrap();
    let available = daemon.available("edu-1");

    Process::open(victim.pid.unwrap()).signal(Signal::ABORT);
    let failed = daemon.wait_state(uuid(1), InstanceState::Failed);
    let exit = failed.last_exit.unwrap();
    assert!(
        exit.reason.starts_with("killed by SIGABRT"),
        "{}",
        exit.reason
    );
    assert_eq!((exit.signal, exit.code), (Some(6), None));
    assert!(exit.last_words.is_some());
    assert_eq!((failed.crashes, failed.pid), (1, None));
    let crashed = daemon.event(EventKind::Crashed);
    assert_eq!(crashed.instance, Some(uuid(1)));

    // Nobody waits at a dead socket, the place is kept, and the other one serves on.
    assert!(UnixStream::connect(&victim.socket).is_err());
    assert_eq!(daemon.available("edu-1"), available);
    read(&mut vmm, CONFIG, 0);
    assert_eq!(daemon.client.instance(uuid(2)).unwrap(), other);

    let again = daemon.client.start(uuid(1)).unwrap();
    assert_eq!((again.state, again.crashes), (InstanceState::Running, 1));
    Vmm::connect(again.socket.as_ref()).unwrap();
    Process::open(again.pid.unwrap()).signal(Signal::KILL);
    assert_eq!(daemon.wait_state(uuid(1), InstanceState::Failed).crashes, 2);
    daemon.client.destroy(uuid(1), false).unwrap();
    assert_eq!(daemon.available("edu-1"), available + 1);
}

#[test]
fn a_worker_that_hangs_is_ended_by_force() {
    let daemon = Daemon::start();
    let instance = daemon.create(uuid(1), "serial-1");
    let process = Process::open(instance.pid.unwrap());
    process.signal(Signal::STOP);
    daemon.client.destroy(uuid(1), true).unwrap();
    assert!(process.has_ended(Duration::ZERO));
    assert_eq!(daemon.run_files(), [""; 0]);
}

#[test]
fn workers_and_their_clients_outlive_the_daemon_and_are_taken_over() {
    let mut daemon = Daemon::start_with(NEVER);
    let instance = daemon.create(uuid(1), "edu-1");
    let stopped = daemon.create(uuid(2), "edu-1");
    daemon.client.stop(stopped.uuid, false).unwrap();
    let mut vmm = Vmm::connect(instance.socket.as_ref()).unwrap();
    let available = daemon.available("edu-1");
    for end in [Daemon::kill, Daemon::terminate] {
        end(&mut daemon);
        read(&mut vmm, CONFIG, 0);
        daemon.start_again();
        read(&mut vmm, CONFIG, 0);
        assert_eq!(daemon.client.instance(uuid(1)).unwrap(), instance);
        let still = daemon.client.instance(uuid(2)).unwrap();
        assert_eq!(still.state, InstanceState::Stopped);
        assert_eq!(daemon.available("edu-1"), available);
    }
    // The new daemon sees its end as the old one would have.
    Process::open(instance.pid.unwrap()).signal(Signal::KILL);
    let failed = daemon.wait_state(uuid(1), InstanceState::Failed);
    assert_eq!(failed.crashes, 1);
    // It is no child of this daemon: older kernels do not tell why.
    let exit = failed.last_exit.unwrap();
    assert!(exit.signal.is_none_or(|signal| signal == 9), "{exit:?}");
    // It can be started, and another takes it over to stop it.
    daemon.client.start(uuid(1)).unwrap();
    daemon.kill();
    daemon.start_again();
    daemon.client.destroy(uuid(1), false).unwrap();
    let left = daemon.run_files();
    assert!(
        !left
            .iter()
            .any(|name| name.starts_with(&uuid(1).to_string())),
        "{left:?}"
    );
}

#[test]
fn a_worker_that_died_while_no_daemon_was_there_is_told_and_not_restarted() {
    let mut daemon = Daemon::start();
    let instance = daemon.create(uuid(1), "edu-1");
    daemon.kill();
    Process::open(instance.pid.unwrap()).kill();
    for _ in 0..2 {
        daemon.start_again();
        let failed = daemon.client.instance(uuid(1)).unwrap();
        assert_eq!((failed.state, failed.crashes), (InstanceState::Failed, 1));
        assert!(failed.last_exit.is_some());
        daemon.kill();
    }
}

#[test]
fn after_a_reboot_what_ran_is_started_and_what_was_stopped_is_not() {
    let mut daemon = Daemon::start();
    let ran = daemon.create(uuid(1), "edu-1");
    daemon.create(uuid(2), "edu-1");
    daemon.client.stop(uuid(2), false).unwrap();
    daemon.kill();
    Process::open(ran.pid.unwrap()).kill();
    // Another boot: nothing in the run folder, and another boot's number in the records.
    fs::remove_dir_all(daemon.path("run/vgpud")).unwrap();
    for name in daemon.records() {
        let path = daemon.path("var/lib/vgpud/instances").join(name);
        let mut record: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        if let Some(boot) = record.pointer_mut("/worker/boot_id") {
            *boot = "another".into();
        }
        fs::write(&path, record.to_string()).unwrap();
    }
    daemon.start_again();
    let started = daemon.wait_state(uuid(1), InstanceState::Running);
    assert_ne!(started.pid, ran.pid);
    assert_eq!(
        daemon.client.instance(uuid(2)).unwrap().state,
        InstanceState::Stopped
    );
}

#[test]
fn a_daemon_starts_over_any_rubble_of_a_power_loss() {
    let mut daemon = Daemon::start();
    let instance = daemon.create(uuid(1), "edu-1");
    daemon.create(uuid(2), "edu-1");
    daemon.kill();
    let folder = daemon.path("var/lib/vgpud/instances");
    let record = folder.join(format!("{}.json", uuid(2)));
    let whole = fs::read(&record).unwrap();
    fs::write(&record, &whole[..whole.len() / 2]).unwrap();
    fs::write(folder.join("x.json"), [0; 512]).unwrap();
    fs::write(folder.join("y.json.part"), "{").unwrap();
    daemon.start_again();
    assert_eq!(daemon.client.instance(uuid(1)).unwrap(), instance);
    // Of the other nothing is known any more: its worker was ended, its UUID is free.
    assert_eq!(daemon.client.instances().unwrap().len(), 1);
    assert!(
        daemon
            .records()
            .iter()
            .any(|name| name.ends_with(".json.broken"))
    );
    let orphan = format!("{}.sock", uuid(2));
    assert!(!daemon.run_files().contains(&orphan));
    daemon.create(uuid(2), "edu-1");
}

#[test]
fn a_second_daemon_at_one_place_does_not_start() {
    let daemon = Daemon::start();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_vgpud"))
        .arg("--root")
        .arg(daemon.path(""))
        .output()
        .unwrap();
    assert!(!output.status.success());
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains("another vgpud runs"), "{words}");
    daemon.client.parents().unwrap();
}

#[test]
fn a_request_that_was_cut_off_is_done_whole() {
    use std::io::Write;
    let daemon = Daemon::start();
    let body = serde_json::to_string(&request("edu-1")).unwrap();
    let mut stream = UnixStream::connect(daemon.path("run/vgpud/api.sock")).unwrap();
    write!(
        stream,
        "PUT /v1/instances/{} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        uuid(1),
        body.len()
    )
    .unwrap();
    // It has begun, and who asked is gone.
    wait_for("an instance", || daemon.client.instance(uuid(1)).ok());
    drop(stream);
    daemon.wait_state(uuid(1), InstanceState::Running);
}

#[test]
fn a_machine_outlives_kills_and_upgrades_of_its_worker_and_the_daemon() {
    let mut daemon = Daemon::start();
    let instance = daemon.create(uuid(1), "edu-1");
    let mut vmm = Vmm::connect(instance.socket.as_ref()).unwrap();
    lives(&mut vmm, 1);
    Process::open(instance.pid.unwrap()).kill();
    lives(&mut vmm, 2);
    wait_for("a recovery", || {
        let instance = daemon.client.instance(uuid(1)).unwrap();
        (instance.recoveries == 1).then_some(())
    });
    daemon.client.upgrade(uuid(1)).unwrap();
    lives(&mut vmm, 3);
    daemon.kill();
    lives(&mut vmm, 4);
    daemon.start_again();
    wait_for("an upgrade of what was adopted", || {
        daemon.client.upgrade(uuid(1)).ok()
    });
    lives(&mut vmm, 5);
    let instance = daemon.client.instance(uuid(1)).unwrap();
    Process::open(instance.pid.unwrap()).kill();
    lives(&mut vmm, 6);
    // The end is one, not a reset.
    vmm.region_write(0, 4, &[0; 4]).unwrap();
    daemon.client.destroy(uuid(1), true).unwrap();
    assert_eq!(daemon.run_files(), [""; 0]);
}
