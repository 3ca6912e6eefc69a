//! Seats in a worker that is played: a process which sleeps, and a thread that answers for it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::net::{Shutdown, SocketFlags, accept_with, shutdown};
use rustix::process::Signal;
use tempfile::TempDir;
use uuid::Uuid;
use worker::protocol::{Answer, Envelope, Request, Status};
use worker::seat::{SeatFiles, park_parent};
use worker::seqpacket;

use super::*;
use crate::accounts::Access;
use crate::api::SocketAccess;
use crate::paths::Paths;
use crate::worker_process::Worker;
use crate::worker_process::identity;
use crate::worker_process::launch::Plan;
use crate::worker_process::seat::SeatPlan;

const PARENT: &str = "0000:01:00.0";

/// Longer than anything here takes: a test fails after it rather than hang.
const LIMIT: Duration = Duration::from_secs(20);

/// What answers for the process.
#[derive(Default)]
struct Played {
    /// The seats that are taken, each with its line, by the names of their types.
    seats: BTreeMap<String, (SeatFiles, OwnedFd)>,
    /// Who asks.
    askers: Vec<Arc<OwnedFd>>,
    listener: Option<Arc<OwnedFd>>,
    pid: u32,
    serves: u32,
}

struct Rig {
    _root: TempDir,
    launcher: Launcher,
    device: Arc<HeldDevice>,
    child: Child,
    played: Arc<Mutex<Played>>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.end_played();
    }
}

impl Rig {
    /// A device whose worker an earlier daemon started.
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(root.path());
        fs::create_dir_all(paths.run()).unwrap();
        let launcher = Launcher {
            program: PathBuf::from("/nonexistent"),
            boot_id: identity::boot_id().unwrap(),
            paths,
        };
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let listener = seqpacket::listen_at(&launcher.paths.device_control(PARENT)).unwrap();
        let played = Arc::new(Mutex::new(Played {
            listener: Some(Arc::new(listener)),
            pid: child.id(),
            ..Played::default()
        }));
        let answering = Arc::clone(&played);
        thread::spawn(move || accept(&answering));
        let pid = child.id();
        let process = DeviceProcess::new(
            &launcher.paths,
            PARENT,
            identity::open_pid(pid).unwrap(),
            identity::of(pid, &launcher.boot_id).unwrap(),
            Confinement::default(),
        );
        let device = Arc::new(HeldDevice::new(PARENT));
        device.adopt(process);
        Self {
            _root: root,
            launcher,
            device,
            child,
            played,
        }
    }

    fn plan(&self, type_name: &str) -> Plan {
        let usual = SocketAccess::default();
        Plan {
            name: Uuid::from_u128(1).into(),
            base: type_name.to_owned(),
            attributes: Vec::new(),
            access: Access::resolve(&usual, &usual).unwrap(),
            confinement: Confinement::default(),
            seat: Some(SeatPlan {
                held: Arc::clone(&self.device),
                device: DevicePlan {
                    host: HostParent {
                        address: PARENT.parse().unwrap(),
                        address_bits: 32,
                        lock_limit: None,
                        settings: Vec::new(),
                    },
                    confinement: Confinement::default(),
                },
                leased: false,
            }),
        }
    }

    fn launch(&self, type_name: &str) -> Result<Worker, Error> {
        self.launcher.launch(&self.plan(type_name))
    }

    /// Ends what answers, as the end of the process would.
    fn end_played(&self) {
        let mut played = self.played.lock().unwrap();
        played.seats.clear();
        let listener = played.listener.take();
        for socket in played.askers.drain(..).chain(listener) {
            let _ = shutdown(&*socket, Shutdown::Both);
        }
    }

    fn files(&self) -> usize {
        fs::read_dir(self.launcher.paths.run()).unwrap().count()
    }
}

fn accept(played: &Arc<Mutex<Played>>) {
    let listener = played.lock().unwrap().listener.clone().unwrap();
    while let Ok(asker) = accept_with(&*listener, SocketFlags::CLOEXEC) {
        let (asker, answering) = (Arc::new(asker), Arc::clone(played));
        played.lock().unwrap().askers.push(Arc::clone(&asker));
        thread::spawn(move || answer_all(&asker, &answering));
    }
}

fn answer_all(asker: &OwnedFd, played: &Mutex<Played>) {
    while let Ok(Some((document, fd))) = seqpacket::receive(asker) {
        let Envelope { request, .. } = serde_json::from_slice(&document).unwrap();
        let answer = played.lock().unwrap().answer(request, fd);
        let _ = seqpacket::send(asker, &serde_json::to_vec(&answer).unwrap(), None);
    }
}

impl Played {
    fn answer(&mut self, request: Request, fd: Option<OwnedFd>) -> Answer {
        match request {
            Request::Adopt => {
                let file = || File::open("/dev/null").unwrap().into();
                let files = HostFiles {
                    container: file(),
                    group: file(),
                    device: file(),
                };
                park_parent(&fd.unwrap(), &files).unwrap();
                Answer::Done
            }
            Request::Serve(seat) => {
                self.serves += 1;
                let line = fd.unwrap();
                let files = SeatFiles::accept(&line).unwrap();
                match seat.type_name.split_once(':') {
                    Some((errno, message)) => Answer::Error {
                        errno: errno.to_owned(),
                        message: message.to_owned(),
                    },
                    None => {
                        self.seats.insert(seat.type_name, (files, line));
                        Answer::Done
                    }
                }
            }
            _ => Answer::Status(Status {
                type_name: "played".to_owned(),
                pid: self.pid,
                seats: Some(self.seats.len() as u64),
                ..Status::default()
            }),
        }
    }
}

#[test]
fn a_seat_that_ends_alone_is_told_from_the_end_of_its_process() {
    let mut rig = Rig::new();
    let (one, two) = (rig.launch("one").unwrap(), rig.launch("two").unwrap());
    assert_eq!(one.identity.pid, rig.child.id());
    assert!(!one.life.has_ended_within(Duration::ZERO));
    let gone = rig.played.lock().unwrap().seats.remove("one");
    drop(gone);
    assert!(one.life.has_ended_within(LIMIT));
    assert!(!two.life.has_ended_within(Duration::ZERO));
    let exit = one.life.reap(&one.log);
    assert_eq!((exit.signal, exit.code), (None, None));
    assert!(exit.reason.contains("goes on"), "{}", exit.reason);

    // Not by any signal but the one that ends them all.
    two.life.signal(Signal::TERM);
    assert!(rig.child.try_wait().unwrap().is_none());
    two.life.signal(Signal::KILL);
    rig.end_played();
    assert!(two.life.has_ended_within(LIMIT));
    let exit = two.life.reap(&two.log);
    assert_eq!(exit.signal, Some(9), "{}", exit.reason);
    // It is reaped once, and told to each.
    assert_eq!(one.life.reap(&one.log).signal, Some(9));
}

#[test]
fn who_asks_for_a_seat_after_the_process_died_has_another_started() {
    let rig = Rig::new();
    let worker = rig.launch("one").unwrap();
    worker.life.signal(Signal::KILL);
    rig.end_played();
    let before = rig.files();
    let refused = rig.launch("two").unwrap_err().to_string();
    // There is no program here that would.
    assert!(refused.contains("start /nonexistent"), "{refused}");
    assert!(
        rig.files() <= before,
        "nothing is left of the one that failed"
    );
}

#[test]
fn a_seat_that_is_refused_leaves_nothing_and_says_why() {
    let rig = Rig::new();
    let before = rig.files();
    for (type_name, errno, status, words) in [
        (
            "EINVAL:no such attribute",
            "EINVAL",
            422,
            "no such attribute",
        ),
        ("ENOMEM:no lock", "ENOMEM", 409, "no lock"),
        ("EUSERS:no room", "EUSERS", 409, "no room"),
        ("ENOSPC:no slice", "ENOSPC", 409, "no slice"),
    ] {
        let refused = rig.launch(type_name).unwrap_err();
        assert_eq!((refused.errno(), refused.status()), (errno, status));
        assert!(refused.to_string().contains(words), "{refused}");
    }
    // The folder for new sockets is made with the first.
    assert!(rig.files() <= before + 1);
    assert_eq!(rig.played.lock().unwrap().serves, 4);
}

#[test]
fn a_device_is_given_back_once_nobody_uses_it() {
    let mut rig = Rig::new();
    rig.device.give_back(|| true);
    assert!(rig.device.process().is_some());
    // Asked to stop, it goes.
    let ending = {
        let pid = rig.child.id();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            let pidfd = identity::open_pid(pid).unwrap();
            rustix::process::pidfd_send_signal(pidfd, Signal::TERM).unwrap();
        })
    };
    rig.device.give_back(|| false);
    ending.join().unwrap();
    assert!(rig.device.process().is_none());
    assert!(rig.child.try_wait().is_err() || rig.child.try_wait().unwrap().is_some());
    assert!(!rig.launcher.paths.device_control(PARENT).exists());
}
