//! What is left of the lease, and what runs.

use std::sync::Arc;

use crate::sched::lease::{Spender, Wait};
use crate::sched::{Class, Nanos, Time};

use super::lender::Lender;

/// How long a lease may be in the middle of being written, before it is looked at again.
const WRITING: Nanos = Nanos::from_millis(1);

/// A job cannot begin.
#[derive(Debug)]
pub(super) struct NotYet {
    /// From whom word is to come.
    pub(super) lender: Option<Arc<Lender>>,
    /// When to look without word.
    pub(super) until: Option<Time>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    lender: Option<Arc<Lender>>,
    spender: Spender,
    /// Jobs of each class that wait.
    queued: [u64; 2],
    /// How many have begun.
    begun: u64,
    /// The job that runs, and since when it counts.
    running: Option<(u64, Time)>,
    jobs: u64,
    waited: Nanos,
    /// The lease under which the lender was told that jobs wait, and whether any of those were to be
    /// shown.
    told: Option<(u64, bool)>,
}

impl State {
    /// Another lender: what was used before concerns the one before it.
    pub(super) fn connect(&mut self, lender: Lender, now: Time) {
        self.spender.begin_anew();
        self.told = None;
        (self.jobs, self.waited) = (0, Nanos(0));
        for (class, queued) in [Class::Display, Class::Render].into_iter().zip(self.queued) {
            lender.usage().set_queued(class, queued);
        }
        if let Some((job, since)) = &mut self.running {
            *since = now;
            lender.usage().announce(*job, now);
        }
        self.lender = Some(Arc::new(lender));
    }

    /// One more job waits, or one less.
    pub(super) fn queue(&mut self, class: Class, more: i64) {
        let queued = self.queued[class as usize].saturating_add_signed(more);
        self.queued[class as usize] = queued;
        if self.running.is_none() && !self.has_queued() {
            // What was told of is off: the lender may have given up what that came to, without a word.
            self.told = None;
        }
        if let Some(lender) = &self.lender {
            lender.usage().set_queued(class, queued);
        }
    }

    /// Whether the lender knows what waits. A job that is to be shown is told of, though others wait
    /// already: it comes before those of other vGPUs.
    fn has_told(&self) -> bool {
        let (sequence, is_shown) = self.word();
        let told = self.told;
        told.is_some_and(|(told, knew)| told == sequence && (knew || !is_shown))
    }

    /// What the lender is told, as far as that is kept.
    fn word(&self) -> (u64, bool) {
        let is_shown = self.queued[Class::Display as usize] > 0;
        (self.spender.sequence(), is_shown)
    }

    fn has_queued(&self) -> bool {
        self.queued != [0, 0]
    }

    /// Begins a job that has waited since then: its number, and under whom.
    pub(super) fn begin(&mut self, now: Time, since: Time) -> Result<(u64, Arc<Lender>), NotYet> {
        let Some(lender) = self.lender.clone() else {
            return Err(NotYet {
                lender: None,
                until: None,
            });
        };
        let job = self.begun + 1;
        loop {
            if let Err(wait) = self.spender.begin(now, lender.grant()) {
                match self.wait(&lender, now, wait) {
                    Some(until) => return Err(until),
                    None => continue,
                }
            }
            lender.usage().announce(job, now);
            let sequence = lender.grant().sequence();
            // One that is gone takes nothing back any more.
            if sequence == self.spender.sequence() || lender.is_gone() {
                break;
            }
            lender.usage().retract();
            self.spender.undo();
            if sequence % 2 != 0 {
                // It is being written, by one that may end in the middle of that.
                return Err(NotYet {
                    lender: Some(lender),
                    until: Some(now + WRITING),
                });
            }
        }
        self.begun = job;
        self.running = Some((job, now));
        let waited = now.since(since).0;
        self.waited = Nanos(self.waited.0.saturating_add(waited));
        Ok((job, lender))
    }

    /// How to wait; `None` if there is more by now.
    fn wait(&mut self, lender: &Arc<Lender>, now: Time, wait: Wait) -> Option<NotYet> {
        if !lender.is_gone() && !self.has_told() {
            self.told = Some(self.word());
            lender.tell();
        }
        let mut until = None;
        if lender.is_gone() {
            match wait {
                Wait::Expired => {
                    self.spender.carry_on(now);
                    return None;
                }
                Wait::Spent(time) => until = Some(time),
                // It comes with another lender, or a job's end.
                Wait::NoLease | Wait::Stopped | Wait::Full => {}
            }
        }
        Some(NotYet {
            lender: Some(Arc::clone(lender)),
            until,
        })
    }

    pub(super) fn is_cancelled(&self, job: u64) -> bool {
        let lender = self.lender.as_ref();
        lender.is_some_and(|lender| lender.grant().cancelled() == job)
    }

    /// The job that runs has ended.
    pub(super) fn end(&mut self, now: Time) {
        let (Some((_, since)), Some(lender)) = (self.running.take(), &self.lender) else {
            return;
        };
        self.jobs += 1;
        self.spender.end(now.since(since), lender.usage());
        lender.usage().set_done(self.jobs, self.waited);
        lender.usage().retract();
        let grant = lender.grant();
        let is_over = self.spender.is_over(now) || grant.sequence() != self.spender.sequence();
        let is_idle = !self.has_queued();
        if is_over || (is_idle && grant.is_contended()) {
            if !is_idle {
                self.told = Some(self.word());
            }
            lender.tell();
        }
    }
}
