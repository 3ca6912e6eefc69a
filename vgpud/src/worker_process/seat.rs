//! A vGPU that shares a physical device takes a seat in the device's worker.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mdev::host::HostError;
use uuid::Uuid;
use worker::control::{Control, ControlError};
use worker::parking::Parking;
use worker::protocol::{self, SeatRequest};
use worker::resume::Handing;
use worker::seat::SeatFiles;

use crate::api::Attribute;
use crate::error::Error;
use crate::held::process::DeviceProcess;
use crate::held::{DevicePlan, HeldDevice};

use super::keeping::Keeping;
use super::launch::{Launcher, Plan};
use super::life::{DYING, Life, Seat};
use super::socket::SocketFile;
use super::successor::{Process, Successor};
use super::{Worker, socket};

/// How a seat is taken.
#[derive(Clone, Debug)]
pub(crate) struct SeatPlan {
    pub(crate) held: Arc<HeldDevice>,
    pub(crate) device: DevicePlan,
    /// Whether it waits for the engine that it shares.
    pub(crate) leased: bool,
}

/// A seat that is to be taken.
#[derive(Debug)]
pub(super) struct Vacant {
    uuid: Uuid,
    how: SeatPlan,
    process: Arc<DeviceProcess>,
    request: SeatRequest,
    files: SeatFiles,
    parking: Parking,
}

impl Launcher {
    /// Has a vGPU served by the worker of its device, which is started if need be. On error nothing of
    /// it is left.
    pub(super) fn take_seat(&self, plan: &Plan, how: &SeatPlan) -> Result<Worker, Error> {
        let (listener, socket_file) = socket::bind(&self.paths, plan.name, plan.access)?;
        let (vacant, control_file) = self.find_seat(plan, how, listener, None)?;
        let log = vacant.log().to_owned();
        let Process {
            life,
            identity,
            parking,
        } = vacant.fill(|| Ok(()))?;
        socket_file.keep();
        control_file.keep();
        let (control, keeping) = (self.paths.control(plan.name), Keeping::new(parking));
        Ok(Worker::new(life, identity, control, log, keeping))
    }

    /// One that is to go on from another, with the socket where clients connect.
    pub(super) fn start_seat_successor(
        &self,
        plan: &Plan,
        how: &SeatPlan,
        listener: OwnedFd,
    ) -> Result<Successor, Error> {
        let (handing, resume) = Handing::new().map_err(Error::os("make a socket pair"))?;
        let (vacant, control_file) = self.find_seat(plan, how, listener, Some(resume))?;
        control_file.keep();
        let control = self.paths.control(plan.name);
        Ok(Successor::seated(plan, vacant, handing, control))
    }

    fn find_seat(
        &self,
        plan: &Plan,
        how: &SeatPlan,
        listener: OwnedFd,
        resume: Option<OwnedFd>,
    ) -> Result<(Vacant, SocketFile), Error> {
        let process = how.held.worker(self, &how.device)?;
        let (control, control_file) = socket::bind_control(&self.paths, plan.name)?;
        let (parking, keeper) = Parking::new().map_err(Error::os("make a socket pair"))?;
        let vacant = Vacant {
            uuid: plan.name.uuid,
            how: how.clone(),
            process,
            request: request(plan, how),
            files: SeatFiles {
                listener,
                control,
                keeper: Some(keeper),
                resume,
            },
            parking,
        };
        Ok((vacant, control_file))
    }
}

impl Vacant {
    /// What whoever takes it says.
    pub(super) fn log(&self) -> &Path {
        &self.process.log
    }

    /// Takes it; see [`Control::serve`].
    pub(super) fn fill(self, meanwhile: impl FnOnce() -> io::Result<()>) -> Result<Process, Error> {
        let asked = reach(&self.process)
            .and_then(|control| control.serve(&self.request, &self.files, meanwhile));
        let line = match asked {
            Ok(line) => line,
            Err(error) => return Err(self.why_not(error)),
        };
        let life = Life::Seat(Seat {
            uuid: self.uuid,
            line,
            process: Arc::clone(&self.process),
            device: self.how.held,
        });
        Ok(Process {
            life,
            identity: self.process.identity.clone(),
            parking: self.parking,
        })
    }

    fn why_not(&self, error: ControlError) -> Error {
        match error {
            // What a process of its own would end with.
            ControlError::Refused { errno, message } if errno == "EINVAL" => {
                Error::Invalid(message)
            }
            ControlError::Refused { errno, message } if is_about_locks(&errno, &message) => {
                Error::Locked {
                    parent: self.how.device.host.address.to_string(),
                    message,
                }
            }
            ControlError::Refused { errno, message } => Error::Refused { errno, message },
            mute if self.process.is_dying(DYING) => {
                let exit = self.how.held.reap(&self.process);
                let words = exit.last_words.unwrap_or_else(|| mute.to_string());
                Error::Stillborn(self.uuid, format!("{} ({words})", exit.reason))
            }
            mute => Error::Mute(self.uuid, mute.to_string()),
        }
    }
}

/// Whether memory could not be locked. Of other memory there may be too little as well, which no higher
/// limit on locks helps.
fn is_about_locks(errno: &str, message: &str) -> bool {
    errno == "ENOMEM" && message.contains(&HostError::MemoryLock.to_string())
}

/// How long a worker may have no thread for one who asks, and how soon it is asked again.
const CROWDED: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(20);

/// Connects to a device's worker, and returns once that answers. One that has too many askers hangs up:
/// that is no word on what it would have been asked for.
fn reach(process: &DeviceProcess) -> Result<Control, ControlError> {
    let begun = Instant::now();
    loop {
        let asked = Control::connect(&process.control);
        match asked.and_then(|control| control.status().map(|_| control)) {
            Err(ControlError::Io(error))
                if is_hung_up(&error) && begun.elapsed() < CROWDED && !process.has_ended() =>
            {
                thread::sleep(AGAIN);
            }
            reached => return reached,
        }
    }
}

fn is_hung_up(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// What the device's worker is asked for.
fn request(plan: &Plan, how: &SeatPlan) -> SeatRequest {
    let attributes = plan.attributes.iter();
    let attributes = attributes.map(|Attribute { name, value }| protocol::Attribute {
        name: name.clone(),
        value: value.clone(),
    });
    SeatRequest {
        type_name: plan.base.clone(),
        attributes: attributes.collect(),
        name: Some(plan.name.to_string()),
        leased: how.leased,
        ..SeatRequest::default()
    }
}

/// A line to a seat that an earlier daemon took; `None` if nobody listens there any more. However long
/// it takes to answer, it lives: nothing is asked. Blocks.
pub(crate) fn find(
    uuid: Uuid,
    control: &Path,
    held: &Arc<HeldDevice>,
    process: &Arc<DeviceProcess>,
) -> Result<Option<Life>, ControlError> {
    let line = match Control::connect(control) {
        Ok(asking) => asking.into_socket(),
        Err(ControlError::Io(error)) if is_nobody(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some(Life::Seat(Seat {
        uuid,
        // Its worker closes it when the seat ends.
        line,
        process: Arc::clone(process),
        device: Arc::clone(held),
    })))
}

/// Whether nobody listens: the socket is not there, or its worker is gone.
pub(crate) fn is_nobody(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::net::{SocketFlags, accept_with};
    use worker::protocol::{Answer, Counters, Sandbox, Status};
    use worker::seqpacket;

    use super::*;
    use crate::paths::Paths;
    use crate::worker_process::confinement::Confinement;
    use crate::worker_process::identity;

    const PARENT: &str = "0000:00:00.0";

    fn status() -> Answer {
        Answer::Status(Status {
            type_name: "fake".to_owned(),
            pid: std::process::id(),
            connected: false,
            scanout: None,
            further_scanouts: Vec::new(),
            attributes: Vec::new(),
            counters: Counters::default(),
            sandbox: Sandbox::default(),
            mappings: 0,
            pinned_pages: 0,
            seats: Some(0),
        })
    }

    #[test]
    fn a_worker_that_hangs_up_on_one_asker_too_many_is_asked_again() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(root.path());
        fs::create_dir_all(paths.run()).unwrap();
        let pid = std::process::id();
        let process = DeviceProcess::new(
            &paths,
            PARENT,
            identity::open_pid(pid).unwrap(),
            identity::of(pid, "this boot").unwrap(),
            Confinement::default(),
        );
        let listener = seqpacket::listen_at(&paths.device_control(PARENT)).unwrap();
        let answering = thread::spawn(move || {
            let next = || accept_with(&listener, SocketFlags::CLOEXEC).unwrap();
            for _ in 0..3 {
                drop(next());
            }
            let asker = next();
            seqpacket::receive(&asker).unwrap().unwrap();
            let answer = serde_json::to_vec(&status()).unwrap();
            seqpacket::send(&asker, &answer, None).unwrap();
        });
        reach(&process).unwrap();
        answering.join().unwrap();
        // Nobody listens any more: that is told at once.
        let error = reach(&process).unwrap_err();
        assert!(matches!(error, ControlError::Io(_)), "{error}");
    }

    #[test]
    fn only_memory_that_cannot_be_locked_asks_for_a_higher_limit() {
        let locked = format!("cannot get memory: {}", HostError::MemoryLock);
        let other = "cannot make a thread: Cannot allocate memory (os error 12)";
        assert!(is_about_locks("ENOMEM", &locked));
        assert!(!is_about_locks("ENOMEM", other));
        assert!(!is_about_locks("EIO", &locked));
    }
}
