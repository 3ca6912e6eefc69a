//! Whoever wakes waits for the job that runs, and not for the rest of a lease.

use mdev::sched::{Nanos, Time};

use super::ParentEngine;

impl ParentEngine {
    /// Somebody has come who had nothing to do, or has something to show: whoever has the engine and
    /// is further along gives it back.
    ///
    /// Not for those who have had their lease: they would take it from each other after every job.
    pub(super) fn make_way(&mut self, now: Time) {
        // Who has just been granted it and has not begun is ahead of who comes, if only by a hair.
        let least = Nanos(1);
        let holders = self.holders.iter().filter_map(|slot| {
            let client = self.clients.get(slot)?;
            let used = client.used_of_lease(now).max(least);
            Some((*slot, client.held.as_ref()?, used))
        });
        let holders: Vec<_> = holders.collect();
        let is_coming_free = holders.iter().any(|(_, held, _)| held.revoked.is_some());
        if holders.len() < self.spec.places as usize || is_coming_free {
            return;
        }
        let running: Vec<_> = holders
            .iter()
            .map(|(_, held, used)| (held.decision.job, *used))
            .collect();
        let displaced = self.scheduler.displaced(now, self.engine, &running);
        let displaced = displaced.ok().flatten();
        let mut holders = holders.iter();
        let of = holders.find(|(_, held, _)| Some(held.decision.job) == displaced);
        let Some(&(slot, ..)) = of else {
            return;
        };
        let held = self.clients.get_mut(&slot);
        if let Some(held) = held.and_then(|client| client.held.as_mut()) {
            held.used = held.used.max(least);
        }
        self.take_back(now, slot);
        self.arrive(now, slot);
    }
}
