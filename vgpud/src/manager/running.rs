//! What is asked of an instance that runs.

use std::fs::File;

use uuid::Uuid;
use worker::control::{Control, ControlError};

use crate::api::{Attribute, EventKind, Instance, WorkerStatus};
use crate::blocking::{blocking, detached};
use crate::error::Error;
use crate::picture;

use super::Manager;
use super::create::{MAX_ATTRIBUTES, check_attributes};

impl Manager {
    /// What its worker says of itself.
    pub async fn status(&self, uuid: Uuid) -> Result<WorkerStatus, Error> {
        self.ask(uuid, |control| control.status().map(Into::into))
            .await
    }

    /// What it shows, as a PNG file.
    pub async fn screenshot(&self, uuid: Uuid) -> Result<Vec<u8>, Error> {
        let picture = self.ask(uuid, |control| control.scanout()).await?;
        blocking(move || picture::png(&picture))
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

    /// Changes attributes, all or none; one that runs at once, and for the times that come.
    pub async fn set_attributes(
        &self,
        uuid: Uuid,
        changes: Vec<Attribute>,
    ) -> Result<Instance, Error> {
        if changes.is_empty() {
            return Err(Error::Invalid("no attribute is given".to_owned()));
        }
        check_attributes(&changes)?;
        let manager = self.clone();
        detached(async move {
            let _turn = manager.0.turns.wait(uuid).await;
            let asked = changes.clone();
            match manager
                .ask(uuid, move |control| set_all(&control, &asked))
                .await
            {
                Ok(()) | Err(Error::NotRunning(_)) => {}
                Err(error) => return Err(error),
            }
            manager.keep_attributes(uuid, changes).await?;
            let parent = manager.parent_of(uuid)?;
            let events = &manager.0.events;
            events.tell(
                EventKind::Modified,
                uuid,
                &parent,
                "attributes were set".to_owned(),
            );
            manager.instance(uuid).await
        })
        .await
    }

    async fn keep_attributes(&self, uuid: Uuid, changes: Vec<Attribute>) -> Result<(), Error> {
        {
            let mut table = self.table();
            let entry = table.entry_mut(uuid).ok_or(Error::NoInstance(uuid))?;
            let kept = merge(&entry.record.attributes, changes);
            if kept.len() > MAX_ATTRIBUTES {
                return Err(Error::Invalid(format!(
                    "it has {MAX_ATTRIBUTES} attributes already"
                )));
            }
            entry.record.attributes = kept;
        }
        self.save(uuid).await
    }

    /// Asks its worker.
    async fn ask<T: Send + 'static>(
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

/// Sets attributes one after the other. If one is refused, those before it are set back.
fn set_all(control: &Control, changes: &[Attribute]) -> Result<(), ControlError> {
    let before = control.status()?.attributes;
    for (done, Attribute { name, value }) in changes.iter().enumerate() {
        let Err(error) = control.set_attribute(name, value) else {
            continue;
        };
        for changed in changes[..done].iter().rev() {
            let old = before.iter().find(|old| old.name == changed.name);
            let back = old.map(|old| control.set_attribute(&old.name, &old.value));
            if let Some(Err(error)) = back {
                tracing::warn!("attribute {} cannot be set back: {error}", changed.name);
            }
        }
        return Err(error);
    }
    Ok(())
}

/// The attributes that an instance has after changes: each name once among the changed ones.
fn merge(existing: &[Attribute], changes: Vec<Attribute>) -> Vec<Attribute> {
    let mut kept = existing.to_vec();
    for change in changes {
        kept.retain(|attribute| attribute.name != change.name);
        kept.push(change);
    }
    kept
}
