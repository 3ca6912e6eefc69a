//! A worker of a device that is played: a process which sleeps, and threads that answer for it and for
//! its seats.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::net::{Shutdown, SocketFlags, accept_with, shutdown};
use tempfile::TempDir;
use uuid::Uuid;
use worker::protocol::{Answer, Envelope, FIXED, Request, Status};
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

pub(crate) const PARENT: &str = "0000:01:00.0";

/// Longer than anything here takes: a test fails after it rather than hang.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// What answers for the process.
#[derive(Default)]
pub(crate) struct Played {
    /// The seats that are taken.
    pub(crate) seats: Vec<PlayedSeat>,
    /// Who asks.
    askers: Vec<Arc<OwnedFd>>,
    listener: Option<Arc<OwnedFd>>,
    pid: u32,
    pub(crate) serves: u32,
    /// The seat that says nothing.
    muted: Option<String>,
    /// Whether it was asked to stop.
    pub(crate) is_stopped: bool,
}

pub(crate) struct PlayedSeat {
    /// That of its type, and its own.
    names: [String; 2],
    _files: SeatFiles,
    _line: OwnedFd,
    control: Arc<OwnedFd>,
    askers: Arc<Mutex<Vec<Arc<OwnedFd>>>>,
}

impl Drop for PlayedSeat {
    fn drop(&mut self) {
        let _ = shutdown(&*self.control, Shutdown::Both);
        for asker in self.askers.lock().unwrap().drain(..) {
            let _ = shutdown(&*asker, Shutdown::Both);
        }
    }
}

pub(crate) struct Rig {
    _root: TempDir,
    pub(crate) launcher: Launcher,
    pub(crate) device: Arc<HeldDevice>,
    pub(crate) child: Child,
    pub(crate) played: Arc<Mutex<Played>>,
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
    pub(crate) fn new() -> Self {
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
        let rig = Self {
            _root: root,
            launcher,
            device: Arc::new(HeldDevice::new(PARENT)),
            child,
            played,
        };
        rig.device.adopt(rig.process());
        rig
    }

    /// The process, as a daemon finds it.
    pub(crate) fn process(&self) -> DeviceProcess {
        let pid = self.child.id();
        DeviceProcess::new(
            &self.launcher.paths,
            PARENT,
            identity::open_pid(pid).unwrap(),
            identity::of(pid, &self.launcher.boot_id).unwrap(),
            Confinement::default(),
        )
    }

    /// Ends the seat of a type, or of a vGPU.
    pub(crate) fn end_seat(&self, name: &str) {
        let gone = self.played.lock().unwrap().take_seat(name);
        assert!(!gone.is_empty());
    }

    /// Has the seat of a vGPU say nothing from now on.
    pub(crate) fn mute(&self, name: &str) {
        self.played.lock().unwrap().muted = Some(name.to_owned());
    }

    pub(crate) fn plan(&self, type_name: &str) -> Plan {
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

    pub(crate) fn launch(&self, type_name: &str) -> Result<Worker, Error> {
        self.launcher.launch(&self.plan(type_name))
    }

    /// Ends what answers, as the end of the process would.
    pub(crate) fn end_played(&self) {
        let mut played = self.played.lock().unwrap();
        played.seats.clear();
        let listener = played.listener.take();
        for socket in played.askers.drain(..).chain(listener) {
            let _ = shutdown(&*socket, Shutdown::Both);
        }
    }

    /// What lies in the run folder, but for the folder of new sockets.
    pub(crate) fn files(&self) -> BTreeSet<String> {
        let names = fs::read_dir(self.launcher.paths.run()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != ".new").collect()
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

fn answer_all(asker: &OwnedFd, played: &Arc<Mutex<Played>>) {
    while let Ok(Some((document, fd))) = seqpacket::receive(asker) {
        let Envelope { request, .. } = serde_json::from_slice(&document).unwrap();
        let answer = played.lock().unwrap().answer(request, fd, played);
        let _ = seqpacket::send(asker, &serde_json::to_vec(&answer).unwrap(), None);
    }
}

impl Played {
    fn take_seat(&mut self, name: &str) -> Vec<PlayedSeat> {
        let is_its = |seat: &mut PlayedSeat| seat.names.iter().any(|its| its == name);
        self.seats.extract_if(.., is_its).collect()
    }

    fn answer(&mut self, request: Request, fd: Option<OwnedFd>, all: &Arc<Mutex<Self>>) -> Answer {
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
                        let name = seat.name.unwrap_or_default();
                        let names = [seat.type_name, name];
                        self.seats
                            .push(seat_of(names, files, line, self.pid, Arc::clone(all)));
                        Answer::Done
                    }
                }
            }
            Request::Stop => {
                self.is_stopped = true;
                Answer::Done
            }
            _ => Answer::Status(status(self.pid, Some(self.seats.len() as u64))),
        }
    }
}

fn status(pid: u32, seats: Option<u64>) -> Status {
    Status {
        type_name: "played".to_owned(),
        pid,
        seats,
        ..Status::default()
    }
}

fn seat_of(
    names: [String; 2],
    files: SeatFiles,
    line: OwnedFd,
    pid: u32,
    played: Arc<Mutex<Played>>,
) -> PlayedSeat {
    let name = names[1].clone();
    let control = Arc::new(files.control.try_clone().unwrap());
    let askers = Arc::<Mutex<Vec<_>>>::default();
    let (listener, those) = (Arc::clone(&control), Arc::clone(&askers));
    thread::spawn(move || {
        while let Ok(asker) = accept_with(&*listener, SocketFlags::CLOEXEC) {
            let asker = Arc::new(asker);
            those.lock().unwrap().push(Arc::clone(&asker));
            let (name, played) = (name.clone(), Arc::clone(&played));
            thread::spawn(move || answer_of_seat(&asker, pid, &name, &played));
        }
    });
    PlayedSeat {
        names,
        _files: files,
        _line: line,
        control,
        askers,
    }
}

/// All attributes but those that are shown can only be given to a new one.
fn answer_of_seat(asker: &OwnedFd, pid: u32, name: &str, played: &Mutex<Played>) {
    while let Ok(Some((document, _))) = seqpacket::receive(asker) {
        let Envelope { request, .. } = serde_json::from_slice(&document).unwrap();
        if played.lock().unwrap().muted.as_deref() == Some(name) {
            continue;
        }
        let answer = match request {
            Request::Status => Answer::Status(status(pid, None)),
            Request::SetAttribute { name, .. } if name != "foreground" => Answer::Error {
                errno: FIXED.to_owned(),
                message: format!("attribute '{name}' can only be given when it is created"),
            },
            Request::Stop => {
                let _ = seqpacket::send(asker, &serde_json::to_vec(&Answer::Done).unwrap(), None);
                let mut played = played.lock().unwrap();
                let gone = played.take_seat(name);
                drop(played);
                return drop(gone);
            }
            _ => Answer::Done,
        };
        let _ = seqpacket::send(asker, &serde_json::to_vec(&answer).unwrap(), None);
    }
}
