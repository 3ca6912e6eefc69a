//! Leases are granted, and taken back.

use mdev::sched::lease::Lease;
use mdev::sched::{Class, Decision, Job, Nanos, PerMille, Time, Why};

use crate::api;
use crate::engines::client::Held;
use crate::engines::leeway::Kept;

use super::ParentEngine;

/// How much is granted at a time while others wait, or a ceiling is near. It is short beside what
/// users see, and long beside the two switches that it costs.
const SLICE: Nanos = Nanos::from_millis(2);

/// How much is granted at a time to one who is alone. It comes back at once when others come.
const LONG_SLICE: Nanos = Nanos::from_millis(20);

/// How long a lease lasts, but for its budget: a worker may sleep between two jobs.
const MARGIN: Nanos = Nanos::from_millis(4);

/// Most decisions that are kept for who asks.
const KEPT_SLICES: usize = 4096;

impl ParentEngine {
    pub(super) fn others_wait(&self) -> bool {
        self.scheduler
            .waiting(self.engine)
            .is_ok_and(|waiting| waiting > 0)
    }

    /// Brings what is known of a worker up to date.
    pub(super) fn look(&mut self, now: Time, slot: usize) {
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

    /// Takes in what a worker says to have used of its lease.
    fn hear(&mut self, now: Time, slot: usize) {
        let Some(client) = self.clients.get_mut(&slot) else {
            return;
        };
        let used = client.hear(now);
        self.used = Nanos(self.used.0 + used.0);
        if let Some(held) = &mut client.held {
            held.used = Nanos(held.used.0 + used.0);
        }
    }

    /// Whether a lease is to come back.
    pub(super) fn is_over(&self, now: Time, slot: usize, others_wait: bool) -> bool {
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

    /// A worker that has jobs and no lease waits for its turn.
    pub(super) fn arrive(&mut self, now: Time, slot: usize) {
        let Some(client) = self.clients.get_mut(&slot) else {
            return;
        };
        let is_free = client.held.is_none() && client.stuck.is_none();
        if !is_free || client.given.is_stopped {
            return;
        }
        let [display, render] = [Class::Display, Class::Render].map(|of| client.usage.queued(of));
        let class = match (display, render) {
            (1.., _) if now >= client.next_frame => Class::Display,
            (_, 1..) => Class::Render,
            _ => return,
        };
        match client.waiting {
            None => {
                let job = Job {
                    class,
                    estimate: SLICE,
                };
                let arrived = self.scheduler.arrive(now, self.engine, client.id, job);
                client.waiting = arrived.ok().map(|job| (job, class));
            }
            Some((job, Class::Render)) if class == Class::Display => {
                let hurried = self.scheduler.hurry(now, self.engine, client.id, job);
                client.waiting = hurried.ok().map(|()| (job, class));
            }
            Some(_) => {}
        }
    }

    /// Grants what can be granted; whoever has the engine and does nothing with it, or has it for
    /// long, gives way to those who wait.
    pub(super) fn settle(&mut self, now: Time) {
        loop {
            while let Ok(Some(decision)) = self.scheduler.next(now, self.engine) {
                self.grant(now, decision);
            }
            let others_wait = self.others_wait();
            let mut is_freed = false;
            for slot in self.holders.clone() {
                self.hear(now, slot);
                if let Some(client) = self.clients.get_mut(&slot) {
                    client.note_contended(now, others_wait);
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
            self.next_measure = Some(now + super::trouble::MEASURE);
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
        client.waiting = None;
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
            kept: Kept::default(),
            is_long,
            revoked: None,
            next_look: expiry,
        });
        let counts = &mut client.counts;
        counts.leases += 1;
        counts.waited = Nanos(counts.waited.0 + decision.waited.0);
        counts.longest_wait = counts.longest_wait.max(decision.waited);
        client.note_contended(now, others_wait);
        client.sample(now);
        if let Some(lease) = lease(budget, rate, expiry) {
            client.write(&lease);
        }
        self.holders.push(slot);
    }

    /// Takes a lease back: it is back once no job runs.
    pub(super) fn take_back(&mut self, now: Time, slot: usize) {
        let held = self
            .clients
            .get(&slot)
            .and_then(|client| client.held.as_ref());
        match held {
            None => return,
            Some(held) if held.revoked.is_some() => {}
            Some(_) => self.write_ended(slot),
        }
        let Some(client) = self.clients.get_mut(&slot) else {
            return;
        };
        // Only now: a job that it says does not run will not begin.
        let running = client.usage.running();
        self.hear(now, slot);
        let held = self.clients.get_mut(&slot);
        let Some(held) = held.and_then(|client| client.held.as_mut()) else {
            return;
        };
        let revoked = *held.revoked.get_or_insert(now);
        match running {
            Some((job, begun)) => self.look_after(now, slot, job, (begun, revoked)),
            None => {
                let used = held.used;
                self.finish(now, slot, used);
            }
        }
    }

    /// The lease is back, or taken away. What was kept from others is charged, used or not.
    pub(super) fn finish(&mut self, now: Time, slot: usize, used: Nanos) {
        self.holders.retain(|holder| *holder != slot);
        let Some(client) = self.clients.get_mut(&slot) else {
            return;
        };
        let Some(held) = client.held.take() else {
            return;
        };
        client.grant.set_contended(false);
        client.sample(now);
        let unused = held.kept.unused(now, used);
        let charged = Nanos(used.0 + client.leeway.exceed(now, unused).0);
        let decision = held.decision;
        let _ = self
            .scheduler
            .complete(now, self.engine, decision.job, charged);
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
            charged_ns: charged.0,
            why: match decision.why {
                Why::Display => api::SliceReason::Display,
                Why::Reservation => api::SliceReason::Reservation,
                Why::Turn => api::SliceReason::Turn,
            },
        });
        self.next_slice += 1;
    }

    /// Leaves word of the rate at which a worker goes on if this daemon is gone.
    pub(super) fn write_ended(&mut self, slot: usize) {
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
                    other.id == client.id || other.held.is_some() || other.waiting.is_some()
                });
                let weights = busy.map(|other| u64::from(other.given.shares.weight().value()));
                let weights: u64 = weights.sum();
                let part = all * u64::from(shares.weight().value()) / weights.max(1);
                part.max(shares.reservation().map_or(0, of_all))
            }
        };
        rate.min(shares.cap().map_or(one, of_all)).clamp(1, one)
    }
}

/// A lease of so much, at a rate in thousandths of one place.
fn lease(budget: Nanos, rate: u64, expiry: Time) -> Option<Lease> {
    let of = budget.0.max(SLICE.0);
    let period = of.saturating_mul(1000) / rate.max(1);
    let period = period.clamp(of, mdev::sched::lease::MAX_PERIOD.0);
    Lease::new(0, 1, budget, Nanos(period), expiry)
}
