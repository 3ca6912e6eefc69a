//! Functions of an instance beside its display: they live with it, each in a worker of its own. One
//! that crashes is recovered as any, and costs the others nothing.

use uuid::Uuid;

use crate::api::{self, Attribute, EventKind, InstanceState};
use crate::clock;
use crate::error::Error;
use crate::functions::{self, Function, Name};
use crate::records::{Part, Record};
use crate::turns::Turn;
use crate::worker_process::Worker;

use super::Manager;

impl Manager {
    /// The turns of an instance and of its functions, each of which may be in the middle of a recovery
    /// of its own. Whoever has that of a function alone waits for no other.
    pub(super) async fn turns(&self, uuid: Uuid) -> Vec<Turn> {
        let mut turns = vec![self.0.turns.wait(uuid).await];
        for (_, part) in self.parts(uuid) {
            turns.push(self.0.turns.wait(part).await);
        }
        turns
    }

    /// Starts the workers of an instance, those that do not run. On error those that ran before go on,
    /// and no others.
    pub(super) async fn launch_all(&self, uuid: Uuid) -> Result<(), Error> {
        let whole = self.whole(uuid).into_iter();
        let before: Vec<_> = whole.filter(|one| self.worker_of(*one).is_ok()).collect();
        self.launch(uuid).await?;
        let launched = self.launch_functions(uuid).await;
        if launched.is_err() {
            for one in self.whole(uuid) {
                if !before.contains(&one)
                    && let Err(left) = self.stop_one(one, true).await
                {
                    // What was first is told; this is for who runs the host.
                    tracing::error!("{uuid} was not started, and is there: {left}");
                }
            }
        }
        launched
    }

    /// Starts the functions of an instance that do not run.
    pub(super) async fn launch_functions(&self, uuid: Uuid) -> Result<(), Error> {
        let wanted = self.functions_wanted(uuid)?;
        for (function, part) in self.parts(uuid) {
            if !wanted.contains(&function) {
                self.stop_one(part, true).await?;
                self.erase_one(part).await?;
            }
        }
        for function in wanted {
            let existing = self.parts(uuid);
            let existing = existing.iter().find(|(existing, _)| *existing == function);
            let part = match existing {
                Some((_, part)) => *part,
                None => self.add_part(uuid, function)?,
            };
            let state = self.table().entry(part).map(|entry| entry.state);
            if !matches!(
                state,
                Some(InstanceState::Running | InstanceState::Recovering)
            ) {
                self.launch(part).await?;
            }
        }
        Ok(())
    }

    fn add_part(&self, uuid: Uuid, function: Function) -> Result<Uuid, Error> {
        let mut table = self.table();
        let entry = table.entry(uuid).ok_or(Error::NoInstance(uuid))?;
        let mut request = entry.record.request.clone();
        function.base().clone_into(&mut request.type_name);
        request.attributes.clear();
        // A name that nobody is told of: what it has is called by the instance's.
        let part = Uuid::new_v4();
        let mut record = Record::new(part, request, clock::now());
        record.part = Some(Part { of: uuid, function });
        table.insert_part(record);
        Ok(part)
    }

    /// The functions that an instance has by its attributes.
    fn functions_wanted(&self, uuid: Uuid) -> Result<Vec<Function>, Error> {
        let (base, attributes) = self.attributes_in_force(uuid)?;
        functions::of(&base, &attributes).map_err(Error::Invalid)
    }

    /// The driver's type of an instance, and all its attributes, of which the later one wins.
    pub(super) fn attributes_in_force(
        &self,
        uuid: Uuid,
    ) -> Result<(String, Vec<Attribute>), Error> {
        let record = self.table().entry(uuid).map(|entry| entry.record.clone());
        let record = record.ok_or(Error::NoInstance(uuid))?;
        let offered = self.offered(&record.request.parent, &record.request.type_name)?;
        let attributes = offered.attributes.iter().cloned();
        let attributes = attributes.chain(record.attributes);
        Ok((offered.base.clone(), attributes.collect()))
    }

    /// The functions that an instance has now.
    pub(super) fn parts(&self, uuid: Uuid) -> Vec<(Function, Uuid)> {
        let table = self.table();
        let parts = table.parts_of(uuid);
        parts
            .map(|(function, entry)| (function, entry.record.uuid))
            .collect()
    }

    /// An instance, then its functions.
    pub(super) fn whole(&self, uuid: Uuid) -> Vec<Uuid> {
        let parts = self.parts(uuid).into_iter().map(|(_, part)| part);
        std::iter::once(uuid).chain(parts).collect()
    }

    /// What the files of an instance, or of a function, are called.
    pub(super) fn name_of(&self, uuid: Uuid) -> Name {
        let table = self.table();
        let entry = table.entry(uuid);
        entry.map_or_else(|| uuid.into(), |entry| entry.record.name())
    }

    /// Tells that something happened to an instance, or to a function of one.
    pub(super) fn tell(&self, kind: EventKind, uuid: Uuid, parent: &str, detail: String) {
        let name = self.name_of(uuid);
        let detail = match name.function {
            None => detail,
            // It ends with the instance, of which that is told.
            Some(_) if kind == EventKind::Stopped => return,
            Some(function) => format!("{}: {detail}", function.name()),
        };
        self.0.events.tell(kind, name.uuid, parent, detail);
    }

    /// The functions of an instance, as they are told.
    pub(super) fn describe_functions(
        &self,
        table: &crate::table::Table,
        uuid: Uuid,
    ) -> Vec<api::Function> {
        let paths = &self.0.paths;
        let described = table.parts_of(uuid).map(|(function, entry)| {
            let name = entry.record.name();
            let worker: Option<&Worker> = entry.worker.as_deref();
            api::Function {
                name: function,
                state: entry.state,
                socket: paths.socket(name).display().to_string(),
                control: paths.control(name).display().to_string(),
                pid: worker.map(|worker| worker.identity.pid),
                crashes: entry.record.crashes,
                last_exit: entry.record.last_exit.clone(),
                recoveries: entry.record.recoveries,
                upgrades: entry.record.upgrades,
            }
        });
        described.collect()
    }
}
