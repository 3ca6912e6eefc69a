//! What the daemon does with instances.
//!
//! Each change of an instance takes its turn (`turns`), goes on to its end even if who
//! asked is gone, and blocks only where it may. The table is locked for moments.
//!
//! - `parents`: what there is to create them on,
//! - `create`: an instance comes to be, or nothing does,
//! - `lifecycle`: start, stop, destroy,
//! - `ending`: what a worker's end entails, whatever its cause,
//! - `recovery`: another worker takes over from one that ended by itself,
//! - `upgrade`: one of the installed program takes over from one that serves,
//! - `functions`: the keyboard and the tablet of an instance, which live with it,
//! - `running`: what is asked of an instance that runs,
//! - `attributes`: those of an instance that is there are changed,
//! - `engines`: workers and the engine that they share,
//! - `consoles`: displays, for viewers,
//! - `devices`: those that stand on physical devices, and share a worker,
//! - `foreground`: which of those the device shows,
//! - `define`: persistent definitions,
//! - `logs`: what workers say, kept short,
//! - `recover`, `adopt`: what an earlier daemon left, and what is to be started with this one,
//! - `farewell`: what becomes of them when this daemon is stopped.

mod adopt;
mod attributes;
mod consoles;
mod create;
mod define;
mod devices;
mod ending;
mod engines;
mod farewell;
mod foreground;
mod functions;
mod lifecycle;
mod logs;
mod parents;
mod recover;
mod recovery;
mod running;
mod upgrade;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use uuid::Uuid;

use crate::api::{Event, Instance};
use crate::blocking::blocking;
use crate::catalogue::ParentSpec;
use crate::config::Config;
use crate::console_process::ConsoleLauncher;
use crate::definitions::Definitions;
use crate::engines::Engines;
use crate::error::Error;
use crate::events::Events;
use crate::held::HeldDevices;
use crate::paths::Paths;
use crate::programs::CONSOLE;
use crate::records::Records;
use crate::table::{Entry, Table};
use crate::turns::Turns;
use crate::worker_process::launch::Launcher;
use crate::worker_process::{Worker, identity};

pub use create::Created;
use foreground::Foreground;

/// The daemon's parents and instances. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Manager(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    paths: Paths,
    /// Locked after the table, if both are.
    parents: RwLock<Vec<Arc<ParentSpec>>>,
    /// Held while physical ones are looked for.
    looking: Mutex<()>,
    table: Mutex<Table>,
    turns: Arc<Turns>,
    events: Events,
    definitions: Definitions,
    records: Records,
    launcher: Launcher,
    held: HeldDevices,
    foreground: Foreground,
    consoles: ConsoleLauncher,
    engines: Engines,
    /// Held while a policy is set, and the file of them is written.
    policies: Mutex<()>,
    /// Whether the daemon is being stopped: then no worker takes over from another any more.
    is_ending: AtomicBool,
}

impl Manager {
    /// A manager of `parents` that knows no instance yet: see [`Manager::recover`].
    pub fn new(
        config: Config,
        paths: Paths,
        parents: Vec<ParentSpec>,
        program: PathBuf,
    ) -> io::Result<Self> {
        let consoles = ConsoleLauncher {
            paths: paths.clone(),
            // Of the same build, it lies beside the worker.
            program: program.with_file_name(CONSOLE),
            boot_id: identity::boot_id()?,
        };
        let launcher = Launcher {
            paths: paths.clone(),
            program,
            boot_id: identity::boot_id()?,
        };
        let policies = engines::read_policies(&paths.policies());
        Ok(Self(Arc::new(Inner {
            engines: Engines::new(&parents, |parent| policies.get(parent).copied())?,
            policies: Mutex::default(),
            table: Mutex::new(Table::new(&parents)),
            turns: Arc::default(),
            events: Events::new(),
            definitions: Definitions::new(paths.definitions()),
            records: Records::new(&paths.records()),
            launcher,
            held: HeldDevices::default(),
            foreground: Foreground::default(),
            consoles,
            is_ending: AtomicBool::new(false),
            config,
            paths,
            parents: RwLock::new(parents.into_iter().map(Arc::new).collect()),
            looking: Mutex::default(),
        })))
    }

    /// Where things lie.
    pub fn paths(&self) -> &Paths {
        &self.0.paths
    }

    /// The program that serves a vGPU.
    pub fn worker_program(&self) -> &std::path::Path {
        &self.0.launcher.program
    }

    /// Every instance.
    pub async fn instances(&self) -> Vec<Instance> {
        let manager = self.clone();
        blocking(move || {
            let entries: Vec<_> = {
                let table = manager.table();
                table
                    .instances()
                    .map(|entry| manager.describe(&table, entry))
                    .collect()
            };
            let entries = entries.into_iter();
            entries
                .map(|entry| manager.with_definition(entry))
                .collect()
        })
        .await
    }

    /// One instance.
    pub async fn instance(&self, uuid: Uuid) -> Result<Instance, Error> {
        let manager = self.clone();
        blocking(move || manager.instance_now(uuid)).await
    }

    /// What happened after the event `last`, as far as it is known, and what will.
    pub fn listen(
        &self,
        last: Option<u64>,
    ) -> (Vec<Event>, tokio::sync::broadcast::Receiver<Event>) {
        self.0.events.listen(last)
    }

    fn instance_now(&self, uuid: Uuid) -> Result<Instance, Error> {
        let described = {
            let table = self.table();
            let entry = table.entry(uuid);
            let entry = entry.filter(|entry| entry.record.part.is_none());
            entry.map(|entry| self.describe(&table, entry))
        };
        let instance = described.ok_or(Error::NoInstance(uuid))?;
        Ok(self.with_definition(instance))
    }

    fn with_definition(&self, mut instance: Instance) -> Instance {
        let definitions = &self.0.definitions;
        instance.defined = definitions.contains(&instance.parent, instance.uuid);
        instance
    }

    /// An instance as it is told, but for whether it is defined: that stands in files.
    fn describe(&self, table: &Table, entry: &Entry) -> Instance {
        let record = &entry.record;
        let request = &record.request;
        let paths = &self.0.paths;
        Instance {
            uuid: record.uuid,
            parent: request.parent.clone(),
            type_name: request.type_name.clone(),
            attributes: record.attributes.clone(),
            state: entry.state,
            socket: paths.socket(record.uuid).display().to_string(),
            access: request.socket.or(&self.0.config.sockets),
            control: paths.control(record.uuid).display().to_string(),
            pid: entry.worker.as_ref().map(|worker| worker.identity.pid),
            functions: self.describe_functions(table, record.uuid),
            crashes: record.crashes,
            last_exit: record.last_exit.clone(),
            recoveries: record.recoveries,
            last_recovery: record.last_recovery.clone(),
            upgrades: record.upgrades,
            defined: false,
            created_at: record.created_at,
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worker of an instance that runs.
    fn worker_of(&self, uuid: Uuid) -> Result<Arc<Worker>, Error> {
        let table = self.table();
        let entry = table.entry(uuid).ok_or(Error::NoInstance(uuid))?;
        entry.worker.clone().ok_or(Error::NotRunning(uuid))
    }

    /// Writes an instance's record as it is by the time of writing. Blocks.
    fn save_now(&self, uuid: Uuid) -> Result<(), Error> {
        let writing = self
            .table()
            .entry(uuid)
            .map(|entry| Arc::clone(&entry.writing));
        let Some(writing) = writing else {
            return Ok(());
        };
        let _writing = writing.lock().unwrap_or_else(PoisonError::into_inner);
        let record = self.table().entry(uuid).map(|entry| entry.record.clone());
        match record {
            Some(record) => self.0.records.write(&record),
            None => Ok(()),
        }
        .map_err(Error::os(format!("write the record of {uuid}")))
    }

    async fn save(&self, uuid: Uuid) -> Result<(), Error> {
        let manager = self.clone();
        blocking(move || manager.save_now(uuid)).await
    }
}

#[cfg(test)]
mod tests;
