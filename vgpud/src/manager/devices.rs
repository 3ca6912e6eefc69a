//! vGPUs that stand on physical devices: all of one device share its worker.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use uuid::Uuid;
use worker::control::Control;

use crate::blocking::blocking;
use crate::catalogue::ParentSpec;
use crate::catalogue::physical::is_device;
use crate::config::Users;
use crate::error::Error;
use crate::files;
use crate::held::process::DeviceProcess;
use crate::held::{DevicePlan, HeldDevice};
use crate::records::{Record, WorkerIdentity};
use crate::worker_process::confinement::Confinement;
use crate::worker_process::keeping::Keeping;
use crate::worker_process::life::Life;
use crate::worker_process::seat::{self, SeatPlan};
use crate::worker_process::{Worker, identity};

use super::Manager;
use super::ending::remove_or_warn;

impl Manager {
    /// How the seat of a vGPU is taken; `None` if it stands on no physical device.
    pub(super) fn seat_plan(&self, uuid: Uuid) -> Result<Option<SeatPlan>, Error> {
        let request = {
            let table = self.table();
            let entry = table.entry(uuid).ok_or(Error::NoInstance(uuid))?;
            let is_part = entry.record.part.is_some();
            (!is_part).then(|| entry.record.request.clone())
        };
        let Some(request) = request else {
            // A keyboard has a worker of its own, wherever its display stands.
            return Ok(None);
        };
        let spec = self.parent_spec(&request.parent)?;
        let Some(host) = spec.host.clone() else {
            return Ok(None);
        };
        let offered = self.offered(&request.parent, &request.type_name)?;
        Ok(Some(SeatPlan {
            held: self.0.held.of(&spec.name),
            device: DevicePlan {
                host,
                confinement: self.device_confinement(&spec)?,
            },
            leased: offered.uses_engine && self.0.engines.has(&spec.name),
        }))
    }

    /// A device's worker is a user of its own, whichever vGPUs it serves.
    fn device_confinement(&self, spec: &ParentSpec) -> Result<Confinement, Error> {
        let config = &self.0.config.workers;
        let user = match config.users {
            Users::Usual | Users::Daemons => None,
            Users::Each(users) => {
                let user = self.table().user_of_device(&spec.name, users.numbers());
                Some(user.ok_or(Error::NoUser)?)
            }
        };
        let places = spec.limits.instances;
        Ok(Confinement::of_device(config, &spec.name, user, places))
    }

    /// Ends the worker of a device, and gives the device back, if none of its vGPUs is served any more.
    pub(super) async fn let_go(&self, parent: &str) {
        let (manager, parent) = (self.clone(), parent.to_owned());
        blocking(move || manager.let_go_now(&parent)).await;
    }

    /// The same, of the device that a vGPU stands on.
    pub(super) async fn let_go_of(&self, uuid: Uuid) {
        if let Some(parent) = self.device_of(uuid) {
            self.let_go(&parent).await;
        }
    }

    /// The parent of a vGPU that has, or had, a seat on it. A function of one has a process of its own.
    pub(super) fn device_of(&self, uuid: Uuid) -> Option<String> {
        let table = self.table();
        let record = &table.entry(uuid)?.record;
        let parent = &record.request.parent;
        (record.part.is_none() && is_device(parent)).then(|| parent.clone())
    }

    fn let_go_now(&self, parent: &str) {
        let is_used = || {
            let table = self.table();
            let mut entries = table.instances();
            entries.any(|entry| entry.record.request.parent == parent && entry.is_served())
        };
        self.0.held.of(parent).give_back(is_used);
    }

    /// The seat of a vGPU, if it lives: an earlier daemon took it. Blocks.
    pub(super) fn find_seat(&self, record: &mut Record) -> Option<Worker> {
        let paths = &self.0.paths;
        let control = paths.control(record.name());
        let (pidfd, identity) = self.find_process(record)?;
        let parent = &record.request.parent;
        let device = self.0.held.of(parent);
        let process = self.adopt_device(parent, &device, pidfd, identity);
        let life = match seat::find(record.uuid, &control, &device, &process) {
            Ok(Some(life)) => life,
            Ok(None) => {
                // One that was stopped has none.
                if record.is_wanted {
                    tracing::warn!("{} has no seat on {parent} any more", record.uuid);
                }
                return None;
            }
            Err(error) => {
                tracing::error!("the seat of {} is not to be found: {error}", record.uuid);
                return None;
            }
        };
        let (identity, log) = (process.identity.clone(), process.log.clone());
        // It is asked for what it parks once the others are found.
        let keeping = Keeping::default();
        Some(Worker::new(life, identity, control, log, keeping))
    }

    /// The worker of a device, taken in with its first seat.
    fn adopt_device(
        &self,
        parent: &str,
        device: &Arc<HeldDevice>,
        pidfd: OwnedFd,
        identity: WorkerIdentity,
    ) -> Arc<DeviceProcess> {
        if let Some(process) = device.process()
            && process.identity == identity
        {
            return process;
        }
        let confinement = match self.parent_spec(parent) {
            Ok(spec) => {
                let config = &self.0.config.workers;
                Confinement::of_device(config, parent, None, spec.limits.instances)
            }
            Err(_) => Confinement::default(),
        };
        let process = DeviceProcess::new(&self.0.paths, parent, pidfd, identity, confinement);
        self.note_user_of_device(parent, &process);
        device.adopt(process)
    }

    fn note_user_of_device(&self, parent: &str, process: &DeviceProcess) {
        let status = Control::connect(&process.control).and_then(|control| control.status());
        if let Ok(status) = status {
            // Nobody else may become the same.
            self.table().set_user_of_device(parent, status.sandbox.user);
        }
    }

    /// Takes in the rest of a device whose worker was too slow before its seats were asked. Blocks.
    pub(super) fn adopt_device_again(&self, parent: &str, life: &Life) {
        if let Life::Seat(seat) = life
            && seat.device.take_files_again(&seat.process)
        {
            self.note_user_of_device(parent, &seat.process);
        }
    }

    /// Ends workers of devices that have no vGPU, and removes what is left of others. Blocks.
    pub(super) fn remove_device_orphans(&self) -> Result<(), Error> {
        let run = self.0.paths.run();
        let what = format!("look into {}", run.display());
        let names = files::names_with(run, ".control").map_err(Error::os(what))?;
        for parent in names.iter().filter(|name| is_device(name)) {
            let path = self.0.paths.device_control(parent);
            if let Some(process) = self.0.held.of(parent).process() {
                // What is not known of may be a VMM's all the same.
                if process.may_have_seats() {
                    tracing::info!("the worker of {parent} has seats, and goes on");
                } else {
                    self.let_go_now(parent);
                }
                continue;
            }
            if let Ok(control) = Control::connect(&path) {
                tracing::warn!("the worker of {parent}, which has no vGPU, is stopped");
                if let Err(error) = super::recover::end_unknown(&control) {
                    tracing::warn!("it does not stop: {error}");
                }
            }
            remove_or_warn(&path);
        }
        Ok(())
    }

    /// A process that was noted, or else answers, as the one that serves a vGPU.
    pub(super) fn find_process(&self, record: &Record) -> Option<(OwnedFd, WorkerIdentity)> {
        let boot_id = &self.0.launcher.boot_id;
        let known = record.worker.as_ref();
        let known = known.and_then(|worker| {
            identity::open(worker, boot_id).map(|pidfd| (pidfd, worker.clone()))
        });
        known.or_else(|| {
            // A daemon that was killed while it started one had no time to note it.
            let control = self.0.paths.control(record.name());
            let status = Control::connect(&control).ok()?.status().ok()?;
            let identity = identity::of(status.pid, boot_id).ok()?;
            let pidfd = identity::open(&identity, boot_id)?;
            Some((pidfd, identity))
        })
    }
}
