//! Jobs that take too long, processes that stand still, workers that use more than they say.

use std::sync::Arc;

use mdev::sched::{Nanos, Time};

use crate::engines::client::{Step, Stuck};
use crate::engines::measure::is_standing_still;

use super::{Notice, ParentEngine};

/// How long after a lease was taken back the process of its worker is looked at, and how often then.
const LOOK: Nanos = Nanos::from_millis(5);
const LOOK_AGAIN: Nanos = Nanos::from_millis(20);

/// Between two steps against a job that takes too long.
const STEP: Nanos = Nanos::from_millis(1000);

/// How often CPU times are looked at while the engine is in use, and of how many workers.
pub(super) const MEASURE: Nanos = Nanos::from_millis(250);
const MEASURED: usize = 8;

impl ParentEngine {
    /// A job runs under a lease that was taken back: whether its place is taken from it.
    pub(super) fn look_after(
        &mut self,
        now: Time,
        slot: usize,
        job: u64,
        (begun, revoked): (Time, Time),
    ) {
        let limit = self.spec.job_limit();
        let Some(client) = self.clients.get_mut(&slot) else {
            return;
        };
        let pid = client.worker.identity.pid;
        let Some(held) = &mut client.held else {
            return;
        };
        // None begins under a lease that is taken back.
        let since = begun.clamp(held.at, revoked.max(held.at));
        let end = (since + limit).min(revoked + limit);
        let is_due = now >= held.next_look;
        let step = if now >= end {
            Step::Cancelled
        } else if is_due && now.since(revoked) >= LOOK && is_standing_still(pid) {
            Step::Waits
        } else {
            if is_due {
                let pause = if now.since(revoked) >= LOOK {
                    LOOK_AGAIN
                } else {
                    LOOK
                };
                held.next_look = (now + pause).min(end);
            }
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

    /// A job has ended that had outlived its lease, or is under way after it.
    pub(super) fn charge_late(&mut self, now: Time, slot: usize, used: Nanos) {
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

    /// The first step against a job that takes too long.
    pub(super) fn cancel(&mut self, slot: usize, job: u64, limit: Nanos) {
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
    pub(super) fn measure(&mut self, now: Time) {
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
            let said = client.said(now);
            let watch = client.cpu.as_mut();
            if let Some(unsaid) = watch.and_then(|cpu| cpu.check(now, said)) {
                client.counts.misreports += 1;
                client.counts.used = Nanos(client.counts.used.0 + unsaid.0);
                tracing::debug!(uuid = %client.uuid, "a worker uses more than it says, and is charged");
                let _ = self.scheduler.charge(now, self.engine, client.id, unsaid);
            }
        }
    }
}
