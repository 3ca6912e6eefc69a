//! The process of a fake worker.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{process, thread};

use mdev::keep::Park;
use rustix::fs::{MemfdFlags, fstat, memfd_create};
use rustix::net::{SocketFlags, accept_with};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use worker::parking::{CLIENT, Depositor, JOURNAL, LISTENER};
use worker::protocol::{Answer, Envelope, Request, Status};
use worker::resume::{self, Outlook, RESUME_REFUSED, Taking};
use worker::seqpacket;

use super::ARGUMENTS;

/// How often the client's thread looks whether it is to wait.
const LOOK: Duration = Duration::from_millis(2);

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
pub(super) fn run() {
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
        "starve" => {
            eprintln!("memory allocation of 4096 bytes failed");
            process::abort();
        }
        "refuse" => {
            let words = "of another make".to_owned();
            let _ = taking.answer(&resume::Answer::Refused { words });
            process::exit(RESUME_REFUSED.into());
        }
        "hang" => {
            // Until the daemon is gone, as the real one.
            let _ = seqpacket::receive(inherited(5));
            process::exit(0);
        }
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
            Request::HandOver if self.behaviour == "busy" => Answer::Error {
                errno: "EBUSY".to_owned(),
                message: "did not come to a stop".to_owned(),
            },
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
            ..Status::default()
        }
    }
}
