//! What is asked of an instance that runs.

use std::fs::File;
use std::mem;

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
            let kept = manager.attributes_after(uuid, &changes)?;
            let set = manager
                .ask(uuid, move |control| set_all(&control, &changes))
                .await;
            let former = match set {
                Ok(former) => former,
                Err(Error::NotRunning(_)) => Vec::new(),
                Err(error) => return Err(error),
            };
            if let Err(error) = manager.keep_attributes(uuid, kept).await {
                manager.set_back(uuid, former).await;
                return Err(error);
            }
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

    /// The attributes that it is to have.
    fn attributes_after(&self, uuid: Uuid, changes: &[Attribute]) -> Result<Vec<Attribute>, Error> {
        let table = self.table();
        let entry = table.entry(uuid).ok_or(Error::NoInstance(uuid))?;
        let kept = merge(&entry.record.attributes, changes);
        if kept.len() > MAX_ATTRIBUTES {
            return Err(Error::Invalid(format!(
                "it has {MAX_ATTRIBUTES} attributes already"
            )));
        }
        Ok(kept)
    }

    /// Keeps attributes for the times that come. On error those from before are kept.
    async fn keep_attributes(&self, uuid: Uuid, kept: Vec<Attribute>) -> Result<(), Error> {
        let swap = |attributes| {
            let mut table = self.table();
            let entry = table.entry_mut(uuid).ok_or(Error::NoInstance(uuid))?;
            Ok(mem::replace(&mut entry.record.attributes, attributes))
        };
        let before = swap(kept)?;
        let saved = self.save(uuid).await;
        if saved.is_err() {
            swap(before)?;
        }
        saved
    }

    async fn set_back(&self, uuid: Uuid, former: Vec<Attribute>) {
        let set = self.ask(uuid, move |control| {
            set_back(&control, &former);
            Ok(())
        });
        if let Err(error) = set.await {
            tracing::warn!("attributes of {uuid} cannot be set back: {error}");
        }
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

/// Sets attributes one after the other; what they were before, the last first. If one is refused,
/// those before it are set back.
fn set_all(control: &Control, changes: &[Attribute]) -> Result<Vec<Attribute>, ControlError> {
    let before = control.status()?.attributes;
    let mut former = Vec::new();
    for Attribute { name, value } in changes {
        if let Err(error) = control.set_attribute(name, value) {
            set_back(control, &former);
            return Err(error);
        }
        let old = before.iter().find(|old| old.name == *name).cloned();
        former.splice(..0, old.map(Into::into));
    }
    Ok(former)
}

fn set_back(control: &Control, former: &[Attribute]) {
    for Attribute { name, value } in former {
        if let Err(error) = control.set_attribute(name, value) {
            tracing::warn!("attribute {name} cannot be set back: {error}");
        }
    }
}

/// The attributes that an instance has after changes: each name once among the changed ones.
fn merge(existing: &[Attribute], changes: &[Attribute]) -> Vec<Attribute> {
    let mut kept = existing.to_vec();
    for change in changes {
        kept.retain(|attribute| attribute.name != change.name);
        kept.push(change.clone());
    }
    kept
}
