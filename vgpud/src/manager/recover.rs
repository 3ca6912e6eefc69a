//! What an earlier daemon left, and what is to be started with this one.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, geteuid, pidfd_send_signal};
use tokio::task::JoinHandle;
use uuid::Uuid;
use worker::control::{Control, ControlError};

use crate::api::{CreateRequest, EventKind, Exit, InstanceState, SocketAccess, StartMode};
use crate::blocking::{blocking, detached};
use crate::catalogue::physical::is_device;
use crate::clock;
use crate::error::Error;
use crate::files;
use crate::functions::Name;
use crate::records::Record;
use crate::worker_process::keeping::Keeping;
use crate::worker_process::life::Life;
use crate::worker_process::{Worker, confinement, exit, identity};

use super::Manager;

/// How long a worker of which nothing is known may take to end.
const UNKNOWN_PATIENCE: Timespec = Timespec {
    tv_sec: 6,
    tv_nsec: 0,
};

/// How the files of a worker end.
const WORKER_FILES: [&str; 4] = [".sock", ".control", ".aside", ".log"];

/// And those of a console.
const CONSOLE_FILES: [&str; 2] = [".vnc", ".console"];

impl Manager {
    /// Takes in what an earlier daemon left: workers that live go on, places that are taken stay
    /// taken. What is to run and does not is for [`Manager::autostart`]. Once, before anything else.
    ///
    /// Returns the adoptions that have begun: until one ends, that worker parks with nobody.
    pub async fn recover(&self) -> Result<Vec<JoinHandle<()>>, Error> {
        self.heed_engines();
        let manager = self.clone();
        let living = blocking(move || manager.recover_now()).await?;
        let adoptions = living.into_iter().map(|(uuid, worker)| {
            self.watch(uuid, Arc::clone(&worker));
            self.begin_adoption(uuid, worker)
        });
        Ok(adoptions.collect())
    }

    pub(super) fn recover_now(&self) -> Result<Vec<(Uuid, Arc<Worker>)>, Error> {
        let records = self.0.records.read_all();
        let records = records.map_err(Error::os("read the records of instances"))?;
        let mut living = Vec::new();
        for mut record in self.without_strays(records) {
            let uuid = record.uuid;
            self.put_back_control(record.name());
            let worker = self.find_worker(&mut record).map(Arc::new);
            let mut state = InstanceState::Stopped;
            if let Some(worker) = &worker {
                state = InstanceState::Running;
                record.worker = Some(worker.identity.clone());
                living.push((uuid, Arc::clone(worker)));
            } else if self.has_failed(&record) {
                state = InstanceState::Failed;
                self.note_unseen_end(&mut record);
            }
            if record.part.is_some() {
                self.table().insert_part(record);
            } else {
                self.adopt_record(record);
            }
            let mut table = self.table();
            if let Some(entry) = table.entry_mut(uuid) {
                entry.state = state;
                entry.worker = worker;
            }
        }
        self.remove_orphans()?;
        self.remove_device_orphans()?;
        Ok(living)
    }

    fn adopt_record(&self, record: Record) {
        let request = &record.request;
        let offered = self.offered(&request.parent, &request.type_name);
        if let Err(error) = &offered {
            tracing::warn!("{} cannot be started again: {error}", record.uuid);
        }
        self.table().adopt(record, offered.ok().as_ref());
    }

    /// Records without those of functions whose instance is not there: a daemon was killed while it
    /// made or forgot it. Their workers are ended as any that is not known.
    fn without_strays(&self, mut records: Vec<Record>) -> Vec<Record> {
        let known: BTreeSet<_> = records.iter().map(|record| record.uuid).collect();
        records.retain(|record| {
            let is_known = record.part.is_none_or(|part| known.contains(&part.of));
            if !is_known && let Err(error) = self.0.records.remove(record.uuid) {
                tracing::warn!("the record of {} stays: {error}", record.uuid);
            }
            is_known
        });
        records
    }

    /// The worker of an instance, if it lives.
    fn find_worker(&self, record: &mut Record) -> Option<Worker> {
        if record.part.is_none() && is_device(&record.request.parent) {
            return self.find_seat(record);
        }
        let paths = &self.0.paths;
        let control = paths.control(record.name());
        let (pidfd, identity) = self.find_process(record)?;
        if record.worker.as_ref() != Some(&identity) {
            // Nor is it noted whose it became: nobody else may become the same.
            let status = Control::connect(&control).ok()?.status().ok()?;
            let user = Some(status.sandbox.user);
            record.user = user.filter(|user| *user != geteuid().as_raw());
        }
        Some(Worker::new(
            Life::Process(pidfd),
            identity,
            control,
            paths.log(record.name()),
            Keeping::default(),
        ))
    }

    /// Whether it is to run, and its worker has ended by itself since the boot.
    fn has_failed(&self, record: &Record) -> bool {
        let last = record.worker.as_ref();
        record.is_wanted && last.is_some_and(|last| last.boot_id == self.0.launcher.boot_id)
    }

    /// Takes note of an end while no daemon was there.
    fn note_unseen_end(&self, record: &mut Record) {
        if record.has_ended {
            return;
        }
        record.has_ended = true;
        record.crashes += 1;
        record.last_exit = Some(Exit {
            reason: "ended while no daemon was there".to_owned(),
            code: None,
            signal: None,
            last_words: exit::last_line(&self.0.paths.log(record.name()))
                .map(|words| confinement::explain(&self.0.config.workers, words)),
            at: clock::now(),
        });
        if let Err(error) = self.0.records.write(record) {
            tracing::warn!("the record of {} is out of date: {error}", record.uuid);
        }
    }

    /// Removes sockets of instances that are not known, and ends who answers there.
    fn remove_orphans(&self) -> Result<(), Error> {
        let run = self.0.paths.run();
        let what = format!("look into {}", run.display());
        for suffix in WORKER_FILES.into_iter().chain(CONSOLE_FILES) {
            let names = files::names_with(run, suffix).map_err(Error::os(what.clone()))?;
            for name in names.iter().filter_map(|name| owner(name, suffix)) {
                let state = {
                    let table = self.table();
                    let mut entries = table.entries();
                    let entry = entries.find(|entry| entry.record.name() == name);
                    entry.map(|entry| entry.state)
                };
                match state {
                    Some(InstanceState::Running) => {}
                    Some(_) => self.remove_sockets_of(name),
                    None => self.remove_orphan(name),
                }
            }
        }
        Ok(())
    }

    fn remove_orphan(&self, name: Name) {
        let control = self.0.paths.control(name);
        if let Ok(control) = Control::connect(&control) {
            tracing::warn!("the worker of {name}, of which nothing is known, is stopped");
            if let Err(error) = self.end_orphan(&control) {
                tracing::warn!("it does not stop: {error}");
            }
        }
        self.remove_sockets_of(name);
        super::ending::remove_or_warn(&self.0.paths.log(name));
    }

    fn end_orphan(&self, control: &Control) -> Result<(), ControlError> {
        if self.0.held.have_process(control.status()?.pid) {
            // A seat beside others, which go on.
            return control.stop();
        }
        end_unknown(control)
    }

    /// Starts what is to run and does not: instances that ran when the host went down, and
    /// definitions that say so.
    pub async fn autostart(&self) {
        let wanted: Vec<_> = {
            let table = self.table();
            let entries = table
                .instances()
                .filter(|entry| entry.record.is_wanted && entry.state == InstanceState::Stopped);
            entries.map(|entry| entry.record.uuid).collect()
        };
        for uuid in wanted {
            let parent = self.parent_of(uuid).unwrap_or_default();
            if let Err(error) = self.start(uuid).await {
                self.tell_failed(uuid, &parent, &error);
            }
        }
        let definitions = self.definitions().await.unwrap_or_else(|error| {
            tracing::error!("definitions cannot be read: {error}");
            Vec::new()
        });
        let automatic = definitions.into_iter();
        let automatic = automatic.filter(|defined| defined.start == StartMode::Auto);
        for defined in automatic.filter(|defined| !defined.active) {
            let (uuid, parent) = (defined.uuid, defined.parent.clone());
            let request = CreateRequest {
                parent: defined.parent,
                type_name: defined.type_name,
                attributes: defined.attributes,
                socket: SocketAccess::default(),
                start: true,
            };
            let manager = self.clone();
            let created = detached(async move { manager.create(uuid, request).await }).await;
            if let Err(error) = created {
                self.tell_failed(uuid, &parent, &error);
            }
        }
    }

    fn tell_failed(&self, uuid: Uuid, parent: &str, error: &Error) {
        let words = format!("cannot be started: {error}");
        self.0
            .events
            .tell(EventKind::AutostartFailed, uuid, parent, words);
    }
}

/// Ends a worker, by force if it takes long: what it has is given to others from then on.
pub(super) fn end_unknown(control: &Control) -> Result<(), ControlError> {
    let pidfd = identity::open_pid(control.status()?.pid)?;
    control.stop()?;
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    if poll(&mut fds, Some(&UNKNOWN_PATIENCE)).map_err(std::io::Error::from)? == 0 {
        pidfd_send_signal(&pidfd, Signal::KILL).map_err(std::io::Error::from)?;
    }
    Ok(())
}

/// Whose a file is, of which `stem` is left without its end.
fn owner(stem: &str, suffix: &str) -> Option<Name> {
    if CONSOLE_FILES.contains(&suffix) {
        // The number of a head may be behind the UUID.
        let uuid = stem.split_once('.').map_or(stem, |(uuid, _)| uuid);
        return Uuid::try_parse(uuid).ok().map(Name::from);
    }
    Name::parse(stem)
}
