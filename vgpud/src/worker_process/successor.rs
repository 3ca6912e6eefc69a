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
use super::life::Life;
use super::seat::Vacant;
use super::{Worker, socket};

/// A worker that does not serve yet. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Successor {
    uuid: Uuid,
    /// What it becomes when it goes on.
    process: Option<Process>,
    is_seat: bool,
    /// The seat that it is to take first.
    vacant: Option<Vacant>,
    handing: Option<Handing>,
    confinement: Confinement,
    control: PathBuf,
    log: PathBuf,
}

#[derive(Debug)]
pub(super) struct Process {
    pub(super) life: Life,
    pub(super) identity: WorkerIdentity,
    pub(super) parking: Parking,
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
        if let Some(how) = &plan.seat {
            return self.start_seat_successor(plan, how, listener);
        }
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
        let life = Life::Process(pidfd);
        Ok(Successor {
            uuid: plan.name.uuid,
            process: Some(Process {
                life,
                identity,
                parking,
            }),
            is_seat: false,
            vacant: None,
            handing: Some(handing),
            confinement: plan.confinement.clone(),
            control,
            log,
        })
    }
}

impl Successor {
    /// One that is to take a seat, once it is handed what another has left.
    pub(super) fn seated(plan: &Plan, vacant: Vacant, handing: Handing, control: PathBuf) -> Self {
        Self {
            uuid: plan.name.uuid,
            process: None,
            is_seat: true,
            log: vacant.log().to_owned(),
            vacant: Some(vacant),
            handing: Some(handing),
            confinement: Confinement::default(),
            control,
        }
    }

    /// Hands everything over, and waits for its word that it can go on with that.
    pub(crate) fn hand_over(
        &mut self,
        parked: &Parked,
        patience: Duration,
    ) -> Result<Outlook, Error> {
        let Some(handing) = &self.handing else {
            return Err(Error::NotTakenOver(self.uuid, "it has gone on".to_owned()));
        };
        let handed = match self.vacant.take() {
            None => handing.hand_over(parked),
            Some(vacant) => {
                let filled = vacant.fill(|| handing.hand_over(parked));
                let filled = filled.map_err(|error| self.why_it_refused(handing, error))?;
                self.process = Some(filled);
                Ok(())
            }
        };
        let answer = handed.and_then(|()| handing.answer(patience));
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

    /// Why a seat is not taken: mostly it cannot go on from what it was handed, and has said so there.
    fn why_it_refused(&self, handing: &Handing, error: Error) -> Error {
        match handing.answer(Duration::ZERO) {
            Ok(Answer::Refused { words }) => Error::NotTakenOver(self.uuid, words),
            Ok(Answer::Ready(_)) | Err(_) => error,
        }
    }

    /// Why it does not answer: mostly because it has ended.
    fn why_it_ended(&mut self, error: &io::Error) -> String {
        let Some(Process { life, .. }) = self.process.take() else {
            return error.to_string();
        };
        if !life.is_seat() {
            // It may be gone already. A seat ends by itself, and others are beside it.
            life.signal(Signal::KILL);
        }
        let exit = life.reap(&self.log);
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
            life,
            identity,
            mut parking,
        } = self.process.take()?;
        parking.fill(parked);
        let (control, log) = (self.control.clone(), self.log.clone());
        let worker = Worker::new(life, identity, control, log, Keeping::new(parking));
        Some((Arc::new(worker), Word(handing)))
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(Process {
            life: Life::Process(pidfd),
            ..
        }) = &self.process
        {
            kill_and_reap(pidfd);
        }
        if self.handing.is_some() {
            // Best effort: a file left behind is replaced by the next.
            let _ = socket::remove(&self.control);
            if !self.is_seat {
                close_log(&self.log);
            }
        }
    }
}

/// Ends a child of ours. It may be gone already.
fn kill_and_reap(pidfd: &OwnedFd) {
    let _ = pidfd_send_signal(pidfd, Signal::KILL);
    reap(pidfd.as_fd(), std::path::Path::new("/dev/null"));
}

#[cfg(test)]
mod tests {
    use worker::resume::Taking;

    use super::*;

    #[test]
    fn a_seat_that_is_not_taken_is_told_of_in_the_words_of_who_was_to_go_on() {
        let uuid = Uuid::from_u128(1);
        let successor = Successor {
            uuid,
            process: None,
            is_seat: true,
            vacant: None,
            handing: None,
            confinement: Confinement::default(),
            control: PathBuf::from("/nonexistent"),
            log: PathBuf::from("/nonexistent"),
        };
        let (handing, theirs) = Handing::new().unwrap();
        let mute = || Error::Mute(uuid, "nobody".to_owned());
        let why = || successor.why_it_refused(&handing, mute()).to_string();
        assert_eq!(why(), mute().to_string());
        let words = "its journal is of another build".to_owned();
        Taking::new(theirs)
            .tell(&Answer::Refused { words })
            .unwrap();
        assert!(why().ends_with("its journal is of another build"));
        assert_eq!(why(), mute().to_string(), "it is told once");
    }
}
