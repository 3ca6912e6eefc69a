//! Every instance, and the pools that they are taken from: one value behind one lock, which is
//! never held over I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use uuid::Uuid;
use worker::parking::Parked;

use crate::api::{InstanceState, Parent, PoolUse, Type};
use crate::catalogue::{OfferedType, ParentSpec};
use crate::crashes::Crashes;
use crate::error::Error;
use crate::functions::Function;
use crate::pool::{Full, Limits, Pool, Share};
use crate::records::Record;
use crate::worker_process::Worker;

/// An instance.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) record: Record,
    pub(crate) state: InstanceState,
    pub(crate) worker: Option<Arc<Worker>>,
    /// What its last worker left, until another takes over from it.
    pub(crate) left: Option<Parked>,
    /// How often its workers have ended of late.
    pub(crate) late_crashes: Crashes,
    /// Held while the record's file is written, so that the newest is written last.
    pub(crate) writing: Arc<Mutex<()>>,
    /// What it took. It gives back the same, whatever the configuration says by then.
    share: Share,
}

impl Entry {
    /// Whether this very worker serves it: another one may have taken over meanwhile.
    pub(crate) fn is_served_by(&self, worker: &Arc<Worker>) -> bool {
        let current = self.worker.as_ref();
        current.is_some_and(|current| Arc::ptr_eq(current, worker))
    }
}

impl Entry {
    /// Whether it has, or waits for, a worker.
    pub(crate) fn is_served(&self) -> bool {
        let is_over = matches!(self.state, InstanceState::Stopped | InstanceState::Failed);
        !is_over || self.worker.is_some() || self.left.is_some()
    }
}

/// Every instance and pool.
#[derive(Debug)]
pub(crate) struct Table {
    pools: BTreeMap<String, Pool>,
    entries: BTreeMap<Uuid, Entry>,
    /// Whose the workers of physical devices become, by the names of their parents.
    device_users: BTreeMap<String, u32>,
}

impl Table {
    pub(crate) fn new(parents: &[ParentSpec]) -> Self {
        let pools = parents.iter();
        Self {
            pools: pools
                .map(|parent| (parent.name.clone(), Pool::new(parent.limits)))
                .collect(),
            entries: BTreeMap::new(),
            device_users: BTreeMap::new(),
        }
    }

    /// Parents as they are now. What is taken of one stays taken, of one that is gone as well. What one
    /// that was not there offers is taken for whoever was taken in without it.
    pub(crate) fn set_parents(&mut self, parents: &[Arc<ParentSpec>]) {
        for parent in parents {
            let pool = self.pools.entry(parent.name.clone());
            let pool = pool.or_insert_with(|| Pool::new(parent.limits));
            pool.set_limits(parent.limits);
            for entry in self.entries.values_mut() {
                let request = &entry.record.request;
                if entry.record.part.is_some() || request.parent != parent.name {
                    continue;
                }
                if let Some(offered) = parent.find_type(&request.type_name) {
                    pool.give_back(&request.type_name, entry.share);
                    pool.take_anyhow(&request.type_name, offered.share);
                    entry.share = offered.share;
                }
            }
        }
    }

    pub(crate) fn entry(&self, uuid: Uuid) -> Option<&Entry> {
        self.entries.get(&uuid)
    }

    pub(crate) fn entry_mut(&mut self, uuid: Uuid) -> Option<&mut Entry> {
        self.entries.get_mut(&uuid)
    }

    /// Every instance, and every function of one.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Every instance.
    pub(crate) fn instances(&self) -> impl Iterator<Item = &Entry> {
        self.entries().filter(|entry| entry.record.part.is_none())
    }

    /// The functions of an instance.
    pub(crate) fn parts_of(&self, uuid: Uuid) -> impl Iterator<Item = (Function, &Entry)> {
        let mut parts: Vec<_> = self
            .entries()
            .filter_map(|entry| {
                let part = entry.record.part.filter(|part| part.of == uuid)?;
                Some((part.function, entry))
            })
            .collect();
        parts.sort_by_key(|(function, _)| *function);
        parts.into_iter()
    }

    /// Takes in a function of an instance, which takes no room.
    pub(crate) fn insert_part(&mut self, record: Record) {
        self.put(record, Share::default());
    }

    /// Takes room for a new instance. On error nothing is taken.
    pub(crate) fn insert(&mut self, record: Record, offered: &OfferedType) -> Result<(), Error> {
        let parent = record.request.parent.clone();
        let type_name = offered.name.clone();
        let Some(pool) = self.pools.get_mut(&parent) else {
            return Err(Error::NoParent(parent));
        };
        pool.take(&type_name, offered.share)
            .map_err(|full| match full {
                Full::Places => Error::NoPlace { parent, type_name },
                Full::VideoMemory => Error::NoVideoMemory { parent, type_name },
            })?;
        self.put(record, offered.share);
        Ok(())
    }

    /// Takes in an instance that lives already, whether there is room or not, and though its parent may
    /// not be there.
    pub(crate) fn adopt(&mut self, record: Record, offered: Option<&OfferedType>) {
        let share = offered.map_or_else(Share::default, |offered| offered.share);
        let nothing = Limits {
            instances: 0,
            video_memory: 0,
        };
        let pool = self.pools.entry(record.request.parent.clone());
        pool.or_insert_with(|| Pool::new(nothing))
            .take_anyhow(&record.request.type_name, share);
        self.put(record, share);
    }

    fn put(&mut self, record: Record, share: Share) {
        let entry = Entry {
            state: InstanceState::Stopped,
            worker: None,
            left: None,
            late_crashes: Crashes::default(),
            writing: Arc::default(),
            share,
            record,
        };
        self.entries.insert(entry.record.uuid, entry);
    }

    /// The user that an instance's workers become: the one it had, or the first of `users` that no
    /// other has. `None` if all are taken.
    pub(crate) fn user_of(&mut self, uuid: Uuid, mut users: Range<u32>) -> Option<u32> {
        let others = self
            .entries
            .values()
            .filter(|entry| entry.record.uuid != uuid);
        let others = others.filter_map(|entry| entry.record.user);
        let taken: BTreeSet<_> = others.chain(self.device_users.values().copied()).collect();
        let entry = self.entries.get_mut(&uuid)?;
        let own = entry.record.user.filter(|own| users.contains(own));
        let user = own.or_else(|| users.find(|user| !taken.contains(user)));
        entry.record.user = user;
        user
    }

    /// The same for the worker of a physical device, whose user stays its own.
    pub(crate) fn user_of_device(&mut self, parent: &str, mut users: Range<u32>) -> Option<u32> {
        let own = self.device_users.get(parent).copied();
        if let Some(own) = own.filter(|own| users.contains(own)) {
            return Some(own);
        }
        let entries = self.entries().filter_map(|entry| entry.record.user);
        let taken: BTreeSet<_> = entries.chain(self.device_users.values().copied()).collect();
        let user = users.find(|user| !taken.contains(user))?;
        self.set_user_of_device(parent, user);
        Some(user)
    }

    /// Takes note of whose the worker of a physical device is.
    pub(crate) fn set_user_of_device(&mut self, parent: &str, user: u32) {
        self.device_users.insert(parent.to_owned(), user);
    }

    /// Forgets an instance: its place is free.
    pub(crate) fn remove(&mut self, uuid: Uuid) {
        let Some(entry) = self.entries.remove(&uuid) else {
            return;
        };
        let request = &entry.record.request;
        if entry.record.part.is_some() {
            return;
        }
        if let Some(pool) = self.pools.get_mut(&request.parent) {
            pool.give_back(&request.type_name, entry.share);
        }
    }

    /// What a parent is like now.
    pub(crate) fn describe(&self, spec: &ParentSpec) -> Parent {
        let empty = Pool::new(spec.limits);
        let pool = self.pools.get(&spec.name).unwrap_or(&empty);
        let (limits, used) = (pool.limits(), pool.used());
        let pool_use = |total, used| PoolUse { total, used };
        Parent {
            name: spec.name.clone(),
            description: spec.description.clone(),
            instances: pool_use(limits.instances, used.instances),
            video_memory: pool_use(limits.video_memory, used.video_memory),
            types: spec
                .types
                .iter()
                .map(|offered| self.describe_type(spec, offered, pool))
                .collect(),
            children: self.children(|entry| entry.record.request.parent == spec.name),
        }
    }

    fn describe_type(&self, spec: &ParentSpec, offered: &OfferedType, pool: &Pool) -> Type {
        Type {
            parent: spec.name.clone(),
            name: offered.name.clone(),
            base: offered.base.clone(),
            title: offered.title.clone(),
            description: offered.description.clone(),
            device_api: "vfio-pci".to_owned(),
            attributes: offered.attributes.clone(),
            video_memory: offered.share.video_memory,
            available_instances: pool.available(&offered.name, offered.share),
            children: self.children(|entry| {
                let request = &entry.record.request;
                request.parent == spec.name && request.type_name == offered.name
            }),
        }
    }

    fn children(&self, is_child: impl Fn(&Entry) -> bool) -> Vec<Uuid> {
        let entries = self.instances().filter(|entry| is_child(entry));
        entries.map(|entry| entry.record.uuid).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::catalogue::find_parents;
    use crate::config::Config;
    use crate::paths::Paths;

    fn parents(text: &str) -> Vec<ParentSpec> {
        let nowhere = Paths::new(Path::new("/nonexistent"));
        find_parents(&Config::parse(text).unwrap(), &nowhere).unwrap()
    }

    fn record(number: u128, type_name: &str) -> Record {
        let request = format!(r#"{{"parent":"soft0","type":"{type_name}"}}"#);
        Record::new(
            Uuid::from_u128(number),
            serde_json::from_str(&request).unwrap(),
            0,
        )
    }

    fn available(table: &Table, parents: &[ParentSpec]) -> Vec<u64> {
        let described = table.describe(&parents[0]).types.into_iter();
        described
            .map(|offered| offered.available_instances)
            .collect()
    }

    #[test]
    fn types_share_the_pools_of_their_parent_and_link_both_ways() {
        let parents = parents(
            "[parents.soft0]\ninstances = 3\nvideo-memory = \"36M\"\n\
             offer = [\"serial-1\", \"bochs-4m\", \"bochs-16m\"]",
        );
        let mut table = Table::new(&parents);
        assert_eq!(available(&table, &parents), [3, 3, 2]);
        let offered = |name| parents[0].find_type(name).unwrap();
        table
            .insert(record(1, "bochs-16m"), offered("bochs-16m"))
            .unwrap();
        assert_eq!(available(&table, &parents), [2, 2, 1]);
        table
            .insert(record(2, "bochs-16m"), offered("bochs-16m"))
            .unwrap();
        assert_eq!(available(&table, &parents), [1, 1, 0]);
        let error = table.insert(record(3, "bochs-16m"), offered("bochs-16m"));
        assert_eq!(error.unwrap_err().errno(), "ENOSPC");
        table
            .insert(record(3, "serial-1"), offered("serial-1"))
            .unwrap();
        let error = table.insert(record(4, "serial-1"), offered("serial-1"));
        assert_eq!(error.unwrap_err().errno(), "EUSERS");
        let soft = table.describe(&parents[0]);
        assert_eq!(soft.children, [1, 2, 3].map(Uuid::from_u128));
        assert_eq!(soft.types[2].children, [1, 2].map(Uuid::from_u128));
        for number in 1..=3 {
            table.remove(Uuid::from_u128(number));
        }
        assert_eq!(available(&table, &parents), [3, 3, 2]);
    }

    #[test]
    fn what_is_taken_of_a_parent_that_comes_later_is_not_given_twice() {
        let parents = parents(
            "[parents.soft0]\ninstances = 3\nvideo-memory = \"20M\"\n\
             offer = [\"serial-1\", \"bochs-16m\"]",
        );
        let mut table = Table::new(&[]);
        table.adopt(record(1, "bochs-16m"), None);
        assert_eq!(table.describe(&parents[0]).instances.used, 1);
        let now: Vec<_> = parents.iter().cloned().map(Arc::new).collect();
        for _ in 0..2 {
            table.set_parents(&now);
            assert_eq!(available(&table, &parents), [2, 0]);
        }
        table.remove(Uuid::from_u128(1));
        assert_eq!(available(&table, &parents), [3, 1]);
    }

    #[test]
    fn each_instance_has_a_user_of_its_own_and_keeps_it() {
        let parents = parents("");
        let mut table = Table::new(&parents);
        let offered = parents[0].find_type("serial-1").unwrap();
        for number in 1..=3 {
            table.insert(record(number, "serial-1"), offered).unwrap();
        }
        let user = |table: &mut Table, number| table.user_of(Uuid::from_u128(number), 10..12);
        assert_eq!(user(&mut table, 1), Some(10));
        assert_eq!(user(&mut table, 2), Some(11));
        assert_eq!(user(&mut table, 1), Some(10));
        assert_eq!(user(&mut table, 3), None);
        table.remove(Uuid::from_u128(1));
        assert_eq!(user(&mut table, 3), Some(10));
        assert_eq!(user(&mut table, 9), None);
    }
}
