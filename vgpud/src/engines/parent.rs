//! The engine of one parent: what the scheduler decides becomes leases.
//!
//! A job of the scheduler is a lease here: it arrives when a worker has jobs and no lease, runs while
//! the worker has one, and is complete when the lease is back, charged by what was used. As many
//! workers have one at a time as the engine has places, so their jobs exclude each other. A lease
//! that is to come back is taken back in the page, and is back once its worker runs no job: see
//! [`mdev::sched::lease`].

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use mdev::sched::lease::Lease;
use mdev::sched::{
    Class, Decision, EngineId, Job, Nanos, PerMille, SchedError, Scheduler, Settings, Time, Why,
};
use uuid::Uuid;

use crate::api;
use crate::catalogue::EngineSpec;
use crate::worker_process::Worker;

use super::client::{Client, Held, Step, Stuck};
use super::measure::is_standing_still;
use super::settings::{Given, policy_of};

/// How much is granted at a time while others wait, or a ceiling is near. It is short beside what
/// users see, and long beside the two switches that it costs.
pub(super) const SLICE: Nanos = Nanos::from_millis(2);

/// How much is granted at a time to one who is alone. It comes back at once when others come.
const LONG_SLICE: Nanos = Nanos::from_millis(20);

/// How long a lease lasts, but for its budget: a worker may sleep between two jobs.
const MARGIN: Nanos = Nanos::from_millis(4);

/// How long after a lease was taken back its worker's process is looked at, and how often.
const LOOK: Nanos = Nanos::from_millis(5);

/// Between two steps against a job that takes too long.
const STEP: Nanos = Nanos::from_millis(1000);

/// How often CPU times are looked at while the engine is in use, and of how many workers.
const MEASURE: Nanos = Nanos::from_millis(250);
const MEASURED: usize = 8;

/// Most decisions that are kept for who asks.
const KEPT_SLICES: usize = 4096;

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
        self.look(now, slot);
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
    pub(super) fn next_tick(&self, now: Time) -> Option<Time> {
        let holders = self.holders.iter().filter_map(|slot| {
            let held = self.clients.get(slot)?.held.as_ref()?;
            Some(match held.revoked {
                None => held.expiry,
                Some(_) => now + LOOK,
            })
        });
        let stuck = self.clients.values().filter_map(|client| {
            let stuck = client.stuck?;
            Some(stuck.next.min(now + STEP))
        });
        let frames = self.clients.values().filter_map(|client| {
            let waits = client.given.frame_rate_limit.is_some()
                && !client.given.is_stopped
                && client.stuck.is_none()
                && !client.is_waiting
                && client.held.is_none()
                && client.has_queued();
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

    fn others_wait(&self) -> bool {
        self.scheduler
            .waiting(self.engine)
            .is_ok_and(|waiting| waiting > 0)
    }

    /// Brings what is known of a worker up to date.
    fn look(&mut self, now: Time, slot: usize) {
        let others_wait = self.others_wait();
        let Some(client) = self.clients.get_mut(&slot) else {
            return;
        };
        let used = client.hear(now);
        self.used = Nanos(self.used.0 + used.0);
        match &mut client.held {
            Some(held) => held.used = Nanos(held.used.0 + used.0),
            None => self.charge_late(now, slot, used),
        }
        if self.is_over(now, slot, others_wait) {
            self.take_back(now, slot);
        }
        self.arrive(now, slot);
    }

    /// Whether a lease is to come back.
    fn is_over(&self, now: Time, slot: usize, others_wait: bool) -> bool {
        let Some(client) = self.clients.get(&slot) else {
            return false;
        };
        client.held.as_ref().is_some_and(|held| {
            held.revoked.is_some()
                || held.used >= held.budget
                || now >= held.expiry
                || client.given.is_stopped
                || (others_wait && (held.is_long || client.is_idle()))
        })
    }

    /// A job has ended that had outlived its lease, or is under way after it.
    fn charge_late(&mut self, now: Time, slot: usize, used: Nanos) {
        let Some(client) = self.clients.get_mut(&slot) else {
            return;
        };
        let charged = client.stuck.map_or(Nanos(0), |stuck| stuck.charged);
        let late = Nanos(used.0.saturating_sub(charged.0));
        if late.0 > 0 {
            let _ = self.scheduler.charge(now, self.engine, client.id, late);
        }
        let Some(stuck) = client.stuck else {
            return;
        };
        match client.usage.running() {
            Some((job, _)) if job == stuck.job => self.step(now, slot, stuck),
            _ => {
                client.grant.cancel(0);
                client.stuck = None;
            }
        }
    }

    /// A worker that has jobs and no lease waits for its turn.
    fn arrive(&mut self, now: Time, slot: usize) {
        let Some(client) = self.clients.get_mut(&slot) else {
            return;
        };
        let is_free = client.held.is_none() && !client.is_waiting && client.stuck.is_none();
        if !is_free || client.given.is_stopped {
            return;
        }
        let [display, render] = [Class::Display, Class::Render].map(|of| client.usage.queued(of));
        let class = match (display, render) {
            (1.., _) if now >= client.next_frame => Class::Display,
            (_, 1..) => Class::Render,
            _ => return,
        };
        let job = Job {
            class,
            estimate: SLICE,
        };
        let arrived = self.scheduler.arrive(now, self.engine, client.id, job);
        client.is_waiting = arrived.is_ok();
    }

    /// Grants what can be granted; whoever has the engine and does nothing with it, or has it for
    /// long, gives way to those who wait.
    fn settle(&mut self, now: Time) {
        loop {
            while let Ok(Some(decision)) = self.scheduler.next(now, self.engine) {
                self.grant(now, decision);
            }
            let others_wait = self.others_wait();
            let mut is_freed = false;
            for slot in self.holders.clone() {
                if let Some(client) = self.clients.get(&slot) {
                    client.grant.set_contended(others_wait);
                }
                if others_wait && self.is_over(now, slot, true) {
                    self.take_back(now, slot);
                    is_freed |= !self.holders.contains(&slot);
                    self.arrive(now, slot);
                }
            }
            if !is_freed {
                break;
            }
        }
        if self.next_measure.is_none() && !self.holders.is_empty() {
            self.next_measure = Some(now + MEASURE);
        }
    }

    fn grant(&mut self, now: Time, decision: Decision) {
        let slot = decision.client.slot();
        let others_wait = self.others_wait();
        let is_shared = self.policy != api::Policy::BestEffort;
        let rate = self.rate(slot);
        let Some(client) = self.clients.get_mut(&slot) else {
            return;
        };
        client.is_waiting = false;
        if client.given.is_stopped || client.is_idle() {
            let _ = self
                .scheduler
                .complete(now, self.engine, decision.job, Nanos(0));
            return;
        }
        let is_long = !others_wait && !is_shared && client.given.shares.cap().is_none();
        let mut budget = if is_long { LONG_SLICE } else { SLICE };
        if let Some(frames) = client
            .given
            .frame_rate_limit
            .filter(|_| decision.class == Class::Display)
        {
            // One picture, and no other before it is time.
            budget = Nanos(1);
            client.next_frame = now + Nanos(1_000_000_000 / u64::from(frames));
        }
        let expiry = now + budget + MARGIN;
        client.held = Some(Held {
            decision,
            at: now,
            budget,
            expiry,
            used: Nanos(0),
            is_long,
            revoked: None,
        });
        let counts = &mut client.counts;
        counts.leases += 1;
        counts.waited = Nanos(counts.waited.0 + decision.waited.0);
        counts.longest_wait = counts.longest_wait.max(decision.waited);
        client.grant.set_contended(others_wait);
        client.sample(now);
        if let Some(lease) = lease(budget, rate, expiry) {
            client.write(&lease);
        }
        self.holders.push(slot);
    }

    /// Takes a lease back: it is back once no job runs.
    fn take_back(&mut self, now: Time, slot: usize) {
        let limit = self.spec.job_limit();
        let is_revoked = |client: &Client| {
            client
                .held
                .as_ref()
                .is_none_or(|held| held.revoked.is_some())
        };
        if self
            .clients
            .get(&slot)
            .is_none_or(|client| client.held.is_none())
        {
            return;
        }
        if !self.clients.get(&slot).is_none_or(is_revoked) {
            self.write_ended(slot);
        }
        let Some(client) = self.clients.get_mut(&slot) else {
            return;
        };
        let running = client.usage.running();
        let used = client.hear(now);
        self.used = Nanos(self.used.0 + used.0);
        let pid = client.worker.identity.pid;
        let Some(held) = &mut client.held else {
            return;
        };
        held.used = Nanos(held.used.0 + used.0);
        let revoked = *held.revoked.get_or_insert(now);
        let Some((job, begun)) = running else {
            let used = held.used;
            return self.finish(now, slot, used);
        };
        let since = begun.clamp(held.at, now);
        let end = (since + limit).min(revoked + limit);
        let step = if now >= end {
            Step::Cancelled
        } else if now.since(revoked) >= LOOK && is_standing_still(pid) {
            Step::Waits
        } else {
            return;
        };
        // It has lasted for so long: the rest is charged when it is known.
        let charged = now.since(since);
        let used = Nanos(held.used.0 + charged.0);
        client.stuck = Some(Stuck {
            job,
            step,
            next: now + STEP,
            charged,
        });
        if step == Step::Cancelled {
            self.cancel(slot, job, limit);
        }
        self.finish(now, slot, used);
    }

    /// The lease is back, or taken away.
    fn finish(&mut self, now: Time, slot: usize, used: Nanos) {
        self.holders.retain(|holder| *holder != slot);
        let Some(client) = self.clients.get_mut(&slot) else {
            return;
        };
        let Some(held) = client.held.take() else {
            return;
        };
        client.grant.set_contended(false);
        client.sample(now);
        let decision = held.decision;
        let _ = self
            .scheduler
            .complete(now, self.engine, decision.job, used);
        if self.slices.len() == KEPT_SLICES {
            self.slices.pop_front();
        }
        self.slices.push_back(api::EngineSlice {
            id: self.next_slice,
            uuid: client.uuid,
            begun_ns: held.at.0,
            ended_ns: now.0,
            waited_ns: decision.waited.0,
            used_ns: used.0,
            why: match decision.why {
                Why::Display => api::SliceReason::Display,
                Why::Reservation => api::SliceReason::Reservation,
                Why::Turn => api::SliceReason::Turn,
            },
        });
        self.next_slice += 1;
    }

    /// The first step against a job that takes too long.
    fn cancel(&mut self, slot: usize, job: u64, limit: Nanos) {
        let Some(client) = self.clients.get_mut(&slot) else {
            return;
        };
        client.counts.overlong += 1;
        client.grant.cancel(job);
        let limit_ms = limit.0 / 1_000_000;
        let words = format!("a job took longer than {limit_ms} ms, and is ended");
        self.notices.push(Notice::Overlong(client.uuid, words));
    }

    /// The next step, if it is time for it.
    fn step(&mut self, now: Time, slot: usize, stuck: Stuck) {
        let limit = self.spec.job_limit();
        let Some(client) = self.clients.get_mut(&slot) else {
            return;
        };
        if now < stuck.next {
            return;
        }
        let pid = client.worker.identity.pid;
        let next = match stuck.step {
            Step::Waits if is_standing_still(pid) => Step::Waits,
            Step::Waits => Step::Cancelled,
            Step::Cancelled => Step::Reset,
            Step::Reset | Step::Killed => Step::Killed,
        };
        client.stuck = Some(Stuck {
            step: next,
            next: now + STEP,
            ..stuck
        });
        let (uuid, worker) = (client.uuid, Arc::clone(&client.worker));
        match next {
            Step::Waits => {}
            Step::Cancelled if stuck.step == Step::Waits => self.cancel(slot, stuck.job, limit),
            Step::Cancelled => {}
            Step::Reset => self.notices.push(Notice::Reset(uuid, worker)),
            Step::Killed if stuck.step != Step::Killed => {
                self.notices.push(Notice::Kill(uuid, worker));
            }
            Step::Killed => {}
        }
    }

    /// Charges workers that use more of the CPU than they say, a few at a time.
    fn measure(&mut self, now: Time) {
        if self.next_measure.is_none_or(|next| now < next) {
            return;
        }
        self.next_measure = (!self.holders.is_empty()).then(|| now + MEASURE);
        let after = self.clients.range(self.measured..).map(|(slot, _)| *slot);
        let from_first = self.clients.keys().copied();
        let slots: Vec<_> = after
            .chain(from_first)
            .take(MEASURED.min(self.clients.len()))
            .collect();
        for slot in slots {
            self.measured = slot + 1;
            let Some(client) = self.clients.get_mut(&slot) else {
                continue;
            };
            // What runs has not been told yet.
            let running = client.usage.running();
            let running = running.map_or(Nanos(0), |(_, begun)| now.since(begun));
            let said = Nanos(client.counts.used.0 + running.0);
            if let Some(unsaid) = client.cpu.check(now, said) {
                client.counts.misreports += 1;
                client.counts.used = Nanos(client.counts.used.0 + unsaid.0);
                tracing::debug!(uuid = %client.uuid, "a worker uses more than it says, and is charged");
                let _ = self.scheduler.charge(now, self.engine, client.id, unsaid);
            }
        }
    }

    /// Leaves word of the rate at which a worker goes on if this daemon is gone.
    fn write_ended(&mut self, slot: usize) {
        let rate = self.rate(slot);
        let Some(client) = self.clients.get_mut(&slot) else {
            return;
        };
        let budget = match client.given.is_stopped {
            true => Nanos(0),
            false => SLICE,
        };
        if let Some(lease) = lease(budget, rate, Time(0)) {
            client.write_ended(&lease);
        }
    }

    /// What a worker would have of the engine just now, in thousandths: its part among those who
    /// want it.
    fn rate(&self, slot: usize) -> u64 {
        let Some(client) = self.clients.get(&slot) else {
            return 1;
        };
        let shares = &client.given.shares;
        let all = u64::from(self.spec.places) * 1000;
        let one = all.min(1000);
        let of_all = |share: PerMille| u64::from(share.thousandths()) * all / 1000;
        let rate = match self.policy {
            api::Policy::EqualShare => all / self.clients.len().max(1) as u64,
            api::Policy::FixedShare => shares.reservation().map_or(1, of_all),
            api::Policy::BestEffort => {
                let busy = self.clients.values().filter(|other| {
                    other.id == client.id || other.held.is_some() || other.is_waiting
                });
                let weights = busy.map(|other| u64::from(other.given.shares.weight().value()));
                let weights: u64 = weights.sum();
                let part = all * u64::from(shares.weight().value()) / weights.max(1);
                part.max(shares.reservation().map_or(0, of_all))
            }
        };
        rate.min(shares.cap().map_or(one, of_all)).clamp(1, one)
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

/// A lease of so much, at a rate in thousandths of one place.
fn lease(budget: Nanos, rate: u64, expiry: Time) -> Option<Lease> {
    let of = budget.0.max(SLICE.0);
    let period = of.saturating_mul(1000) / rate.max(1);
    let period = period.clamp(of, mdev::sched::lease::MAX_PERIOD.0);
    Lease::new(0, 1, budget, Nanos(period), expiry)
}
