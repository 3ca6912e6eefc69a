//! What the kernel says of the process, and the process of itself.

use std::fs;
use std::os::unix::fs::MetadataExt;

use ::worker::arguments::SandboxMode;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::Signal;

use crate::worker::Worker;

/// A line of `/proc/PID/task/TID/status`.
fn field(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().trim_start_matches(':').trim().to_owned()
}

/// `status` of every thread, with its name.
fn threads(worker: &Worker) -> Vec<(String, String)> {
    let tasks = fs::read_dir(format!("/proc/{}/task", worker.child.id())).unwrap();
    // An asker's thread may end meanwhile.
    let status = |task: std::io::Result<fs::DirEntry>| {
        let status = fs::read_to_string(task.ok()?.path().join("status")).ok()?;
        Some((field(&status, "Name"), status))
    };
    tasks.filter_map(status).collect()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn every_thread_is_bound_also_those_that_the_device_started() {
    let mut worker = Worker::start("edu-1", &[]);
    let _control = worker.control();
    let all = [
        "vgpu-worker",
        "device",
        "edu-engine",
        "accept",
        "control",
        "asker",
    ];
    // A thread takes its name when it first runs.
    worker.wait_until("all threads are there", |worker| {
        let threads = threads(worker);
        let is_there = |name: &&str| threads.iter().any(|(it, _)| it == name);
        all.iter().all(is_there)
    });
    let threads = threads(&worker);
    for (name, status) in threads {
        for (what, expected) in [
            ("NoNewPrivs", "1"),
            ("Seccomp", "2"),
            ("CapEff", "0000000000000000"),
            ("CapPrm", "0000000000000000"),
            ("CapInh", "0000000000000000"),
            ("CapAmb", "0000000000000000"),
        ] {
            assert_eq!(field(&status, what), expected, "{name}: {what}");
        }
        if is_root() {
            assert_eq!(field(&status, "CapBnd"), "0000000000000000", "{name}");
        }
    }
}

#[test]
fn the_status_tells_how_it_is_confined() {
    for (option, mode) in [
        ("on", SandboxMode::On),
        ("log", SandboxMode::Log),
        ("off", SandboxMode::Off),
    ] {
        let worker = Worker::start("serial-1", &["--sandbox", option]);
        let sandbox = worker.control().status().unwrap().sandbox;
        assert_eq!(sandbox.seccomp, mode);
        let is_confined = mode != SandboxMode::Off;
        assert_eq!(sandbox.no_new_privs, is_confined, "{option}");
        assert_eq!(sandbox.capabilities == 0, is_confined || !is_root());
        assert_eq!(sandbox.user, rustix::process::getuid().as_raw());
        assert_eq!(
            worker.log().contains("the process is not confined"),
            !is_confined
        );
        worker.stop();
    }
}

#[test]
fn limits_are_set_and_debuggers_kept_away_unless_asked_for() {
    for (more, core, owner_may_look) in [
        (&["--memory-limit", "64M"][..], "0", false),
        (&["--memory-limit", "64M", "--debuggable"], "", true),
    ] {
        let worker = Worker::start("serial-1", more);
        let pid = worker.child.id();
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = |name: &str| {
            let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
            line[name.len()..]
                .split_whitespace()
                .take(2)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(line("Max data size"), format!("{0} {0}", 64 << 20));
        assert_eq!(line("Max open files"), "4096 4096");
        if !owner_may_look {
            assert_eq!(line("Max core file size"), format!("{core} {core}"));
        }
        // What is not dumpable belongs to root: proc(5).
        if !is_root() {
            let owner = fs::metadata(format!("/proc/{pid}/mem")).unwrap().uid();
            assert_eq!(owner != 0, owner_may_look);
        }
        worker.stop();
    }
}

/// Only root can start a worker as another user.
#[test]
fn a_worker_of_root_becomes_another_user_in_no_group() {
    if !is_root() {
        eprintln!("NOT RUN: this takes root");
        return;
    }
    let worker = Worker::start("edu-1", &["--user", "54321:54322"]);
    for (name, status) in threads(&worker) {
        assert_eq!(field(&status, "Uid"), ["54321"; 4].join("\t"), "{name}");
        assert_eq!(field(&status, "Gid"), ["54322"; 4].join("\t"), "{name}");
        assert_eq!(field(&status, "Groups"), "", "{name}");
        assert_eq!(field(&status, "CapEff"), "0000000000000000", "{name}");
    }
    let owner = fs::metadata(format!("/proc/{}/mem", worker.child.id()));
    assert_eq!(owner.unwrap().uid(), 0, "nobody of that user looks into it");
    assert_eq!(worker.control().status().unwrap().sandbox.user, 54321);
    let mut client = worker.client();
    crate::guest::interrupt(&mut client);
}

#[test]
fn it_ends_well_on_a_signal_and_when_told() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut worker = Worker::start("bochs-4m", &[]);
        let _client = worker.client();
        worker.signal(signal);
        assert!(worker.end().success(), "{}", worker.log());
        assert!(!worker.path("sock").exists() && !worker.path("control").exists());
    }
    Worker::start("bochs-4m", &[]).stop();
}

#[test]
fn what_somebody_left_open_is_closed() {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    fcntl_setfd(&writer, FdFlags::empty()).unwrap();
    let worker = Worker::start("serial-1", &[]);
    drop(writer);
    // Other workers that were started meanwhile have closed it as well.
    let limit = Timespec {
        tv_sec: 20,
        tv_nsec: 0,
    };
    let mut ends = [PollFd::new(&reader, PollFlags::IN)];
    assert_eq!(poll(&mut ends, Some(&limit)), Ok(1));
    assert_eq!(ends[0].revents(), PollFlags::HUP);
    worker.stop();
}
