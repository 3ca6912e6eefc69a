//! Workers that an earlier daemon started: what they have is parked with this one.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use tokio::task::JoinHandle;
use uuid::Uuid;
use worker::control::{Control, ControlError};
use worker::parking::Parking;

use crate::api::EventKind;
use crate::blocking::blocking;
use crate::functions::Name;
use crate::worker_process::Worker;

use super::Manager;

impl Manager {
    /// Has a worker park with this daemon, in its turn.
    pub(super) fn begin_adoption(&self, uuid: Uuid, worker: Arc<Worker>) -> JoinHandle<()> {
        let manager = self.clone();
        tokio::spawn(async move {
            let _turn = manager.0.turns.wait(uuid).await;
            manager.adopt_in_turn(uuid, worker).await;
        })
    }

    async fn adopt_in_turn(&self, uuid: Uuid, worker: Arc<Worker>) {
        let Ok(parent) = self.parent_of(uuid) else {
            return;
        };
        let adopted = match Parking::new() {
            Err(error) => Err(ControlError::Io(error)),
            Ok((parking, theirs)) => {
                worker.keeping.begin_anew(parking);
                // It does not wait until there is room for what it sends.
                self.keep(uuid, Arc::clone(&worker));
                let (manager, worker) = (self.clone(), Arc::clone(&worker));
                let parent = parent.clone();
                blocking(move || {
                    adopt(&worker, &theirs)?;
                    manager.adopt_device_again(&parent, &worker.life);
                    Ok(())
                })
                .await
            }
        };
        match adopted {
            Ok(()) => {
                let words = "its worker is continued if it ends";
                self.tell(EventKind::Adopted, uuid, &parent, words.to_owned());
            }
            Err(error) => {
                worker.keeping.forget();
                tracing::warn!("the worker of {uuid} goes on, but cannot be adopted: {error}");
                let words = format!("its worker cannot be continued if it ends: {error}");
                self.tell(EventKind::NotAdopted, uuid, &parent, words);
            }
        }
    }

    /// Puts back the control socket of a worker that lives, which a daemon that was killed in the
    /// middle of an upgrade had put aside. The new worker has ended with that daemon.
    pub(super) fn put_back_control(&self, name: Name) {
        let (place, aside) = (self.0.paths.control(name), self.0.paths.control_aside(name));
        if !answers(&aside) {
            return super::ending::remove_or_warn(&aside);
        }
        if let Err(error) = fs::rename(&aside, &place) {
            tracing::warn!("{} stays: {error}", aside.display());
        }
    }
}

/// Has a worker park with whoever has the other end of `keeper`. Blocks.
fn adopt(worker: &Worker, keeper: &OwnedFd) -> Result<(), ControlError> {
    let control = Control::connect(&worker.control)?;
    if worker.life.is_seat() && control.status()?.pid != worker.identity.pid {
        // Another vGPU's, or that of a process which has its number.
        return Err(ControlError::Garbled("another process answers".to_owned()));
    }
    control.adopt(keeper.as_fd())?;
    if !worker.life.is_seat() {
        // An earlier daemon may have had it wait for another to take over. To one that serves it
        // says nothing.
        let _ = control.go_on();
    }
    Ok(())
}

fn answers(control: &Path) -> bool {
    Control::connect(control).is_ok_and(|control| control.status().is_ok())
}
