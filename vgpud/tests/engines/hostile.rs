//! A worker that somebody has broken into: this test program itself, started by a script that the
//! daemon takes for `vgpu-worker`. It does nothing for its client, and with its lease what it was told.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{hint, process, thread};

use mdev::engine::{EngineLease, now};
use mdev::sched::Class;
use mdev::sched::lease::{Page, UsageWords};
use rustix::net::{SocketFlags, accept_with};
use worker::protocol::{Answer, Envelope, Request, Status};
use worker::{lending, seqpacket};

use crate::support::{Daemon, uuid, worker_program};

/// What the script passes on: what it is to do, and the arguments.
const HOW: &str = "HOSTILE";
const ARGUMENTS: &str = "HOSTILE_WORKER";

/// The test that becomes a worker.
const TEST: &str = "hostile::the_worker";

/// It ends by itself, should its test not live to end it.
const LIFE: Duration = Duration::from_secs(120);

/// How long it lies in wait at a time.
const WHILE: Duration = Duration::from_millis(3);

/// What it does. Whatever it is, it says that it has used nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    /// It says that it has a job, and sleeps: always another one, each for less than a lease.
    Sleeps,
    /// It has the CPUs work, and says that it does nothing.
    Burns,
    /// It says that it has a job, which never ends.
    Hangs,
}

/// A daemon whose worker number 1 does that; the others are as usual. And the folder of its program.
pub(crate) fn daemon_with(config: &str, how: How) -> (Daemon, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let program = script(folder.path(), how);
    (Daemon::start_with_worker(config, program), folder)
}

fn script(folder: &Path, how: How) -> PathBuf {
    let (own, usual) = (std::env::current_exe().unwrap(), worker_program());
    let script = folder.join("vgpu-worker");
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in *{}*) {HOW}={how:?} {ARGUMENTS}=\"$*\" exec '{}' --ignored --exact \
         {TEST} --nocapture ;; esac\nexec '{}' \"$@\"\n",
        uuid(1),
        own.display(),
        usual.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script
}

#[test]
#[ignore = "it is the worker of the other tests"]
fn the_worker() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else {
        return;
    };
    thread::spawn(|| {
        thread::sleep(LIFE);
        process::exit(1);
    });
    let how = match std::env::var(HOW).as_deref() {
        Ok("Sleeps") => How::Sleeps,
        Ok("Burns") => How::Burns,
        _ => How::Hangs,
    };
    let mut words = arguments.split(' ');
    let control = words
        .by_ref()
        .skip_while(|word| *word != "--control")
        .nth(1);
    let socket = seqpacket::listen_at(Path::new(control.unwrap())).unwrap();
    loop {
        let asker = accept_with(&socket, SocketFlags::CLOEXEC).unwrap();
        thread::spawn(move || obey(&asker, how));
    }
}

fn obey(asker: &OwnedFd, how: How) {
    while let Ok(Some((document, fd))) = seqpacket::receive(asker) {
        let Envelope { request, .. } = serde_json::from_slice(&document).unwrap();
        let answer = match request {
            Request::Status => Answer::Status(status()),
            Request::Lend => {
                thread::spawn(move || use_lease(fd.unwrap(), how));
                Answer::Done
            }
            _ => Answer::Done,
        };
        seqpacket::send(asker, &serde_json::to_vec(&answer).unwrap(), None).unwrap();
        if matches!(request, Request::Stop) {
            process::exit(0);
        }
    }
}

fn status() -> Status {
    Status {
        type_name: "edu-1".to_owned(),
        pid: process::id(),
        ..Status::default()
    }
}

fn use_lease(socket: OwnedFd, how: How) {
    let [grant, usage] = lending::pages(&socket).unwrap();
    let usage: Page<UsageWords> = Page::open(usage).unwrap();
    if matches!(how, How::Burns) {
        for _ in 0..4 {
            thread::spawn(|| {
                loop {
                    hint::spin_loop();
                }
            });
        }
        return thread::park();
    }
    // It waits for its turn as others do; what it says of itself goes to a page that nobody reads.
    let decoy = Page::<UsageWords>::new().unwrap();
    let lease = EngineLease::awaited().unwrap();
    let unread = decoy.as_fd().try_clone_to_owned().unwrap();
    lease.connect(socket, grant, unread).unwrap();
    for job in 1.. {
        usage.set_queued(Class::Render, 1);
        let turn = lease.submit(Class::Render).begin().unwrap();
        usage.announce(job, now());
        match how {
            How::Hangs => thread::park(),
            How::Sleeps | How::Burns => thread::sleep(WHILE),
        }
        usage.set_queued(Class::Render, 0);
        usage.retract();
        drop(turn);
    }
}
