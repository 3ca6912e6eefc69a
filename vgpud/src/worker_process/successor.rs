//! A process that takes over from another, which has ended or waits: [`worker::resume`].

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Signal, pidfd_send_signal};
use uuid::Uuid;
use worker::parking::{Parked, Parking};
use worker::resume::{Answer, Handing, Outlook};

use crate::error::Error;
use crate::records::WorkerIdentity;

use super::confinement::Confinement;
use super::exit::reap;
use super::keeping::Keeping;
use super::launch::{Launcher, Plan, Sockets, close_log, watch};
use super::{Worker, socket};

/// A worker that does not serve yet. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Successor {
    uuid: Uuid,
    /// What it becomes when it goes on.
    process: Option<Process>,
    handing: Option<Handing>,
    confinement: Confinement,
    control: PathBuf,
    log: PathBuf,
}

#[derive(Debug)]
struct Process {
    pidfd: OwnedFd,
    identity: WorkerIdentity,
    parking: Parking,
}

/// The word to go on, which is yet to be said.
#[derive(Debug)]
pub(crate) struct Word(Handing);

impl Word {
    /// Lets it go on.
    pub(crate) fn go(self) -> io::Result<()> {
        self.0.go()
    }
}

impl Launcher {
    /// Starts a worker that is to take over from another, with the socket where clients connect.
    /// The other's control socket must be out of its way.
    pub(crate) fn start_successor(
        &self,
        plan: &Plan,
        listener: OwnedFd,
    ) -> Result<Successor, Error> {
        let what = "make a socket pair";
        let (parking, keeper) = Parking::new().map_err(Error::os(what))?;
        let (handing, resume) = Handing::new().map_err(Error::os(what))?;
        let sockets = Sockets {
            listener,
            keeper,
            resume: Some(resume),
        };
        let (control, log) = (self.paths.control(plan.name), self.paths.log(plan.name));
        plan.confinement.prepare()?;
        let child = self.spawn(plan, sockets, &control, &log)?;
        let pid = child.id();
        let pidfd = watch(child)?;
        let identity = self.identify(pid).inspect_err(|_| {
            // It has ended already, or will: the socket to it is closed with this.
            kill_and_reap(&pidfd);
        })?;
        Ok(Successor {
            uuid: plan.name.uuid,
            process: Some(Process {
                pidfd,
                identity,
                parking,
            }),
            handing: Some(handing),
            confinement: plan.confinement.clone(),
            control,
            log,
        })
    }
}

impl Successor {
    /// Hands everything over, and waits for its word that it can go on with that.
    pub(crate) fn hand_over(
        &mut self,
        parked: &Parked,
        patience: Duration,
    ) -> Result<Outlook, Error> {
        let Some(handing) = &self.handing else {
            return Err(Error::NotTakenOver(self.uuid, "it has gone on".to_owned()));
        };
        let answer = handing
            .hand_over(parked)
            .and_then(|()| handing.answer(patience));
        let words = match answer {
            Ok(Answer::Ready(outlook)) => return Ok(outlook),
            Ok(Answer::Refused { words }) => words,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                "it took too long to tell whether it can go on".to_owned()
            }
            Err(error) => self.why_it_ended(&error),
        };
        Err(Error::NotTakenOver(self.uuid, words))
    }

    /// Why it does not answer: mostly because it has ended.
    fn why_it_ended(&mut self, error: &io::Error) -> String {
        let Some(Process { pidfd, .. }) = self.process.take() else {
            return error.to_string();
        };
        // It may be gone already.
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
        let exit = reap(pidfd.as_fd(), &self.log);
        let exit = self.confinement.explain_exit(exit);
        match exit.last_words {
            Some(words) => format!("{}: {words}", exit.reason),
            None => exit.reason,
        }
    }

    /// The worker that it is, with `parked` as what it has parked, and the word for it to go on.
    /// From here on whatever happens to it is a worker's end.
    pub(crate) fn into_worker(mut self, parked: Parked) -> Option<(Arc<Worker>, Word)> {
        let handing = self.handing.take()?;
        let Process {
            pidfd,
            identity,
            mut parking,
        } = self.process.take()?;
        parking.fill(parked);
        let (control, log) = (self.control.clone(), self.log.clone());
        let worker = Worker::new(pidfd, identity, control, log, Keeping::new(parking));
        Some((Arc::new(worker), Word(handing)))
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(Process { pidfd, .. }) = &self.process {
            kill_and_reap(pidfd);
        }
        if self.handing.is_some() {
            // Best effort: a file left behind is replaced by the next.
            let _ = socket::remove(&self.control);
            close_log(&self.log);
        }
    }
}

/// Ends a child of ours. It may be gone already.
fn kill_and_reap(pidfd: &OwnedFd) {
    let _ = pidfd_send_signal(pidfd, Signal::KILL);
    reap(pidfd.as_fd(), std::path::Path::new("/dev/null"));
}
