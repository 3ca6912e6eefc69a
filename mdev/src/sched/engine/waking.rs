//! Who waits, and ought to have the engine before what runs has ended by itself.
//!
//! A job cannot be interrupted. But what is one job here may be many in truth: the time for which
//! somebody was granted the engine. That can end early.

use super::super::account::Account;
use super::super::decision::{JobId, Why};
use super::super::units::{Nanos, Time, VirtualTime};
use super::{Engine, Running};

impl Engine {
    /// Which of these running jobs, each with what it has used by now, is to make way for whoever is
    /// next: the furthest ahead of those that would not be picked before it again.
    pub(in super::super) fn displaced(
        &mut self,
        now: Time,
        running: &[(JobId, Nanos)],
    ) -> Option<JobId> {
        self.release(now);
        let (next, why) = self.pick(now)?;
        let turn = self
            .account(next)
            .map(|next| turn(next, next.virtual_time))?;
        let places = running.iter().filter_map(|(job, used)| {
            let runs = self.running.iter().find(|running| running.job == *job)?;
            Some((runs, self.turn_of(runs, *used)?))
        });
        let behind = places.filter(|(runs, reached)| {
            let comes_first = match why {
                Why::Display => runs.why != Why::Display,
                Why::Reservation => runs.why == Why::Turn,
                Why::Turn => runs.why == Why::Turn && turn < *reached,
            };
            comes_first && runs.slot != next
        });
        let furthest = behind.max_by_key(|(_, reached)| *reached);
        furthest.map(|(runs, _)| runs.job)
    }

    /// Where the client of a job stood in the order of turns, had that ended after `used`.
    fn turn_of(&self, running: &Running, used: Nanos) -> Option<VirtualTime> {
        let account = self.account(running.slot)?;
        let before = account.virtual_time.back(running.charged);
        Some(turn(account, before + account.cost(used)))
    }

    /// A job that waits turns out to be one to be shown.
    pub(in super::super) fn hurry(&mut self, now: Time, slot: usize, job: JobId) -> bool {
        let is_there = self
            .account_mut(slot)
            .is_some_and(|account| account.hurry(job));
        if is_there {
            self.place(now, slot);
        }
        is_there
    }
}

/// Where a client with that virtual time stands among those of all priorities.
fn turn(account: &Account, virtual_time: VirtualTime) -> VirtualTime {
    virtual_time + account.priority().handicap()
}
