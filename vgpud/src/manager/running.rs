//! What is asked of an instance that runs.

use std::fs::File;

use uuid::Uuid;
use worker::control::{Control, ControlError};

use crate::api::{Attribute, EventKind, View, WorkerStatus};
use crate::blocking::{blocking, detached};
use crate::error::Error;
use crate::functions;
use crate::picture::Shot;

use super::Manager;

impl Manager {
    /// What its worker says of itself.
    pub async fn status(&self, uuid: Uuid) -> Result<WorkerStatus, Error> {
        let status = self.ask(uuid, |control| control.status()).await?;
        let mut status = WorkerStatus::from(status);
        let (base, attributes) = self.attributes_in_force(uuid)?;
        if let Some(value) = functions::value(&base, &attributes) {
            // What this daemon makes of it stands with what the device does.
            status.attributes.push(Attribute {
                name: functions::ATTRIBUTE.to_owned(),
                value: value.to_owned(),
            });
        }
        status.attributes.extend(self.settings_of(uuid));
        Ok(status)
    }

    /// What it shows, as a PNG file.
    pub async fn screenshot(&self, uuid: Uuid, view: View) -> Result<Vec<u8>, Error> {
        let shot = self.ask(uuid, move |control| Shot::take(&control, view));
        let shot = shot.await?;
        blocking(move || shot.png())
            .await
            .map_err(Error::os(format!("take the picture of {uuid}")))
    }

    /// The state of its device.
    pub async fn save_state(&self, uuid: Uuid) -> Result<File, Error> {
        self.ask(uuid, |control| control.save()).await
    }

    /// Puts a state into its device. The file is one that `worker::state_file` made.
    pub async fn restore_state(&self, uuid: Uuid, state: File) -> Result<(), Error> {
        let manager = self.clone();
        detached(async move {
            let _turn = manager.0.turns.wait(uuid).await;
            manager
                .ask(uuid, move |control| control.restore(&state))
                .await?;
            let parent = manager.parent_of(uuid)?;
            let events = &manager.0.events;
            events.tell(
                EventKind::Restored,
                uuid,
                &parent,
                "a state was restored".to_owned(),
            );
            Ok(())
        })
        .await
    }

    /// Asks its worker.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        uuid: Uuid,
        question: impl FnOnce(Control) -> Result<T, ControlError> + Send + 'static,
    ) -> Result<T, Error> {
        let path = self.worker_of(uuid)?.control.clone();
        blocking(move || Control::connect(&path).and_then(question))
            .await
            .map_err(|error| match error {
                ControlError::Refused { errno, message } => Error::Refused { errno, message },
                mute => Error::Mute(uuid, mute.to_string()),
            })
    }
}
