//! A worker's process: started with its socket, watched, ended.
//!
//! - [`life`]: what lives while a vGPU is served: a process, or a seat in one,
//! - [`socket`]: where a VMM connects, bound here,
//! - [`users`]: whether it can be a user of its own,
//! - [`confinement`]: what is kept from it,
//! - [`launch`]: how the process is started and waited for,
//! - [`keeping`]: what it parks here, so that it outlives it,
//! - [`seat`]: how a seat is taken in the worker of a physical device,
//! - [`successor`]: how another process takes over from it,
//! - [`exit`], [`pidfd_info`]: how it is seen to end, and why it did,
//! - [`readable`]: how its end is waited for, and what it parks,
//! - [`identity`]: how a process is told from every other.

pub(crate) mod confinement;
pub(crate) mod exit;
pub(crate) mod identity;
pub(crate) mod keeping;
pub(crate) mod launch;
pub(crate) mod life;
mod pidfd_info;
pub(crate) mod readable;
pub(crate) mod seat;
pub(crate) mod socket;
pub(crate) mod successor;
pub(crate) mod users;

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::watch;
use tokio::time::timeout;
use worker::control::Control;

use crate::api::Exit;
use crate::blocking::blocking;
use crate::records::WorkerIdentity;
use keeping::Keeping;
use life::Life;

/// How long a worker may take to end after it was asked: its device has 4 s to let go of memory.
const STOP_PATIENCE: Duration = Duration::from_secs(6);

/// How long after SIGTERM, and after SIGKILL.
const SIGNAL_PATIENCE: Duration = Duration::from_secs(3);

/// How long what its end entails may take, once it has ended.
const END_PATIENCE: Duration = Duration::from_secs(20);

/// A worker that runs, or did.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) life: Life,
    /// Its process, which may serve others as well.
    pub(crate) identity: WorkerIdentity,
    /// Its control socket.
    pub(crate) control: PathBuf,
    /// What it says.
    pub(crate) log: PathBuf,
    /// What it parks.
    pub(crate) keeping: Keeping,
    /// Filled in when all that its end entails is done.
    exit: watch::Sender<Option<Exit>>,
}

impl Worker {
    pub(crate) fn new(
        life: Life,
        identity: WorkerIdentity,
        control: PathBuf,
        log: PathBuf,
        keeping: Keeping,
    ) -> Self {
        Self {
            life,
            identity,
            control,
            log,
            keeping,
            exit: watch::Sender::new(None),
        }
    }

    /// Tells those who wait that it is gone.
    pub(crate) fn announce_exit(&self, exit: Exit) {
        self.exit.send_replace(Some(exit));
    }

    /// Ends it: by a request, then by force. Whether it is gone.
    pub(crate) async fn end(&self) -> bool {
        let control = self.control.clone();
        let asked = blocking(move || Control::connect(&control)?.stop()).await;
        let patience = match asked {
            Ok(()) => STOP_PATIENCE,
            Err(error) => {
                tracing::debug!("a worker cannot be asked to stop: {error}");
                Duration::ZERO
            }
        };
        for (patience, signal) in [(patience, Signal::TERM), (SIGNAL_PATIENCE, Signal::KILL)] {
            if self.is_gone_within(patience).await {
                return true;
            }
            if self.life.has_ended_within(Duration::ZERO) {
                // Others may be in the process that a signal would end.
                return self.is_gone_within(END_PATIENCE).await;
            }
            self.life.signal(signal);
        }
        self.is_gone_within(SIGNAL_PATIENCE).await
    }

    /// Ends one that nobody watches yet. Blocks.
    pub(crate) fn discard(&self) {
        self.life.discard(&self.control, &self.log, STOP_PATIENCE);
    }

    async fn is_gone_within(&self, patience: Duration) -> bool {
        let mut exit = self.exit.subscribe();
        timeout(patience, exit.wait_for(Option::is_some))
            .await
            .is_ok()
    }
}
