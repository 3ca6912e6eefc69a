//! Workers that an earlier daemon started: what they have is parked with this one.

use std::os::fd::AsFd;
use std::sync::Arc;

use uuid::Uuid;
use worker::control::{Control, ControlError};
use worker::parking::Parking;

use crate::api::EventKind;
use crate::blocking::blocking;
use crate::worker_process::Worker;

use super::Manager;

impl Manager {
    /// Has a worker park with this daemon, in its turn.
    pub(super) fn begin_adoption(&self, uuid: Uuid, worker: Arc<Worker>) {
        let manager = self.clone();
        tokio::spawn(async move {
            let _turn = manager.0.turns.wait(uuid).await;
            manager.adopt_in_turn(uuid, worker).await;
        });
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
                let control = worker.control.clone();
                blocking(move || {
                    let control = Control::connect(&control)?;
                    control.adopt(theirs.as_fd())
                })
                .await
            }
        };
        let events = &self.0.events;
        match adopted {
            Ok(()) => {
                let words = "its worker is continued if it ends";
                events.tell(EventKind::Adopted, uuid, &parent, words.to_owned());
            }
            Err(error) => {
                worker.keeping.forget();
                tracing::warn!("the worker of {uuid} goes on, but cannot be adopted: {error}");
                let words = format!("its worker cannot be continued if it ends: {error}");
                events.tell(EventKind::NotAdopted, uuid, &parent, words);
            }
        }
    }
}
