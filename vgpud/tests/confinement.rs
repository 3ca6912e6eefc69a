//! Workers of a daemon that is root: users and control groups of their own.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use support::group::{Group, NEW_OR_OLD, OLD_OR_NEW};
use support::{Daemon, Process, read, request, uuid, wait_for};
use vfu::client::Client as Vmm;
use vgpud::api::{Instance, View};

/// The configuration region of a PCI device, as VFIO numbers them.
const CONFIG: u32 = 7;

/// Some of the types, with and without a picture.
const TYPES: [&str; 4] = ["edu-1", "serial-1", "bochs-4m", "edu-2"];

/// The first of the users that the tests give.
const FIRST: u32 = 2_000_300_000;

/// The user "nobody", whom every host has.
const NOBODY: u32 = 65_534;

fn is_root(what: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("NOT RUN: {what}: only root can give users away");
    }
    is_root
}

/// All that can be configured, with so many users.
fn whole_config(group: Option<&Group>, users: u32) -> String {
    let cgroup = group.map(|group| format!("cgroup = \"{}\"\n", group.0.display()));
    format!(
        "[workers]\nusers = {{ first = {FIRST}, count = {users} }}\nmemory-limit = \"64M\"\n{}",
        cgroup.unwrap_or_default()
    )
}

/// A field of `/proc/PID/status`.
fn field(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let words = line.and_then(|rest| rest.strip_prefix(':')).unwrap();
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The one user and group that it is, whatever user is asked for.
fn user_of(instance: &Instance) -> u32 {
    let pid = instance.pid.unwrap();
    let user = field(pid, "Uid");
    assert_eq!(field(pid, "Gid"), user);
    let (one, rest) = user.split_once(' ').unwrap();
    assert_eq!(rest, [one; 3].join(" "));
    one.parse().unwrap()
}

/// Sets a mode, as a guest does at Bochs' registers (from 0x500 in BAR 2).
fn show_a_picture(vmm: &mut Vmm) {
    for (register, value) in [(1, 640_u16), (2, 480), (3, 32), (4, 0x41)] {
        let offset = 0x500 + 2 * register;
        vmm.region_write(2, offset, &value.to_le_bytes()).unwrap();
    }
}

fn is_confined(instance: &Instance) {
    let pid = instance.pid.unwrap();
    for (name, value) in [
        ("Groups", ""),
        ("CapInh", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapBnd", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
    ] {
        assert_eq!(field(pid, name), value, "{name}");
    }
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let data = limits
        .lines()
        .find(|line| line.starts_with("Max data size"));
    assert!(data.unwrap().contains(" 67108864 "), "{data:?}");
}

#[test]
fn each_worker_is_a_user_in_a_group_of_its_own_and_serves() {
    if !is_root("users of their own") {
        return;
    }
    let group = Group::make("serve", &NEW_OR_OLD);
    let daemon = Daemon::start_with(&whole_config(group.as_ref(), 9));
    let mut users = Vec::new();
    for (number, type_name) in (1..).zip(TYPES) {
        let mut asked = request(type_name);
        asked.socket.mode = Some("0660".to_owned());
        asked.socket.owner = Some("nobody".to_owned());
        let instance = daemon.client.create(uuid(number), &asked).unwrap();
        is_confined(&instance);
        users.push(user_of(&instance));
        let pid = instance.pid.unwrap();
        if let Some(group) = &group {
            assert_eq!(group.processes_of(&instance), format!("{pid}\n"));
        }
        let socket = fs::metadata(&instance.socket).unwrap();
        assert_eq!((socket.uid(), socket.mode() & 0o777), (NOBODY, 0o660));
        let control = fs::metadata(&instance.control).unwrap();
        assert_eq!(
            (control.uid(), control.permissions().mode() & 0o077),
            (0, 0)
        );
        let mut vmm = Vmm::connect(instance.socket.as_ref()).unwrap();
        assert_ne!(read(&mut vmm, CONFIG, 0), [0xff; 4], "{type_name}");
        vmm.region_write(CONFIG, 4, &[6, 0]).unwrap();
        assert_eq!(read(&mut vmm, CONFIG, 4)[0], 6);
        if type_name == "bochs-4m" {
            show_a_picture(&mut vmm);
        }
        let status = daemon.client.status(uuid(number)).unwrap();
        assert!(status.connected);
    }
    assert_eq!(users, [FIRST, FIRST + 1, FIRST + 2, FIRST + 3]);

    let picture = daemon.client.screenshot(uuid(3), View::default()).unwrap();
    assert!(picture.starts_with(b"\x89PNG"));
    wait_for("end of the session", || {
        (!daemon.client.status(uuid(1)).unwrap().connected).then_some(())
    });
    let mut state = Vec::new();
    daemon.client.save_state(uuid(1), &mut state).unwrap();
    let restored = daemon.client.restore_state(uuid(1), &mut state.as_slice());
    restored.unwrap();

    daemon.client.stop(uuid(1), true).unwrap();
    for number in 1..=TYPES.len() as u128 {
        daemon.client.destroy(uuid(number), true).unwrap();
    }
    assert_eq!(daemon.run_files(), [""; 0]);
    assert_eq!(daemon.records(), [""; 0]);
    assert_eq!(
        group.map(|group| group.members()).unwrap_or_default(),
        [""; 0]
    );
}

#[test]
fn a_user_is_given_again_when_its_worker_is_gone_and_no_sooner() {
    if !is_root("users that run out") {
        return;
    }
    let daemon = Daemon::start_with(&whole_config(None, 2));
    let first = daemon.create(uuid(1), "edu-1");
    daemon.create(uuid(2), "edu-1");
    let refused = |number| {
        let error = daemon.client.create(uuid(number), &request("edu-1"));
        error.unwrap_err().problem().unwrap().clone()
    };
    let problem = refused(3);
    assert_eq!((problem.errno.as_str(), problem.status), ("EUSERS", 409));
    assert!(
        problem.detail.contains("no user is free"),
        "{}",
        problem.detail
    );
    assert!(problem.remedy.unwrap().contains("workers.users.count"));
    // One that is stopped keeps its user as it keeps its place.
    daemon.client.stop(uuid(1), false).unwrap();
    refused(3);
    assert_eq!(user_of(&daemon.client.start(uuid(1)).unwrap()), FIRST);
    // Nor does the end of its worker free it, but its own.
    daemon.fail(uuid(1));
    refused(3);
    daemon.client.destroy(uuid(1), false).unwrap();
    let third = daemon.create(uuid(3), "edu-1");
    assert_eq!(user_of(&third), FIRST);
    assert!(!Path::new(&format!("/proc/{}", first.pid.unwrap())).exists());
}

#[test]
fn the_next_daemon_asks_stops_and_cleans_up_after_workers_of_other_users() {
    if !is_root("workers of an earlier daemon") {
        return;
    }
    let group = Group::make("next", &OLD_OR_NEW);
    let mut daemon = Daemon::start_with(&whole_config(group.as_ref(), 4));
    let known = daemon.create(uuid(1), "edu-1");
    let forgotten = daemon.create(uuid(2), "edu-1");
    let unnoted = daemon.create(uuid(3), "edu-1");
    let forgotten_process = Process::open(forgotten.pid.unwrap());
    daemon.kill();
    // As after a loss of one record, and as if it was killed before it noted a worker.
    let records = daemon.path("var/lib/vgpud/instances");
    fs::remove_file(records.join(format!("{}.json", uuid(2)))).unwrap();
    let record = records.join(format!("{}.json", uuid(3)));
    let text = fs::read(&record).unwrap();
    let mut value: serde_json::Value = serde_json::from_slice(&text).unwrap();
    value["worker"] = serde_json::Value::Null;
    value["user"] = serde_json::Value::Null;
    fs::write(&record, value.to_string()).unwrap();

    daemon.start_again();
    assert_eq!(daemon.client.instance(uuid(1)).unwrap().pid, known.pid);
    assert_eq!(daemon.client.instance(uuid(3)).unwrap().pid, unnoted.pid);
    assert!(forgotten_process.has_ended(std::time::Duration::ZERO));
    daemon.client.status(uuid(1)).unwrap();
    // The user of the forgotten one is free, that of the one that was not noted is not.
    let users: Vec<_> = [4, 5]
        .map(|number| user_of(&daemon.create(uuid(number), "edu-1")))
        .into();
    assert_eq!(users, [FIRST + 1, FIRST + 3]);
    for number in [1, 3, 4, 5] {
        daemon.client.stop(uuid(number), false).unwrap();
        daemon.client.destroy(uuid(number), false).unwrap();
    }
    assert_eq!(daemon.run_files(), [""; 0]);
    assert_eq!(
        group.map(|group| group.members()).unwrap_or_default(),
        [""; 0]
    );
}

#[test]
fn root_gives_users_unless_told_not_to() {
    if !is_root("users that nobody configured") {
        return;
    }
    let daemon = Daemon::start();
    let usual = vgpud::config::UserRange::USUAL.numbers();
    assert_eq!(user_of(&daemon.create(uuid(1), "edu-1")), usual.start);
    assert_eq!(user_of(&daemon.create(uuid(2), "edu-1")), usual.start + 1);
    let daemon = Daemon::start_with("[workers]\nusers = false");
    assert_eq!(user_of(&daemon.create(uuid(1), "edu-1")), 0);
}
