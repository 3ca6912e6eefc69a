//! The process of a physical device's worker.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use mdev::host::HostFiles;
use rustix::event::PollFlags;
use rustix::process::{Signal, pidfd_send_signal};
use uuid::Uuid;
use worker::control::{Control, ControlError};
use worker::parking::{Parked, Parking};
use worker::seat;

use crate::api::Exit;
use crate::error::Error;
use crate::paths::Paths;
use crate::records::WorkerIdentity;
use crate::worker_process::confinement::Confinement;
use crate::worker_process::exit;
use crate::worker_process::launch::{Launcher, NotReady, wait_ready, watch};
use crate::worker_process::life::is_told_within;
use crate::worker_process::socket;

use super::{DevicePlan, answers};

/// How long it may take to end after it was asked.
const STOP_PATIENCE: Duration = Duration::from_secs(6);

/// How long after a signal.
const SIGNAL_PATIENCE: Duration = Duration::from_secs(3);

/// How long it may take until it answers.
const READY_PATIENCE: Duration = Duration::from_secs(20);

/// The worker of a physical device.
#[derive(Debug)]
pub(crate) struct DeviceProcess {
    pub(crate) pidfd: OwnedFd,
    pub(crate) identity: WorkerIdentity,
    /// Where it is asked for seats.
    pub(crate) control: PathBuf,
    pub(crate) log: PathBuf,
    confinement: Confinement,
    exit: OnceLock<Exit>,
    /// The vGPU for which it was ended by force.
    blamed: OnceLock<Uuid>,
}

impl DeviceProcess {
    /// One that lives, of the parent of that name.
    pub(crate) fn new(
        paths: &Paths,
        parent: &str,
        pidfd: OwnedFd,
        identity: WorkerIdentity,
        confinement: Confinement,
    ) -> Self {
        Self {
            pidfd,
            identity,
            control: paths.device_control(parent),
            log: paths.device_log(parent),
            confinement,
            exit: OnceLock::new(),
            blamed: OnceLock::new(),
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended_within(Duration::ZERO)
    }

    fn has_ended_within(&self, patience: Duration) -> bool {
        is_told_within(self.pidfd.as_fd(), PollFlags::IN, patience)
    }

    /// Whether it has ended or is about to, one of its seats having been closed. Blocks.
    pub(crate) fn is_dying(&self, patience: Duration) -> bool {
        self.has_ended() || (!answers(&self.control) && self.has_ended_within(patience))
    }

    /// Whether it serves someone, as it says: so does one that lives and says nothing. Blocks.
    pub(crate) fn may_have_seats(&self) -> bool {
        let status = Control::connect(&self.control).and_then(|control| control.status());
        match status {
            Ok(status) => status.seats != Some(0),
            Err(_) => !self.has_ended(),
        }
    }

    /// It is about to be ended by force, for a vGPU that has a seat there.
    pub(crate) fn blame(&self, uuid: Uuid) {
        // The first one was enough.
        let _ = self.blamed.set(uuid);
    }

    pub(crate) fn blamed(&self) -> Option<Uuid> {
        self.blamed.get().copied()
    }

    /// Why it ended, if that was seen already.
    pub(super) fn known_exit(&self) -> Option<Exit> {
        self.exit.get().cloned()
    }

    /// Why it ended, once that has happened; `first` is done when that is seen first. Blocks.
    pub(super) fn exit(&self, first: impl FnOnce()) -> Exit {
        let exit = self.exit.get_or_init(|| {
            let exit = exit::reap(self.pidfd.as_fd(), &self.log);
            first();
            self.confinement.explain_exit(exit)
        });
        exit.clone()
    }

    /// Ends it: by a request, then by force. Whether it is gone. Blocks.
    pub(super) fn end(&self) -> bool {
        let asked = Control::connect(&self.control).and_then(|control| control.stop());
        let patience = asked.map_or(Duration::ZERO, |()| STOP_PATIENCE);
        for (patience, signal) in [(patience, Signal::TERM), (SIGNAL_PATIENCE, Signal::KILL)] {
            if self.has_ended_within(patience) {
                return true;
            }
            // It may be gone already.
            let _ = pidfd_send_signal(&self.pidfd, signal);
        }
        self.has_ended_within(SIGNAL_PATIENCE)
    }

    /// Removes what is left of one that is gone, but for its log, which is to be read.
    pub(super) fn clean_up(&self) {
        self.confinement.clean_up();
        if let Err(error) = socket::remove(&self.control) {
            tracing::warn!("{} stays: {error}", self.control.display());
        }
    }

    /// Duplicates of the device's files. Blocks.
    pub(super) fn give_files(&self) -> Result<HostFiles, ControlError> {
        let (mut parking, theirs) = Parking::new()?;
        Control::connect(&self.control)?.adopt(theirs.as_fd())?;
        parking.take_in()?;
        let mut parked = parking.into_parked();
        let mut take = |number| take(&mut parked, number);
        Ok(HostFiles {
            container: take(seat::CONTAINER)?,
            group: take(seat::GROUP)?,
            device: take(seat::DEVICE)?,
        })
    }
}

fn take(parked: &mut Parked, number: u32) -> io::Result<OwnedFd> {
    let missing = || io::Error::other("it has not parked the files of its device");
    parked.remove(&number).ok_or_else(missing)
}

impl Launcher {
    /// Starts the worker of a device, and waits until it answers. On error nothing of it is left.
    pub(super) fn start_device(
        &self,
        parent: &str,
        plan: &DevicePlan,
        files: &HostFiles,
    ) -> Result<DeviceProcess, Error> {
        let begun = Instant::now();
        plan.confinement.clean_up();
        plan.confinement.prepare()?;
        let (control, log) = (
            self.paths.device_control(parent),
            self.paths.device_log(parent),
        );
        let offered = seat::offer_parent(files).map_err(Error::os("pass on a device"));
        let started = offered
            .and_then(|files| self.spawn_device(plan, files, &control, &log))
            .and_then(|child| {
                let pid = child.id();
                let pidfd = watch(child)?;
                match wait_ready(&pidfd, &control, begun + READY_PATIENCE) {
                    Ok(()) => Ok((pidfd, self.identify(pid)?)),
                    Err(why) => Err(give_up(parent, plan, &pidfd, &log, &why)),
                }
            });
        match started {
            Ok((pidfd, identity)) => {
                tracing::info!(parent, pid = identity.pid, took = ?begun.elapsed(), "worker ready");
                let confinement = plan.confinement.clone();
                let paths = &self.paths;
                Ok(DeviceProcess::new(
                    paths,
                    parent,
                    pidfd,
                    identity,
                    confinement,
                ))
            }
            Err(error) => {
                // What went wrong before is what is to be told.
                let _ = socket::remove(&control);
                plan.confinement.clean_up();
                Err(error)
            }
        }
    }
}

/// Ends one that is not ready: why it is not.
fn give_up(parent: &str, plan: &DevicePlan, pidfd: &OwnedFd, log: &Path, why: &NotReady) -> Error {
    // It may be gone already.
    let _ = pidfd_send_signal(pidfd, Signal::KILL);
    let exit = exit::reap(pidfd.as_fd(), log);
    let words = match why {
        NotReady::Ended => {
            let words = exit.last_words.unwrap_or_else(|| exit.reason.clone());
            let words = plan.confinement.explain(words);
            format!("{} ({words})", exit.reason)
        }
        NotReady::Late => "it took too long to start".to_owned(),
        NotReady::Control(error) => error.to_string(),
    };
    Error::DeviceStillborn(parent.to_owned(), words)
}
