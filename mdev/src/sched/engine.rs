//! One engine: who is next, and what a job has cost. In `places`: the orders in which clients stand;
//! in `waking`: for whom what runs is to make way.
//!
//! Start-time fair queueing with a depth: SFQ (Goyal, Vin and Cheng, SIGCOMM 1996), SFQ(D) (Jin,
//! Chase and Kaur, SIGMETRICS 2004). Each client has a virtual time, its service divided by its
//! weight; the least is next. The engine's own virtual time is that of the last turn, and a client
//! that wakes starts there: it has saved up nothing while it slept.

mod places;
mod waking;

use super::account::{Account, Pick, Sharing, Waiting};
use super::decision::{Class, Job, JobId, Why};
use super::error::SchedError;
use super::order::Order;
use super::settings::{Policy, Priority, Settings};
use super::units::{Nanos, Time, VirtualTime};

/// Longest estimate that is believed. Estimates come from those who want to run; a larger one
/// would only move what its own client is charged for the time of the job.
const MAX_ESTIMATE: Nanos = Nanos::from_millis(1000);

/// Longest use that is believed: a measurement gone wrong must not lock a client out for ever.
const MAX_USED: Nanos = Nanos::from_millis(3_600_000);

#[derive(Debug)]
struct Running {
    job: JobId,
    slot: usize,
    why: Why,
    estimate: Nanos,
    charged: VirtualTime,
}

/// A pick, before it has the names that the caller knows.
#[derive(Debug)]
pub(super) struct Picked {
    pub(super) slot: usize,
    pub(super) why: Why,
    pub(super) waiting: Waiting,
    pub(super) start: VirtualTime,
    pub(super) virtual_time: VirtualTime,
}

/// An engine and its clients, by slot.
#[derive(Debug)]
pub(super) struct Engine {
    depth: u32,
    policy: Policy,
    virtual_time: VirtualTime,
    /// The virtual time of the last turn of each priority.
    levels: [VirtualTime; Priority::ALL.len()],
    /// Counts the times that the engine had nothing to do: what clients were ahead or behind
    /// before, nobody has waited for.
    period: u64,
    accounts: Vec<Option<Account>>,
    joined: u32,
    waiting: usize,
    running: Vec<Running>,
    /// Those who may run, by virtual time: an order for each priority.
    turns: [Order<VirtualTime>; Priority::ALL.len()],
    /// Those of them who have a reservation, by when they had less than that.
    owed: Order<Time>,
    /// Those above a ceiling, by when they will be below.
    throttled: Order<Time>,
    /// Those who have something to show, by when there is budget for it.
    urgent: Order<Time>,
}

impl Engine {
    pub(super) fn new(depth: u32, policy: Policy) -> Self {
        Self {
            depth,
            policy,
            virtual_time: VirtualTime::default(),
            levels: Default::default(),
            period: 0,
            accounts: Vec::new(),
            joined: 0,
            waiting: 0,
            running: Vec::with_capacity(depth as usize),
            turns: Default::default(),
            owed: Order::default(),
            throttled: Order::default(),
            urgent: Order::default(),
        }
    }

    pub(super) fn policy(&self) -> Policy {
        self.policy
    }

    pub(super) fn account(&self, slot: usize) -> Option<&Account> {
        self.accounts.get(slot)?.as_ref()
    }

    fn account_mut(&mut self, slot: usize) -> Option<&mut Account> {
        self.accounts.get_mut(slot)?.as_mut()
    }

    fn sharing(&self) -> Sharing {
        Sharing {
            policy: self.policy,
            depth: self.depth,
            clients: self.joined,
        }
    }

    pub(super) fn join(&mut self, now: Time, slot: usize, settings: &Settings) {
        if slot >= self.accounts.len() {
            self.accounts.resize_with(slot + 1, || None);
        }
        self.joined += 1;
        self.accounts[slot] = Some(Account::new(now, settings, self.sharing()));
    }

    /// Takes a client out, with all that waits and runs. Returns how many jobs that were.
    pub(super) fn leave(&mut self, slot: usize) -> (usize, usize) {
        let Some(account) = self.accounts.get_mut(slot).and_then(Option::take) else {
            return (0, 0);
        };
        let ran = self.running.len();
        self.running.retain(|running| running.slot != slot);
        self.waiting -= account.waiting();
        self.joined -= 1;
        self.forget_place(slot);
        self.note_idle();
        (account.waiting(), ran - self.running.len())
    }

    /// Puts settings into effect, its own or those that follow from how many there are.
    pub(super) fn set(&mut self, now: Time, slot: usize, settings: &Settings) {
        let sharing = self.sharing();
        if let Some(account) = self.account_mut(slot) {
            account.set(now, settings, sharing);
            self.place(now, slot);
        }
    }

    /// Another policy. Virtual times under one policy mean nothing under another: all start anew,
    /// and what runs is charged when it has ended.
    pub(super) fn set_policy(&mut self, policy: Policy) {
        if policy == self.policy {
            return;
        }
        self.policy = policy;
        for account in self.accounts.iter_mut().flatten() {
            account.virtual_time = self.virtual_time;
        }
        for running in &mut self.running {
            running.charged = VirtualTime::default();
        }
    }

    pub(super) fn arrive(
        &mut self,
        now: Time,
        slot: usize,
        id: JobId,
        job: Job,
    ) -> Result<(), SchedError> {
        let period = self.period;
        let account = self.account(slot).ok_or(SchedError::UnknownClient)?;
        let priority = account.priority();
        let start = self.start(priority);
        let account = self.account_mut(slot).ok_or(SchedError::UnknownClient)?;
        let is_waking = account.waiting() == 0;
        account.push(
            now,
            Waiting {
                job: id,
                class: job.class,
                estimate: job.estimate.min(MAX_ESTIMATE),
                since: now,
            },
        )?;
        if account.period != Some(period) {
            account.period = Some(period);
            account.virtual_time = start;
        } else if is_waking {
            account.virtual_time = account.virtual_time.max(start);
        }
        self.waiting += 1;
        self.place(now, slot);
        Ok(())
    }

    /// Ends a job, and charges what it has really used.
    pub(super) fn complete(
        &mut self,
        now: Time,
        job: JobId,
        used: Nanos,
    ) -> Result<(), SchedError> {
        let place = self.running.iter().position(|running| running.job == job);
        let running = self
            .running
            .swap_remove(place.ok_or(SchedError::UnknownJob)?);
        let pick = Pick {
            why: running.why,
            virtual_time: self.virtual_time,
        };
        if let Some(account) = self.account_mut(running.slot) {
            let times = (running.estimate, used.min(MAX_USED));
            account.end(now, times, running.charged, pick);
        }
        self.place(now, running.slot);
        self.note_idle();
        Ok(())
    }

    /// Charges what was used outside of any job.
    pub(super) fn charge(&mut self, now: Time, slot: usize, used: Nanos) {
        let pick = Pick {
            why: Why::Turn,
            virtual_time: self.virtual_time,
        };
        if let Some(account) = self.account_mut(slot) {
            account.charge(now, used.min(MAX_USED), pick);
            self.place(now, slot);
        }
    }

    /// How many jobs wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Picks the next job, if there is a place for it and somebody may run.
    pub(super) fn next(&mut self, now: Time) -> Option<Picked> {
        if self.running.len() >= self.depth as usize {
            return None;
        }
        self.release(now);
        let (slot, why) = self.pick(now)?;
        let mut virtual_time = self.virtual_time;
        let account = self.account_mut(slot)?;
        let start = account.virtual_time;
        let priority = account.priority();
        if why == Why::Turn {
            let turn = start + priority.handicap();
            virtual_time = virtual_time.max(turn.back(Priority::Normal.handicap()));
        }
        let waiting = account.pop()?;
        let charged = account.begin(now, waiting.estimate, Pick { why, virtual_time });
        if why == Why::Turn {
            let level = &mut self.levels[priority as usize];
            *level = start.max(*level);
        }
        self.virtual_time = virtual_time;
        self.waiting -= 1;
        self.running.push(Running {
            job: waiting.job,
            slot,
            why,
            estimate: waiting.estimate,
            charged,
        });
        self.place(now, slot);
        Some(Picked {
            slot,
            why,
            waiting,
            start,
            virtual_time,
        })
    }

    /// When a job could be picked though nothing happens but that time passes.
    pub(super) fn next_change(&self) -> Option<Time> {
        if self.running.len() >= self.depth as usize {
            return None;
        }
        if self.first_turn().is_some() {
            return Some(Time(0));
        }
        let times = [self.throttled.first(), self.urgent.first()];
        times.into_iter().flatten().map(|(time, _)| time).min()
    }

    fn note_idle(&mut self) {
        if self.waiting == 0 && self.running.is_empty() {
            self.period += 1;
        }
    }
}

impl Picked {
    pub(super) fn class(&self) -> Class {
        self.waiting.class
    }
}
