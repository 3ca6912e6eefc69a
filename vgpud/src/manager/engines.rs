//! Workers and the engine that they share: who joins it, with which settings, and what is done about
//! jobs that take too long.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use uuid::Uuid;
use worker::control::{Control, ControlError};

use crate::api::{Attribute, Engine, EngineSlice, EventKind, Policy};
use crate::blocking::{blocking, detached};
use crate::engines::Notice;
use crate::engines::settings::{self, Given, check_together, is_setting};
use crate::error::Error;
use crate::files;
use crate::table::{Entry, Table};
use crate::worker_process::Worker;

use super::Manager;

/// How long a worker may take until it is granted time: until then no job of its device begins.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(2);

/// The policies that were set, by parent.
pub(super) type Policies = BTreeMap<String, Policy>;

impl Manager {
    /// Grants a worker time on the engine of its parent, if it shares that, for as long as it lives.
    pub(super) fn lend(&self, uuid: Uuid, worker: &Arc<Worker>) {
        let (manager, worker) = (self.clone(), Arc::clone(worker));
        let found = self.table().entry(uuid).and_then(|entry| {
            let parent = entry.record.request.parent.clone();
            Some((parent, self.given(entry)?))
        });
        let Some((parent, given)) = found else {
            return;
        };
        tokio::task::spawn_blocking(move || {
            let joined = manager.0.engines.join(&parent, uuid, given, &worker);
            let lent = match joined {
                Ok(None) => return,
                Ok(Some(socket)) => {
                    manager.set_if_changed(uuid, given);
                    lend(&worker, &socket)
                }
                Err(error) => Err(error.into()),
            };
            if let Err(error) = lent {
                manager.0.engines.leave(uuid, &worker);
                tracing::error!("the worker of {uuid} is granted no time on an engine: {error}");
            }
            // It may have ended before it had joined.
            if worker.life.has_ended_within(Duration::ZERO) {
                manager.0.engines.leave(uuid, &worker);
            }
        });
    }

    /// Sets what a vGPU is given by now: it may have changed before its worker had joined.
    fn set_if_changed(&self, uuid: Uuid, joined_with: Given) {
        // Until it is set, so that a later change comes later.
        let table = self.table();
        let given = table.entry(uuid).and_then(|entry| self.given(entry));
        let given = given.filter(|given| *given != joined_with);
        if let Some(Err(error)) = given.map(|given| self.0.engines.set(uuid, given)) {
            tracing::error!("{uuid} shares its engine as it did: {error}");
        }
    }

    /// What a vGPU is given of the engine that it shares; `None` if it shares none.
    pub(super) fn given(&self, entry: &Entry) -> Option<Given> {
        let request = &entry.record.request;
        let attributes = self.all_attributes(
            &request.parent,
            &request.type_name,
            &entry.record.attributes,
        )?;
        let given = Given::parse(&attributes);
        Some(given.unwrap_or_else(|error| {
            tracing::error!(
                "{} shares its engine as is usual: {error}",
                entry.record.uuid
            );
            Given::default()
        }))
    }

    /// The attributes of a vGPU, with those of its type; `None` if it shares no engine.
    fn all_attributes(
        &self,
        parent: &str,
        type_name: &str,
        own: &[Attribute],
    ) -> Option<Vec<Attribute>> {
        let offered = self.offered(parent, type_name).ok()?;
        let shares = offered.uses_engine && self.0.engines.has(parent);
        let all = offered.attributes.iter().chain(own);
        shares.then(|| all.cloned().collect())
    }

    /// Refuses attributes that make no sense, or that contradict those of others, of a vGPU that
    /// shares an engine: what it is given.
    pub(super) fn check_given(
        &self,
        table: &Table,
        uuid: Uuid,
        (parent, type_name): (&str, &str),
        attributes: &[Attribute],
    ) -> Result<Option<Given>, Error> {
        let Some(all) = self.all_attributes(parent, type_name, attributes) else {
            return Ok(None);
        };
        let given = Given::parse(&all)?;
        let others = table
            .entries()
            .filter(|entry| entry.record.uuid != uuid && entry.record.request.parent == parent);
        let others = others.filter_map(|entry| self.given(entry));
        let policy = self.0.engines.policy(parent).unwrap_or_default();
        check_together(&given, others, policy)?;
        Ok(Some(given))
    }

    /// What a vGPU's device is to see of its attributes: the rest is for its engine.
    pub(super) fn for_device(&self, uuid: Uuid, attributes: Vec<Attribute>) -> Vec<Attribute> {
        let table = self.table();
        let shares = table
            .entry(uuid)
            .is_some_and(|entry| self.given(entry).is_some());
        let attributes = attributes.into_iter();
        let is_its = |attribute: &Attribute| !shares || !is_setting(&attribute.name);
        attributes.filter(is_its).collect()
    }

    /// The settings of a vGPU as attributes; none if it shares no engine.
    pub(super) fn settings_of(&self, uuid: Uuid) -> Vec<Attribute> {
        let table = self.table();
        let given = table.entry(uuid).and_then(|entry| self.given(entry));
        let settings = given.into_iter().flat_map(|given| {
            settings::NAMES.into_iter().filter_map(move |name| {
                Some(Attribute {
                    name: name.to_owned(),
                    value: given.value(name)?,
                })
            })
        });
        settings.collect()
    }

    /// Every engine that is shared.
    pub async fn engines(&self) -> Vec<Engine> {
        let manager = self.clone();
        let told = blocking(move || manager.0.engines.told()).await;
        // Of one that is gone there is nothing to tell.
        let is_there = |engine: &Engine| {
            let spec = self.parent_spec(&engine.parent);
            spec.is_ok_and(|spec| spec.engine.is_some())
        };
        told.into_iter().filter(is_there).collect()
    }

    /// The engine of a parent.
    pub async fn engine(&self, parent: &str) -> Result<Engine, Error> {
        self.parent_spec(parent)?;
        let engines = self.engines().await.into_iter();
        let mut engines = engines.filter(|engine| engine.parent == parent);
        engines
            .next()
            .ok_or_else(|| Error::NoEngine(parent.to_owned()))
    }

    /// Who had it, after that decision.
    pub async fn engine_slices(&self, parent: &str, after: u64) -> Result<Vec<EngineSlice>, Error> {
        self.parent_spec(parent)?;
        let (manager, name) = (self.clone(), parent.to_owned());
        let slices = blocking(move || manager.0.engines.slices_after(&name, after)).await;
        slices.ok_or_else(|| Error::NoEngine(parent.to_owned()))
    }

    /// Shares a parent's engine in another way, from now on and after the next start.
    pub async fn set_policy(&self, parent: &str, policy: Policy) -> Result<Engine, Error> {
        self.engine(parent).await?;
        let (manager, name) = (self.clone(), parent.to_owned());
        detached(async move { blocking(move || manager.set_policy_now(&name, policy)).await })
            .await?;
        self.engine(parent).await
    }

    fn set_policy_now(&self, parent: &str, policy: Policy) -> Result<(), Error> {
        let _turn = self.0.policies.lock();
        let mut policies = read_policies(&self.0.paths.policies());
        let before = self.0.engines.policy(parent).unwrap_or_default();
        {
            let table = self.table();
            let on_parent = table.entries();
            let on_parent = on_parent.filter(|entry| entry.record.request.parent == parent);
            for given in on_parent.filter_map(|entry| self.given(entry)) {
                check_together(&given, std::iter::empty(), policy)?;
            }
            // Under the lock: who is given something from now on is held against that policy.
            self.0.engines.set_policy(parent, policy)?;
        }
        policies.insert(parent.to_owned(), policy);
        let saved = write_policies(self, &policies);
        if saved.is_err() {
            // One that was given something meanwhile may not go with the policy before.
            if let Err(error) = self.0.engines.set_policy(parent, before) {
                tracing::error!("{parent} is shared by {policy:?} until the next start: {error}");
            }
            return saved;
        }
        tracing::info!(parent, ?policy, "the engine is shared in another way");
        Ok(())
    }

    /// Does from now on what is to be done about jobs that take too long.
    pub(super) fn heed_engines(&self) {
        let (sender, mut notices) = tokio::sync::mpsc::unbounded_channel();
        self.0.engines.tell(sender);
        // It must not keep the manager, and with it the engines, alive.
        let manager = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            while let Some((parent, notice)) = notices.recv().await {
                let Some(inner) = manager.upgrade() else {
                    return;
                };
                Self(inner).heed(&parent, notice);
            }
        });
    }

    fn heed(&self, parent: &str, notice: Notice) {
        let events = &self.0.events;
        match notice {
            Notice::Overlong(uuid, words) => {
                events.tell(EventKind::Overlong, uuid, parent, words);
            }
            Notice::Reset(uuid, worker) => {
                let words = "its device is reset: a job does not end".to_owned();
                events.tell(EventKind::Overlong, uuid, parent, words);
                let control = worker.control.clone();
                tokio::task::spawn_blocking(move || {
                    if let Err(error) = Control::connect(&control).and_then(|c| c.reset()) {
                        tracing::warn!("the device of {uuid} cannot be reset: {error}");
                    }
                });
            }
            Notice::Kill(uuid, worker) => {
                let words = "its worker is ended: a job does not end".to_owned();
                events.tell(EventKind::Overlong, uuid, parent, words);
                worker.life.signal(Signal::KILL);
            }
        }
    }
}

/// The policies that were set while a daemon ran; those of a file that cannot be read are as the
/// configuration says.
pub(super) fn read_policies(path: &std::path::Path) -> Policies {
    let content = match std::fs::read(path) {
        Ok(content) => content,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Policies::new(),
        Err(error) => {
            tracing::error!("{} cannot be read: {error}", path.display());
            return Policies::new();
        }
    };
    serde_json::from_slice(&content).unwrap_or_else(|error| {
        tracing::error!("{} is not understood: {error}", path.display());
        Policies::new()
    })
}

fn write_policies(manager: &Manager, policies: &Policies) -> Result<(), Error> {
    let path = manager.0.paths.policies();
    let what = || format!("write {}", path.display());
    let content = serde_json::to_vec(policies)
        .map_err(|error| Error::os(what())(std::io::Error::other(error)))?;
    files::write_whole(&path, &content, 0o600).map_err(Error::os(what()))
}

/// Gives a worker the socket, as soon as it answers.
fn lend(worker: &Worker, socket: &std::os::fd::OwnedFd) -> Result<(), ControlError> {
    let begun = Instant::now();
    loop {
        let lent =
            Control::connect(&worker.control).and_then(|control| control.lend(socket.as_fd()));
        match lent {
            Err(ControlError::Io(_))
                if begun.elapsed() < PATIENCE && !worker.life.has_ended_within(PAUSE) => {}
            lent => return lent,
        }
    }
}
