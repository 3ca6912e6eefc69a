//! Start, stop, destroy.

use std::mem;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use uuid::Uuid;
use worker::control::Control;

use crate::api::{Attribute, CreateRequest, EventKind, Instance, InstanceState, SocketAccess};
use crate::blocking::{blocking, detached};
use crate::catalogue::physical::is_device;
use crate::config::Users;
use crate::error::Error;
use crate::functions::{self, Name};
use crate::worker_process::Worker;
use crate::worker_process::confinement::Confinement;
use crate::worker_process::keeping::part;
use crate::worker_process::launch::Plan;

use super::Manager;
use super::foreground::Turning;

/// An attribute of virtio's transport, which all of an instance have alike.
const MSIX_ATTRIBUTE: &str = "msix";

impl Manager {
    /// Starts an instance; one that runs already is as it should be. If there is none, but a
    /// definition, it is created as that says.
    pub async fn start(&self, uuid: Uuid) -> Result<Instance, Error> {
        let manager = self.clone();
        detached(async move {
            let turns = manager.turns(uuid).await;
            if let Ok(parent) = manager.parent_of(uuid) {
                manager.look_for(&parent).await;
            }
            let state = manager.table().entry(uuid).map(|entry| entry.state);
            match state {
                None => manager.create_defined(uuid).await?,
                // One that is being recovered has its sockets, and its turn is next.
                Some(InstanceState::Running | InstanceState::Recovering) => {
                    manager.launch_functions(uuid).await?;
                }
                Some(_) => manager.start_in_turn(uuid).await?,
            }
            drop(turns);
            manager.turn_off_others(uuid).await;
            manager.instance(uuid).await
        })
        .await
    }

    pub(super) async fn start_in_turn(&self, uuid: Uuid) -> Result<(), Error> {
        self.launch_all(uuid).await?;
        let parent = self.parent_of(uuid)?;
        self.tell_started(uuid, &parent);
        Ok(())
    }

    pub(super) fn tell_started(&self, uuid: Uuid, parent: &str) {
        let events = &self.0.events;
        events.tell(
            EventKind::Started,
            uuid,
            parent,
            "its worker is ready".to_owned(),
        );
    }

    async fn create_defined(&self, uuid: Uuid) -> Result<(), Error> {
        let manager = self.clone();
        let found = blocking(move || manager.find_definition(uuid)).await?;
        let (parent, definition) = found.ok_or(Error::NoInstance(uuid))?;
        let request = CreateRequest {
            parent,
            type_name: definition.type_name,
            attributes: definition.attributes,
            socket: SocketAccess::default(),
            start: true,
        };
        self.create_in_turn(uuid, request).await.map(drop)
    }

    /// Starts the worker of an instance. On error it is as it was.
    pub(super) async fn launch(&self, uuid: Uuid) -> Result<(), Error> {
        let plan = self.plan(uuid)?;
        let before = self.set_state(uuid, InstanceState::Starting)?;
        let turning = self.turn_to(uuid, &plan.attributes).await;
        let launcher = self.0.launcher.clone();
        let launched = blocking(move || launcher.launch(&plan)).await;
        let (worker, turned) = match launched {
            Ok(worker) => (Arc::new(worker), turning.map(Turning::done)),
            Err(error) => {
                drop(turning);
                self.set_state(uuid, before)?;
                self.let_go_of(uuid).await;
                return Err(error);
            }
        };
        let record_before = {
            let mut table = self.table();
            let entry = table.entry_mut(uuid).ok_or(Error::NoInstance(uuid))?;
            let record_before = entry.record.clone();
            entry.worker = Some(Arc::clone(&worker));
            entry.late_crashes.forget();
            entry.record.worker = Some(worker.identity.clone());
            entry.record.has_ended = false;
            entry.record.is_wanted = true;
            record_before
        };
        if let Err(error) = self.save(uuid).await {
            self.undo_launch(uuid, &worker).await;
            if let Some(turned) = turned {
                turned.undo();
            }
            if let Some(entry) = self.table().entry_mut(uuid) {
                entry.record = record_before;
                entry.state = before;
            }
            self.let_go_of(uuid).await;
            return Err(error);
        }
        self.set_state(uuid, InstanceState::Running)?;
        self.watch(uuid, worker);
        Ok(())
    }

    /// Ends a worker that nobody watches yet.
    async fn undo_launch(&self, uuid: Uuid, worker: &Arc<Worker>) {
        let manager = self.clone();
        let worker = Arc::clone(worker);
        blocking(move || {
            worker.discard();
            part(worker.keeping.inherit());
            manager.remove_sockets(uuid);
        })
        .await;
        if let Some(entry) = self.table().entry_mut(uuid) {
            entry.worker = None;
        }
    }

    pub(super) fn plan(&self, uuid: Uuid) -> Result<Plan, Error> {
        let name = self.name_of(uuid);
        let (base, mut attributes) = self.attributes_in_force(name.uuid)?;
        let base = match name.function {
            None => base,
            Some(function) => {
                // What is said of the transport is said of all: a display that has no MSI-X is
                // one that can be unplugged from QEMU.
                let is_virtio = base.starts_with("gpu-");
                attributes.retain(|attribute| attribute.name == MSIX_ATTRIBUTE);
                attributes.extend((!is_virtio).then(|| Attribute {
                    name: MSIX_ATTRIBUTE.to_owned(),
                    value: "off".to_owned(),
                }));
                function.base().to_owned()
            }
        };
        attributes.retain(|attribute| attribute.name != functions::ATTRIBUTE);
        Ok(Plan {
            name,
            base,
            attributes: self.for_device(name.uuid, attributes),
            access: self.access_of(name.uuid)?,
            seat: self.seat_plan(uuid)?,
            confinement: self.confinement(name)?,
        })
    }

    /// A vGPU is one user, whatever it is made of.
    fn confinement(&self, name: Name) -> Result<Confinement, Error> {
        let config = &self.0.config.workers;
        let uuid = name.uuid;
        let parent = self.parent_of(uuid)?;
        if is_device(&parent) && name.function.is_none() {
            return Ok(Confinement::default());
        }
        let user = match config.users {
            Users::Usual | Users::Daemons => None,
            Users::Each(users) => {
                let user = self.table().user_of(uuid, users.numbers());
                Some(user.ok_or(Error::NoUser)?)
            }
        };
        Ok(Confinement::new(config, name, user))
    }

    /// Stops an instance; one that has stopped is as it should be. Its place stays its own.
    pub async fn stop(&self, uuid: Uuid, is_forced: bool) -> Result<Instance, Error> {
        let manager = self.clone();
        detached(async move {
            let _turns = manager.turns(uuid).await;
            manager.stop_in_turn(uuid, is_forced).await?;
            manager.instance(uuid).await
        })
        .await
    }

    /// Stops all of an instance, or nothing if a VMM is connected to any of it.
    pub(super) async fn stop_in_turn(&self, uuid: Uuid, is_forced: bool) -> Result<(), Error> {
        for (_, part) in self.parts(uuid) {
            let is_busy = match self.worker_of(part) {
                Ok(worker) => is_in_use(&worker).await,
                Err(_) => self.is_awaited(part),
            };
            if is_busy && !is_forced {
                return Err(Error::Busy(uuid));
            }
        }
        self.stop_one(uuid, is_forced).await?;
        for (_, part) in self.parts(uuid) {
            self.stop_one(part, true).await?;
        }
        Ok(())
    }

    /// Stops the worker of an instance, or that of a function.
    pub(super) async fn stop_one(&self, uuid: Uuid, is_forced: bool) -> Result<(), Error> {
        let worker = match self.worker_of(uuid) {
            Ok(worker) => worker,
            Err(Error::NotRunning(_)) if !is_forced && self.is_awaited(uuid) => {
                return Err(Error::Busy(uuid));
            }
            Err(Error::NotRunning(_)) => return self.stop_without_worker(uuid).await,
            Err(error) => return Err(error),
        };
        if !is_forced && is_in_use(&worker).await {
            return Err(Error::Busy(uuid));
        }
        if !self.begin_stop(uuid, &worker) {
            return self.stop_without_worker(uuid).await;
        }
        if worker.end().await {
            self.let_go_of(uuid).await;
            return Ok(());
        }
        self.go_on_after_stop(uuid, &worker)
    }

    /// A worker was not seen to end in time.
    fn go_on_after_stop(&self, uuid: Uuid, worker: &Arc<Worker>) -> Result<(), Error> {
        let mut table = self.table();
        let entry = table.entry_mut(uuid).ok_or(Error::NoInstance(uuid))?;
        if !entry.is_served_by(worker) {
            // It was, just now.
            return Ok(());
        }
        if worker.life.has_ended_within(Duration::ZERO) {
            // What that entails is done yet, and the state then follows.
            return Err(Error::Mute(uuid, "its end takes long".to_owned()));
        }
        entry.state = InstanceState::Running;
        Err(Error::Mute(uuid, "it outlives SIGKILL".to_owned()))
    }

    /// Whether its worker is still there to be stopped: it may have ended meanwhile.
    fn begin_stop(&self, uuid: Uuid, worker: &Arc<Worker>) -> bool {
        let mut table = self.table();
        let Some(entry) = table.entry_mut(uuid) else {
            return false;
        };
        let is_there = entry.is_served_by(worker);
        if is_there {
            entry.state = InstanceState::Stopping;
        }
        is_there
    }

    /// On error it is as it was.
    async fn stop_without_worker(&self, uuid: Uuid) -> Result<(), Error> {
        let swap = |state, is_wanted| {
            let mut table = self.table();
            let entry = table.entry_mut(uuid).ok_or(Error::NoInstance(uuid))?;
            Ok((
                mem::replace(&mut entry.state, state),
                mem::replace(&mut entry.record.is_wanted, is_wanted),
            ))
        };
        let (state, is_wanted) = swap(InstanceState::Stopped, false)?;
        let saved = self.save(uuid).await;
        if saved.is_err() {
            swap(state, is_wanted)?;
            return saved;
        }
        let manager = self.clone();
        blocking(move || {
            manager.part_with_left(uuid);
            manager.remove_sockets(uuid);
        })
        .await;
        self.let_go_of(uuid).await;
        Ok(())
    }

    /// Stops an instance and forgets it: its place is free once its worker is gone.
    pub async fn destroy(&self, uuid: Uuid, is_forced: bool) -> Result<(), Error> {
        let manager = self.clone();
        detached(async move {
            let _turns = manager.turns(uuid).await;
            let parent = manager.parent_of(uuid)?;
            let mut all = manager.whole(uuid).into_iter();
            if all.any(|one| manager.worker_of(one).is_ok() || manager.is_awaited(one)) {
                manager.stop_in_turn(uuid, is_forced).await?;
            }
            manager.erase(uuid).await?;
            let events = &manager.0.events;
            events.tell(EventKind::Destroyed, uuid, &parent, "destroyed".to_owned());
            Ok(())
        })
        .await
    }

    /// Forgets an instance that has no worker, and gives its place back.
    pub(super) async fn erase(&self, uuid: Uuid) -> Result<(), Error> {
        for (_, part) in self.parts(uuid) {
            self.erase_one(part).await?;
        }
        self.erase_one(uuid).await
    }

    pub(super) async fn erase_one(&self, uuid: Uuid) -> Result<(), Error> {
        let manager = self.clone();
        blocking(move || {
            let writing = manager
                .table()
                .entry(uuid)
                .map(|entry| Arc::clone(&entry.writing));
            let writing = writing.ok_or(Error::NoInstance(uuid))?;
            // A note of its worker's end may still be on its way: it finds nothing to write.
            let _writing = writing.lock().unwrap_or_else(PoisonError::into_inner);
            let removed = manager.0.records.remove(uuid);
            removed.map_err(Error::os(format!("remove the record of {uuid}")))?;
            manager.part_with_left(uuid);
            manager.remove_sockets(uuid);
            super::ending::remove_or_warn(&manager.0.paths.log(manager.name_of(uuid)));
            manager.table().remove(uuid);
            Ok(())
        })
        .await
    }

    pub(super) fn parent_of(&self, uuid: Uuid) -> Result<String, Error> {
        let table = self.table();
        let entry = table.entry(uuid).ok_or(Error::NoInstance(uuid))?;
        Ok(entry.record.request.parent.clone())
    }

    /// Sets the state, and gives back the one before.
    pub(super) fn set_state(
        &self,
        uuid: Uuid,
        state: InstanceState,
    ) -> Result<InstanceState, Error> {
        let mut table = self.table();
        let entry = table.entry_mut(uuid).ok_or(Error::NoInstance(uuid))?;
        Ok(mem::replace(&mut entry.state, state))
    }
}

/// Whether a VMM is connected. A worker that does not answer serves none.
async fn is_in_use(worker: &Worker) -> bool {
    let control = worker.control.clone();
    let status = blocking(move || Control::connect(&control)?.status()).await;
    status.is_ok_and(|status| status.connected)
}
