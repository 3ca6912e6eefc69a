//! How the end of what serves a vGPU is seen, and brought about.
//!
//! Most have a process of their own. vGPUs that share a physical device share its worker's process:
//! each is a seat there, with a line that is closed when the seat ends.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};
use uuid::Uuid;
use worker::control::Control;

use crate::api::Exit;
use crate::clock;
use crate::held::HeldDevice;
use crate::held::process::DeviceProcess;

use super::exit::reap;
use super::readable;

/// How long a process may take to end from when its seats are closed on: the kernel closes them first.
pub(crate) const DYING: Duration = Duration::from_secs(2);

/// What lives for as long as a vGPU is served.
#[derive(Debug)]
pub(crate) enum Life {
    /// A process of its own, by its pidfd.
    Process(OwnedFd),
    /// A seat among others.
    Seat(Seat),
}

/// A seat in the process of a physical device's worker.
#[derive(Debug)]
pub(crate) struct Seat {
    /// Its vGPU.
    pub(crate) uuid: Uuid,
    /// Hung up on when the seat ends: the socket over which its descriptors went; or, to a later daemon,
    /// a connection to its control socket.
    pub(crate) line: OwnedFd,
    pub(crate) process: Arc<DeviceProcess>,
    pub(crate) device: Arc<HeldDevice>,
}

impl Life {
    /// Waits for the end.
    pub(crate) async fn ended(&self) -> io::Result<()> {
        match self {
            Self::Process(pidfd) => readable::wait(pidfd).await,
            Self::Seat(seat) => readable::hung_up(&seat.line).await,
        }
    }

    /// Whether the end comes within `patience`, or has come. Blocks.
    pub(crate) fn has_ended_within(&self, patience: Duration) -> bool {
        match self {
            Self::Process(pidfd) => is_told_within(pidfd.as_fd(), PollFlags::IN, patience),
            // Whoever hangs up is always told of.
            Self::Seat(seat) => is_told_within(seat.line.as_fd(), PollFlags::empty(), patience),
        }
    }

    /// Takes note of an end that has come, or is about to: why it did. A physical device is quiet from
    /// then on, if its worker has ended. Blocks.
    pub(crate) fn reap(&self, log: &Path) -> Exit {
        match self {
            Self::Process(pidfd) => reap(pidfd.as_fd(), log),
            Self::Seat(seat) => {
                let died = seat.process.is_dying(DYING);
                let exit = died.then(|| seat.device.reap(&seat.process));
                exit.unwrap_or_else(|| Exit {
                    reason: "ended, and its parent's worker goes on".to_owned(),
                    code: None,
                    signal: None,
                    last_words: None,
                    at: clock::now(),
                })
            }
        }
    }

    /// Sends a signal. To one that is gone it does nothing. A seat can be ended with its whole process
    /// alone, by SIGKILL; others are not for it.
    pub(crate) fn signal(&self, signal: Signal) {
        let pidfd = match self {
            Self::Process(pidfd) => pidfd,
            Self::Seat(seat) if signal == Signal::KILL => {
                seat.process.blame(seat.uuid);
                &seat.process.pidfd
            }
            Self::Seat(_) => return,
        };
        let _ = pidfd_send_signal(pidfd, signal);
    }

    /// Ends what nobody else knows of yet. Blocks.
    pub(crate) fn discard(&self, control: &Path, log: &Path, patience: Duration) {
        if let Self::Seat(_) = self {
            let asked = Control::connect(control).and_then(|control| control.stop());
            if asked.is_ok() && self.has_ended_within(patience) {
                return;
            }
        }
        self.signal(Signal::KILL);
        self.reap(log);
    }

    /// Whether it has ended because another one in its process was ended by force.
    pub(crate) fn has_ended_for_another(&self) -> bool {
        match self {
            Self::Process(_) => false,
            Self::Seat(seat) => {
                let blamed = seat.process.blamed();
                seat.process.has_ended() && blamed.is_some_and(|blamed| blamed != seat.uuid)
            }
        }
    }

    /// Whether it shares its process with others.
    pub(crate) fn is_seat(&self) -> bool {
        matches!(self, Self::Seat(_))
    }
}

/// Whether a descriptor has one of `events`, or is hung up on, within `patience`.
pub(crate) fn is_told_within(fd: BorrowedFd<'_>, events: PollFlags, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(left) = Timespec::try_from(left) else {
            return false;
        };
        match poll(&mut [PollFd::from_borrowed_fd(fd, events)], Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            told => return told.is_ok_and(|told| told > 0),
        }
    }
}
