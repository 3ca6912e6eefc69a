//! A worker without a device, which hands over and takes over as the real one does: this test program
//! itself, started again by a script that the daemon takes for `vgpu-worker`.
//!
//! Its client sends bytes. 'i' is answered with the inode of the journal, 'p' with the number of the
//! process (eight bytes each), 'n' with nothing at all; 'a' aborts it; any other comes back. What is
//! in the file `behaviour`, beside the control socket, has it misbehave.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each test program uses a part of it, and none outlives a surprise"
)]

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{process, thread};

use mdev::keep::Park;
use rustix::fs::{MemfdFlags, fstat, memfd_create};
use rustix::net::{SocketFlags, accept_with};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use vgpud::api::{Event, EventKind, Instance, InstanceState};
use worker::parking::{CLIENT, Depositor, JOURNAL, LISTENER};
use worker::protocol::{Answer, Counters, Envelope, Request, Sandbox, Status};
use worker::resume::{self, Outlook, RESUME_REFUSED, Taking};
use worker::seqpacket;

use crate::support::{Daemon, wait_for};

/// What the script passes the arguments in.
const ARGUMENTS: &str = "FAKE_WORKER";

/// How often the client's thread looks whether it is to wait.
const LOOK: Duration = Duration::from_millis(2);

/// The test that becomes a worker: it must call [`run`].
const TEST: &str = "the_fake_worker";

/// The script that starts it, made in `folder`.
fn program(folder: &Path) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let script = folder.join("vgpu-worker");
    let text = format!(
        "#!/bin/sh\n{ARGUMENTS}=\"$*\" exec '{}' --ignored --exact {TEST} --nocapture\n",
        own.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script
}

/// A daemon whose workers are fakes, and the folder with their program.
pub fn daemon_with(config: &str) -> (Daemon, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let program = program(folder.path());
    (Daemon::start_with_worker(config, program), folder)
}

/// The first event of a kind, when it has come.
pub fn event(daemon: &Daemon, kind: EventKind) -> Event {
    let mut found = None;
    let see = |event: Event| {
        let is_it = event.kind == kind;
        found = is_it.then_some(event);
        !is_it
    };
    daemon.client.events(Some(0), see).unwrap();
    found.unwrap()
}

pub fn pid_of(instance: &Instance) -> u64 {
    instance.pid.unwrap().into()
}

/// Waits until another process serves.
pub fn wait_other(daemon: &Daemon, old: &Instance) -> Instance {
    wait_for("another worker", || {
        let instance = daemon.client.instance(old.uuid).unwrap();
        let is_other = instance.pid.is_some() && instance.pid != old.pid;
        (is_other && instance.state == InstanceState::Running).then_some(instance)
    })
}

/// Has workers that are started from now on misbehave; "" for not.
pub fn behave(daemon: &Daemon, how: &str) {
    fs::write(daemon.path("run/vgpud/behaviour"), how).unwrap();
}

/// A client of a fake.
pub struct Vmm(pub UnixStream);

impl Vmm {
    pub fn connect(path: &str) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        Self(stream)
    }

    pub fn ask(&mut self, what: u8) -> u64 {
        self.0.write_all(&[what]).unwrap();
        let mut answer = [0; 8];
        self.0.read_exact(&mut answer).unwrap();
        u64::from_le_bytes(answer)
    }

    pub fn echo(&mut self, byte: u8) {
        self.0.write_all(&[byte]).unwrap();
        let mut back = [0];
        self.0.read_exact(&mut back).unwrap();
        assert_eq!(back, [byte]);
    }
}

struct Fake {
    keeper: Mutex<Depositor>,
    listener: OwnedFd,
    journal: OwnedFd,
    client: Mutex<Option<Arc<UnixStream>>>,
    /// Held while a request is served, and while another is to take over.
    turn: Mutex<bool>,
    type_name: String,
    behaviour: String,
}

/// Becomes a worker, if the script says so.
pub fn run() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else {
        return;
    };
    let mut words = arguments.split(' ');
    let (mut control, mut type_name, mut is_heir) = (None, String::new(), false);
    while let Some(word) = words.next() {
        match word {
            "--control" => control = words.next(),
            "--type" => type_name = words.next().unwrap().to_owned(),
            "--resume" => is_heir = true,
            _ => {}
        }
    }
    let control = Path::new(control.unwrap());
    let behaviour = control.with_file_name("behaviour");
    let behaviour = fs::read_to_string(behaviour).unwrap_or_default();
    let fake = match is_heir {
        true => take_over(type_name, behaviour),
        false => begin(type_name, behaviour),
    };
    let fake = Arc::new(fake);
    let socket = seqpacket::listen_at(control).unwrap();
    for serve in [Fake::accept, Fake::serve] {
        let fake = Arc::clone(&fake);
        thread::spawn(move || serve(&fake));
    }
    loop {
        let asker = accept_with(&socket, SocketFlags::CLOEXEC).unwrap();
        let fake = Arc::clone(&fake);
        thread::spawn(move || fake.obey(&asker));
    }
}

/// A descriptor that was inherited under this number.
fn inherited(number: i32) -> OwnedFd {
    let own = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    pidfd_getfd(own, number, PidfdGetfdFlags::empty()).unwrap()
}

fn begin(type_name: String, behaviour: String) -> Fake {
    let journal = memfd_create("journal", MemfdFlags::CLOEXEC).unwrap();
    let fake = Fake {
        keeper: Mutex::new(Depositor::new(inherited(4))),
        listener: inherited(3),
        journal,
        client: Mutex::default(),
        turn: Mutex::new(false),
        type_name,
        behaviour,
    };
    fake.park_all();
    fake
}

fn take_over(type_name: String, behaviour: String) -> Fake {
    let taking = Taking::new(inherited(5));
    let mut parked = taking.take().unwrap();
    match behaviour.as_str() {
        "die" => {
            eprintln!("vgpu-worker: too new");
            process::exit(1);
        }
        "refuse" => {
            let words = "of another make".to_owned();
            let _ = taking.answer(&resume::Answer::Refused { words });
            process::exit(RESUME_REFUSED.into());
        }
        "hang" => loop {
            thread::park();
        },
        _ => {}
    }
    let client = parked.remove(&CLIENT).map(UnixStream::from);
    let outlook = Outlook {
        connected: client.is_some(),
        exact: true,
        skipped: None,
    };
    if !taking.answer(&resume::Answer::Ready(outlook)).unwrap() {
        process::exit(0);
    }
    if behaviour == "die-later" {
        process::abort();
    }
    Fake {
        keeper: Mutex::new(Depositor::new(inherited(4))),
        listener: parked.remove(&LISTENER).unwrap(),
        journal: parked.remove(&JOURNAL).unwrap(),
        client: Mutex::new(client.map(Arc::new)),
        turn: Mutex::new(false),
        type_name,
        behaviour,
    }
}

impl Fake {
    fn park_all(&self) {
        let mut all = vec![
            (JOURNAL, self.journal.as_fd()),
            (LISTENER, self.listener.as_fd()),
        ];
        let client = self.client.lock().unwrap();
        all.extend(client.as_ref().map(|client| (CLIENT, client.as_fd())));
        self.park(&all);
    }

    fn park(&self, all: &[(u32, BorrowedFd<'_>)]) {
        if self.behaviour != "careless" {
            self.keeper.lock().unwrap().park(all).unwrap();
        }
    }

    fn accept(&self) {
        let listener = UnixListener::from(self.listener.try_clone().unwrap());
        loop {
            let (client, _) = listener.accept().unwrap();
            self.park(&[(CLIENT, client.as_fd())]);
            *self.client.lock().unwrap() = Some(Arc::new(client));
        }
    }

    fn serve(&self) {
        loop {
            let client = self.client.lock().unwrap().clone();
            let Some(client) = client else {
                thread::sleep(LOOK);
                continue;
            };
            let waits = self.turn.lock().unwrap();
            client.set_read_timeout(Some(LOOK)).unwrap();
            let mut byte = [0];
            if *waits || (&*client).read(&mut byte).ok() != Some(1) {
                drop(waits);
                thread::sleep(LOOK);
                continue;
            }
            let answer = match byte[0] {
                b'a' => process::abort(),
                b'i' => fstat(&self.journal).unwrap().st_ino.to_le_bytes().to_vec(),
                b'p' => u64::from(process::id()).to_le_bytes().to_vec(),
                b'n' => Vec::new(),
                _ => byte.to_vec(),
            };
            (&*client).write_all(&answer).unwrap();
        }
    }

    fn obey(&self, asker: &OwnedFd) {
        while let Ok(Some((document, fd))) = seqpacket::receive(asker) {
            let Envelope { request, .. } = serde_json::from_slice(&document).unwrap();
            let answer = self.answer(&request, fd);
            seqpacket::send(asker, &serde_json::to_vec(&answer).unwrap(), None).unwrap();
            if matches!(request, Request::Stop | Request::Leave) {
                process::exit(0);
            }
        }
    }

    fn answer(&self, request: &Request, fd: Option<OwnedFd>) -> Answer {
        match request {
            Request::Status => Answer::Status(self.status()),
            Request::Adopt if self.behaviour == "proud" => Answer::Error {
                errno: "EINVAL".to_owned(),
                message: "not a request".to_owned(),
            },
            Request::Adopt => {
                *self.keeper.lock().unwrap() = Depositor::new(fd.unwrap());
                self.park_all();
                Answer::Done
            }
            Request::HandOver => {
                *self.turn.lock().unwrap() = true;
                Answer::Done
            }
            Request::GoOn => {
                *self.turn.lock().unwrap() = false;
                Answer::Done
            }
            // One that hangs is ended by force.
            Request::Stop if self.behaviour == "abort-on-stop" => process::abort(),
            _ => Answer::Done,
        }
    }

    fn status(&self) -> Status {
        Status {
            type_name: self.type_name.clone(),
            pid: process::id(),
            connected: self.client.lock().unwrap().is_some(),
            scanout: None,
            attributes: Vec::new(),
            counters: Counters::default(),
            sandbox: Sandbox::default(),
            mappings: 0,
            pinned_pages: 0,
        }
    }
}
