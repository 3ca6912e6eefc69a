//! Attributes of an instance that is there are changed.
//!
//! What the device takes while it runs, it is given. What can only be given when a device is
//! created, its worker is started anew with, as long as no VMM is connected: nobody has seen the
//! device yet. mdevctl needs that: it creates a device first, and writes its attributes then.

use std::mem;

use uuid::Uuid;
use worker::control::{Control, ControlError};
use worker::protocol::FIXED;

use crate::api::{Attribute, EventKind, Instance};
use crate::blocking::detached;
use crate::engines::settings::Given;
use crate::error::Error;
use crate::functions;
use crate::table::Table;

use super::Manager;
use super::create::{MAX_ATTRIBUTES, check_attributes};
use super::foreground::{Turned, Turning};

impl Manager {
    /// Changes attributes, all or none; one that runs at once, and for the times that come. What has
    /// that value already is left alone.
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
            {
                let _turns = manager.turns(uuid).await;
                manager.set_in_turn(uuid, changes).await?;
            }
            manager.turn_off_others(uuid).await;
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

    pub(super) async fn set_in_turn(
        &self,
        uuid: Uuid,
        changes: Vec<Attribute>,
    ) -> Result<(), Error> {
        let kept = self.attributes_after(uuid, &changes)?;
        let given = self.check_claims(&self.table(), uuid, &kept)?;
        let changes = match self.without_functions(uuid, changes)? {
            Ok(changes) => self.for_device(uuid, changes),
            Err(message) => return self.start_anew_with(uuid, kept, message).await,
        };
        let (former, turned) = match self.give(uuid, changes).await {
            Ok(given) => given,
            Err(Error::Refused { errno, message }) if errno == FIXED => {
                return self.start_anew_with(uuid, kept, message).await;
            }
            Err(error) => return Err(error),
        };
        let before = match self.keep_attributes(uuid, kept).await {
            Ok(before) => before,
            Err(error) => {
                self.set_back(uuid, former).await;
                if let Some(turned) = turned {
                    turned.undo();
                }
                return Err(error);
            }
        };
        let Some(Err(error)) = given.map(|given| self.0.engines.set(uuid, given)) else {
            return Ok(());
        };
        // A policy came in between.
        self.keep_attributes_again(uuid, before).await;
        self.set_back(uuid, former).await;
        if let Some(turned) = turned {
            turned.undo();
        }
        Err(error)
    }

    /// Gives them to its worker, if it has one: what they were before, and whether it was turned to.
    async fn give(
        &self,
        uuid: Uuid,
        changes: Vec<Attribute>,
    ) -> Result<(Vec<Attribute>, Option<Turned>), Error> {
        if changes.is_empty() {
            return Ok((Vec::new(), None));
        }
        // Not for longer: to start it anew turns to it as well.
        let turning = self.turn_to(uuid, &changes).await;
        let set = move |control| set_all(&control, &changes);
        let former = match self.ask(uuid, set).await {
            Err(Error::NotRunning(_)) => Vec::new(),
            former => former?,
        };
        Ok((former, turning.map(Turning::done)))
    }

    /// The changes that are for its device; or words, if it is to have other functions while it runs:
    /// they are there when it starts.
    fn without_functions(
        &self,
        uuid: Uuid,
        mut changes: Vec<Attribute>,
    ) -> Result<Result<Vec<Attribute>, String>, Error> {
        let (base, now) = self.attributes_in_force(uuid)?;
        let then = [&now[..], &changes].concat();
        let wanted = functions::of(&base, &then).map_err(Error::Invalid)?;
        let runs = self.worker_of(uuid).is_ok();
        if runs && functions::of(&base, &now).is_ok_and(|now| now != wanted) {
            let name = functions::ATTRIBUTE;
            return Ok(Err(format!(
                "attribute '{name}' can only be given when the device is created"
            )));
        }
        changes.retain(|change| change.name != functions::ATTRIBUTE);
        Ok(Ok(changes))
    }

    /// Starts its worker anew, with attributes that it cannot be given as it is. If a VMM is
    /// connected, that is refused in the device's words.
    async fn start_anew_with(
        &self,
        uuid: Uuid,
        kept: Vec<Attribute>,
        message: String,
    ) -> Result<(), Error> {
        match self.stop_in_turn(uuid, false).await {
            Err(Error::Busy(_)) => {
                let errno = "EBUSY".to_owned();
                let message = format!("{message}, and a VMM is connected to it");
                return Err(Error::Refused { errno, message });
            }
            stopped => stopped?,
        }
        let changed = match self.keep_attributes(uuid, kept).await {
            Ok(before) => match self.launch_all(uuid).await {
                Ok(()) => Ok(()),
                Err(error) => {
                    self.keep_attributes_again(uuid, before).await;
                    Err(error)
                }
            },
            Err(error) => Err(error),
        };
        if changed.is_err() {
            self.launch_all(uuid).await?;
        }
        let parent = self.parent_of(uuid)?;
        self.tell_started(uuid, &parent);
        changed
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

    /// Keeps attributes for the times that come: those from before. On error those are kept.
    ///
    /// What they claim of an engine is looked at again under the lock: others may have been given
    /// theirs since it was looked at first.
    async fn keep_attributes(
        &self,
        uuid: Uuid,
        kept: Vec<Attribute>,
    ) -> Result<Vec<Attribute>, Error> {
        let before = {
            let mut table = self.table();
            self.check_claims(&table, uuid, &kept)?;
            let entry = table.entry_mut(uuid).ok_or(Error::NoInstance(uuid))?;
            mem::replace(&mut entry.record.attributes, kept)
        };
        if let Err(error) = self.save(uuid).await {
            let mut table = self.table();
            let entry = table.entry_mut(uuid).ok_or(Error::NoInstance(uuid))?;
            entry.record.attributes = before;
            return Err(error);
        }
        Ok(before)
    }

    /// Keeps those from before, as well as can be.
    async fn keep_attributes_again(&self, uuid: Uuid, before: Vec<Attribute>) {
        if let Err(left) = self.keep_attributes(uuid, before).await {
            // What was first is told; this is for who runs the host.
            tracing::error!("{uuid} keeps attributes that it cannot have: {left}");
        }
    }

    /// What attributes of that vGPU claim of the engine that it shares.
    fn check_claims(
        &self,
        table: &Table,
        uuid: Uuid,
        attributes: &[Attribute],
    ) -> Result<Option<Given>, Error> {
        let entry = table.entry(uuid).ok_or(Error::NoInstance(uuid))?;
        let request = &entry.record.request;
        let of = (request.parent.as_str(), request.type_name.as_str());
        self.check_given(table, uuid, of, attributes)
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
}

/// Sets attributes one after the other, but for those that have that value: what they were before,
/// the last first. If one is refused, those before it are set back.
fn set_all(control: &Control, changes: &[Attribute]) -> Result<Vec<Attribute>, ControlError> {
    let status = control.status()?;
    let mut current: Vec<Attribute> = status.attributes.into_iter().map(Into::into).collect();
    let mut former = Vec::new();
    for change in changes {
        let old = current.iter_mut().find(|old| old.name == change.name);
        if old.as_deref() == Some(change) {
            continue;
        }
        if let Err(error) = control.set_attribute(&change.name, &change.value) {
            set_back(control, &former);
            return Err(error);
        }
        former.splice(..0, old.map(|old| mem::replace(old, change.clone())));
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
