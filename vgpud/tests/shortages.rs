//! What the host lacks: places, disk, permission, a worker. The right errno and words, and all is as
//! it was.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use support::http::Refused;
use support::{Daemon, request, uuid, wait_for};
use vgpud::api::Attribute;

const JSON: &str = "application/json";

/// Bodies of a definition, of a change, and of requests that take none.
const DEFINITION: &str = r#"{"type":"serial-1"}"#;
const CHANGE: &str = r#"{"attributes":[{"name":"dma","value":"copy"}]}"#;
const NOTHING: &str = "";

fn creation(type_name: &str) -> String {
    format!(r#"{{"parent":"soft0","type":"{type_name}"}}"#)
}

fn instance(number: u128) -> String {
    format!("/v1/instances/{}", uuid(number))
}

fn definition(number: u128) -> String {
    format!("/v1/definitions/soft0/{}", uuid(number))
}

/// A request that the daemon has to refuse.
struct Request<'a>(&'a str, String, &'a str);

impl Request<'_> {
    /// Sends it, when something is missing since `hinder` was called.
    fn refused(&self, daemon: &Daemon, refused: Refused<'_>, hinder: impl FnOnce()) {
        let Self(method, path, body) = self;
        let case = format!("{method} {path} {body}");
        let before = daemon.everything();
        let attributes = attributes(daemon);
        hinder();
        let answer = daemon.raw(method, path, JSON, body.as_bytes());
        answer.assert_refused(refused, &case);
        assert!(answer.json()["remedy"].is_string(), "{case}: {answer:?}");
        assert_eq!(daemon.everything(), before, "{case}");
        assert_eq!(attributes, self::attributes(daemon), "{case}");
    }

    /// Sends it, when all is there again.
    fn granted(&self, daemon: &Daemon) {
        let Self(method, path, body) = self;
        let answer = daemon.raw(method, path, JSON, body.as_bytes());
        assert!(answer.status < 300, "{method} {path} {body}: {answer:?}");
    }
}

/// The attributes that the worker of the first has, if it runs.
fn attributes(daemon: &Daemon) -> Option<Vec<Attribute>> {
    let status = daemon.client.status(uuid(1)).ok()?;
    Some(status.attributes)
}

#[test]
fn a_full_parent_refuses_and_serves_on() {
    let daemon = Daemon::start_with(
        "[parents.soft0]\ninstances = 3\nvideo-memory = \"20M\"\nlimits = { serial-1 = 1 }",
    );
    let full = |number, type_name: &str, errno| {
        let words = format!("'{type_name}'");
        let body = creation(type_name);
        for request in [
            Request("PUT", instance(number), &body),
            Request("POST", "/v1/instances".to_owned(), &body),
        ] {
            request.refused(&daemon, (409, errno, &words), || {});
        }
    };
    daemon.create(uuid(1), "bochs-16m");
    full(2, "bochs-16m", "ENOSPC");
    daemon.create(uuid(2), "serial-1");
    full(3, "serial-1", "EUSERS");
    daemon.create(uuid(3), "bochs-4m");
    full(4, "edu-1", "EUSERS");
    for type_name in ["bochs-16m", "serial-1", "bochs-4m", "edu-1"] {
        assert_eq!(daemon.available(type_name), 0);
    }
    // What is defined has no place yet, and is not started without one.
    Request("PUT", definition(4), DEFINITION).granted(&daemon);
    let start = Request("POST", instance(4) + "/start", NOTHING);
    start.refused(&daemon, (409, "EUSERS", "no place"), || {});
    daemon.client.destroy(uuid(3), false).unwrap();
    assert_eq!(daemon.available("edu-1"), 1);
    daemon.create(uuid(5), "edu-1");
}

/// Whatever is written to a file of that name fails as on a full disk.
fn fill_up(path: &Path) {
    let part = format!("{}.part", path.display());
    symlink("/dev/full", part).unwrap();
}

fn record(daemon: &Daemon, number: u128) -> PathBuf {
    daemon.path(format!("var/lib/vgpud/instances/{}.json", uuid(number)))
}

/// One runs, one is stopped, one is defined, one has failed.
fn put_in_use(daemon: &Daemon) {
    for number in [1, 2] {
        daemon.create(uuid(number), "edu-1");
    }
    daemon.client.stop(uuid(2), false).unwrap();
    let failed = daemon.create(uuid(6), "edu-1");
    daemon.fail(failed.uuid);
    wait_for("a note of that", || {
        let record = fs::read_to_string(record(daemon, 6)).unwrap();
        record.contains(r#""outcome":"given-up""#).then_some(())
    });
    Request("PUT", definition(4), DEFINITION).granted(daemon);
}

#[test]
fn a_full_disk_changes_nothing() {
    let daemon = Daemon::start();
    put_in_use(&daemon);
    let record = |number| record(&daemon, number);
    let kept = |number| daemon.path(format!("etc/mdevctl.d/soft0/{}", uuid(number)));
    let edu = creation("edu-1");
    for (full, request) in [
        (record(3), Request("PUT", instance(3), &edu)),
        (record(4), Request("POST", instance(4) + "/start", NOTHING)),
        (record(1), Request("PATCH", instance(1), CHANGE)),
        (record(2), Request("PATCH", instance(2), CHANGE)),
        (record(2), Request("POST", instance(2) + "/start", NOTHING)),
        (record(6), Request("POST", instance(6) + "/stop", NOTHING)),
        (
            kept(4),
            Request("PUT", definition(4), r#"{"type":"edu-1"}"#),
        ),
        (kept(5), Request("PUT", definition(5), DEFINITION)),
    ] {
        let refused = (507, "ENOSPC", "No space left on device");
        request.refused(&daemon, refused, || fill_up(&full));
        request.granted(&daemon);
    }
}

#[test]
fn a_folder_that_may_not_be_written_changes_nothing() {
    let daemon = Daemon::start_powerless();
    put_in_use(&daemon);
    let records = "var/lib/vgpud/instances";
    let edu = creation("edu-1");
    for (folder, request) in [
        (records, Request("PUT", instance(3), &edu)),
        (records, Request("PATCH", instance(1), CHANGE)),
        (records, Request("PATCH", instance(2), CHANGE)),
        (records, Request("POST", instance(2) + "/start", NOTHING)),
        (records, Request("POST", instance(6) + "/stop", NOTHING)),
        ("run/vgpud", Request("PUT", instance(5), &edu)),
        (
            "etc/mdevctl.d/soft0",
            Request("PUT", definition(4), r#"{"type":"edu-1"}"#),
        ),
        (
            "etc/mdevctl.d/soft0",
            Request("DELETE", definition(4), NOTHING),
        ),
    ] {
        let allow = |mode| {
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(daemon.path(folder), mode).unwrap();
        };
        let refused = (500, "EACCES", "Permission denied");
        request.refused(&daemon, refused, || allow(0o500));
        allow(0o700);
        request.granted(&daemon);
    }
}

#[test]
fn a_worker_that_cannot_be_started_leaves_nothing() {
    let daemon = Daemon::start();
    // Its log cannot be made: a folder lies there.
    let log = daemon.path(format!("run/vgpud/{}.log", uuid(1)));
    fs::create_dir(&log).unwrap();
    let error = daemon
        .client
        .create(uuid(1), &request("edu-1"))
        .unwrap_err();
    assert_eq!(error.problem().unwrap().status, 500);
    fs::remove_dir(&log).unwrap();
    assert!(daemon.client.instances().unwrap().is_empty());
    assert_eq!(daemon.run_files(), [""; 0]);
    assert_eq!(daemon.records(), [""; 0]);
    daemon.create(uuid(1), "edu-1");
}

/// A worker that says what it was told, and takes none of it.
#[test]
fn a_worker_is_told_how_it_is_confined_and_its_refusal_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("worker");
    fs::write(&program, "#!/bin/sh\necho \"$@\" >&2\nexit 2\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let group = folder.path().join("group");
    fs::create_dir(&group).unwrap();
    let config = format!(
        "[workers]\nusers = {{ first = 600000, count = 9 }}\nmemory-limit = \"64M\"\n\
         cgroup = \"{}\"",
        group.display()
    );
    let daemon = Daemon::start_with_worker(&config, program);
    let refused = daemon
        .client
        .create(uuid(1), &request("edu-1"))
        .unwrap_err();
    let problem = refused.problem().unwrap();
    assert_eq!((problem.errno.as_str(), problem.status), ("EINVAL", 422));
    for told in [
        "--type edu-1",
        "--fd 3",
        "--user=600000",
        "--memory-limit=67108864",
        &format!("--cgroup={}/{}", group.display(), uuid(1)),
    ] {
        assert!(problem.detail.contains(told), "{told}: {}", problem.detail);
    }
    assert_eq!(support::names(&group), [""; 0]);
    assert_eq!(daemon.run_files(), [""; 0]);
    assert_eq!(daemon.records(), [""; 0]);
}
