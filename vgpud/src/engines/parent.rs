//! The engine of one parent: what the scheduler decides becomes leases.
//!
//! - `granting`: leases are granted, and taken back; `waking`: sooner, for whoever has just come,
//! - `trouble`: jobs that take too long, processes that stand still, workers that lie.
//!
//! A job of the scheduler is a lease here: it arrives when a worker has jobs and no lease, runs while
//! the worker has one, and is complete when the lease is back, charged by what was used. As many
//! workers have one at a time as the engine has places, so their jobs exclude each other. A lease
//! that is to come back is taken back in the page, and is back once its worker runs no job: see
//! [`mdev::sched::lease`].

mod granting;
mod trouble;
mod waking;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use mdev::sched::{Class, EngineId, Nanos, PerMille, SchedError, Scheduler, Settings, Time};
use uuid::Uuid;

use crate::api;
use crate::catalogue::EngineSpec;
use crate::worker_process::Worker;

use super::client::Client;
use super::settings::{Given, policy_of};

/// What whoever owns the workers is to do.
#[derive(Clone, Debug)]
pub(crate) enum Notice {
    /// A job took longer than it may.
    Overlong(Uuid, String),
    /// Its device is to be reset.
    Reset(Uuid, Arc<Worker>),
    /// It is to be ended.
    Kill(Uuid, Arc<Worker>),
}

/// An engine, and the workers that share it, by their slots in the scheduler.
#[derive(Debug)]
pub(super) struct ParentEngine {
    pub(super) parent: String,
    spec: EngineSpec,
    pub(super) policy: api::Policy,
    scheduler: Scheduler,
    engine: EngineId,
    pub(super) clients: BTreeMap<usize, Client>,
    /// Those who have a lease.
    holders: Vec<usize>,
    slices: VecDeque<api::EngineSlice>,
    next_slice: u64,
    used: Nanos,
    next_measure: Option<Time>,
    measured: usize,
    pub(super) notices: Vec<Notice>,
}

impl ParentEngine {
    pub(super) fn new(
        parent: &str,
        spec: EngineSpec,
        policy: api::Policy,
        now: Time,
    ) -> Result<Self, SchedError> {
        let mut scheduler = Scheduler::new();
        let engine = scheduler.add_engine(now, spec.places, policy_of(policy))?;
        Ok(Self {
            parent: parent.to_owned(),
            spec,
            policy,
            scheduler,
            engine,
            clients: BTreeMap::new(),
            holders: Vec::new(),
            slices: VecDeque::new(),
            next_slice: 1,
            used: Nanos(0),
            next_measure: None,
            measured: 0,
            notices: Vec::new(),
        })
    }

    /// A worker shares the engine from now on: its slot, and the socket that it is to get.
    pub(super) fn join(
        &mut self,
        now: Time,
        uuid: Uuid,
        given: Given,
        worker: Arc<Worker>,
    ) -> io::Result<(usize, OwnedFd)> {
        if let Some(before) = self.slot_of(uuid, None) {
            // It takes over from that one.
            self.leave(now, before);
        }
        let id = self
            .join_anyhow(now, given.shares)
            .map_err(io::Error::other)?;
        let made = Client::new(uuid, id, given, worker, now);
        let (client, theirs) = made.inspect_err(|_| {
            let _ = self.scheduler.leave(now, id);
        })?;
        let slot = id.slot();
        self.clients.insert(slot, client);
        self.write_ended(slot);
        Ok((slot, theirs))
    }

    /// Settings were checked when they were given. What a configuration that was changed since does
    /// not allow any more must not keep a device from its guest.
    fn join_anyhow(
        &mut self,
        now: Time,
        settings: Settings,
    ) -> Result<mdev::sched::ClientId, SchedError> {
        let (weight, priority) = (settings.weight(), settings.priority());
        let least = PerMille::new(1).ok();
        let without = |reservation| Settings::new(weight, settings.cap(), reservation, priority);
        self.scheduler.join(now, settings).or_else(|error| {
            tracing::error!(
                "a vGPU of {} gets less than it was given: {error}",
                self.parent
            );
            let settings = without(None)?;
            self.scheduler
                .join(now, settings)
                .or_else(|_| self.scheduler.join(now, without(least)?))
        })
    }

    pub(super) fn leave(&mut self, now: Time, slot: usize) {
        let Some(client) = self.clients.remove(&slot) else {
            return;
        };
        self.holders.retain(|holder| *holder != slot);
        let _ = self.scheduler.leave(now, client.id);
        self.settle(now);
    }

    /// The slot of a worker, or of whoever serves that vGPU.
    pub(super) fn slot_of(&self, uuid: Uuid, worker: Option<&Arc<Worker>>) -> Option<usize> {
        let is_it = |client: &Client| {
            client.uuid == uuid && worker.is_none_or(|worker| Arc::ptr_eq(worker, &client.worker))
        };
        let mut clients = self.clients.iter();
        clients
            .find(|(_, client)| is_it(client))
            .map(|(slot, _)| *slot)
    }

    /// Other settings, from the next decision on.
    pub(super) fn set(&mut self, now: Time, slot: usize, given: Given) -> Result<(), SchedError> {
        let Some(client) = self.clients.get_mut(&slot) else {
            return Ok(());
        };
        self.scheduler.set(now, client.id, given.shares)?;
        client.given = given;
        self.after_change(now);
        Ok(())
    }

    /// Another policy, from the next decision on.
    pub(super) fn set_policy(&mut self, now: Time, policy: api::Policy) -> Result<(), SchedError> {
        self.scheduler
            .set_policy(now, self.engine, policy_of(policy))?;
        self.policy = policy;
        self.after_change(now);
        Ok(())
    }

    /// Leases that were granted under other settings come back.
    fn after_change(&mut self, now: Time) {
        for slot in self.holders.clone() {
            self.take_back(now, slot);
        }
        let slots: Vec<_> = self.clients.keys().copied().collect();
        for slot in slots {
            if !self.holders.contains(&slot) {
                self.write_ended(slot);
            }
            self.arrive(now, slot);
        }
        self.settle(now);
    }

    /// A worker has told that there is something to look at. `false` if it will not again.
    pub(super) fn heed(&mut self, now: Time, slot: usize) -> bool {
        let Some(client) = self.clients.get_mut(&slot) else {
            return true;
        };
        let is_open = client.hear_socket();
        if !is_open {
            // It is ending; until that is seen nothing is granted to it.
            client.given.is_stopped = true;
        }
        let had_lease = client.held.is_some();
        let before = client.waiting;
        self.look(now, slot);
        let waiting = self.clients.get(&slot).and_then(|client| client.waiting);
        if !had_lease && waiting != before {
            self.make_way(now);
        }
        self.settle(now);
        is_open
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Time) {
        for slot in self.holders.clone() {
            self.look(now, slot);
        }
        for slot in self.slots_where(|client| client.stuck.is_some()) {
            self.look(now, slot);
        }
        for slot in self.slots_where(|client| client.given.frame_rate_limit.is_some()) {
            self.arrive(now, slot);
        }
        self.measure(now);
        self.settle(now);
    }

    fn slots_where(&self, is_meant: impl Fn(&Client) -> bool) -> Vec<usize> {
        let clients = self.clients.iter();
        let clients = clients.filter(|(_, client)| is_meant(client));
        clients.map(|(slot, _)| *slot).collect()
    }

    /// When [`Self::tick`] is to be called if nothing happens before.
    pub(super) fn next_tick(&self) -> Option<Time> {
        let holders = self.holders.iter().filter_map(|slot| {
            let held = self.clients.get(slot)?.held.as_ref()?;
            Some(match held.revoked {
                None => held.expiry,
                Some(_) => held.next_look,
            })
        });
        let stuck = self.clients.values().filter_map(|client| {
            let stuck = client.stuck?;
            Some(stuck.next)
        });
        let frames = self.clients.values().filter_map(|client| {
            let waits = client.given.frame_rate_limit.is_some()
                && !client.given.is_stopped
                && client.stuck.is_none()
                && client.held.is_none()
                && client
                    .waiting
                    .is_none_or(|(_, class)| class == Class::Render)
                && client.usage.queued(Class::Display) > 0;
            waits.then_some(client.next_frame)
        });
        let change = self.scheduler.next_change(self.engine).ok().flatten();
        let is_used = !self.holders.is_empty() || change.is_some();
        let measure = self.next_measure.filter(|_| is_used);
        holders
            .chain(stuck)
            .chain(frames)
            .chain(change)
            .chain(measure)
            .min()
    }

    /// What there is to know of it now.
    pub(super) fn told(&mut self, now: Time) -> api::Engine {
        let slots: Vec<_> = self.clients.keys().copied().collect();
        for slot in slots {
            // Not `look`: who asks changes nothing.
            if let Some(client) = self.clients.get_mut(&slot) {
                client.sample(now);
            }
        }
        let clients: Vec<_> = self
            .clients
            .values()
            .map(|client| client.told(now))
            .collect();
        let busy: u32 = clients.iter().map(|client| client.share_permille).sum();
        api::Engine {
            parent: self.parent.clone(),
            policy: self.policy,
            places: self.spec.places,
            job_limit_ms: self.spec.job_limit_ms,
            at_ns: now.0,
            busy_permille: busy / self.spec.places.max(1),
            used_ns: self.used.0,
            clients,
        }
    }

    /// The decisions after that one, as far as they are kept.
    pub(super) fn slices_after(&self, id: u64) -> Vec<api::EngineSlice> {
        let after = self.slices.iter().filter(|slice| slice.id > id);
        after.cloned().collect()
    }
}
