//! Who may run, in the orders in which they are picked.

use super::super::account::Account;
use super::super::decision::Why;
use super::super::order::Order;
use super::super::settings::Priority;
use super::super::units::{Time, VirtualTime};
use super::Engine;

impl Engine {
    pub(super) fn pick(&self, now: Time) -> Option<(usize, Why)> {
        let due = |order: &Order<Time>| order.first().filter(|(due, _)| *due <= now);
        if let Some((_, slot)) = due(&self.urgent) {
            return Some((slot, Why::Display));
        }
        if let Some((_, slot)) = due(&self.owed) {
            return Some((slot, Why::Reservation));
        }
        self.first_turn().map(|slot| (slot, Why::Turn))
    }

    pub(super) fn first_turn(&self) -> Option<usize> {
        let firsts = Priority::ALL.into_iter().filter_map(|priority| {
            let (virtual_time, slot) = self.turns[priority as usize].first()?;
            Some((virtual_time + priority.handicap(), slot))
        });
        firsts.min().map(|(_, slot)| slot)
    }

    /// Where a client's virtual time begins when it wakes: with the last turn of its own priority
    /// while others of that wait, since among them it has no lead and no delay; or else not before
    /// the engine's.
    pub(super) fn start(&mut self, priority: Priority) -> VirtualTime {
        let level = &mut self.levels[priority as usize];
        if self.turns[priority as usize].first().is_none() {
            *level = self.virtual_time.max(*level);
        }
        *level
    }

    /// Lets those go on who are below their ceilings by now.
    pub(super) fn release(&mut self, now: Time) {
        while let Some((until, slot)) = self.throttled.first()
            && until <= now
        {
            self.place(now, slot);
        }
    }

    /// Puts a client where it belongs after anything about it has changed.
    pub(super) fn place(&mut self, now: Time, slot: usize) {
        let waits = |account: &&Account| account.waiting() > 0;
        let Some(account) = self.account(slot).filter(waits) else {
            return self.forget_place(slot);
        };
        let priority = account.priority();
        let until = account.below_ceilings();
        match account.urgent_from() {
            Some(due) => self.urgent.set(slot, due),
            None => drop(self.urgent.remove(slot)),
        }
        if until > now {
            self.forget_turn(slot);
            self.throttled.set(slot, until);
            return;
        }
        if self.throttled.remove(slot) {
            // What its own ceiling kept it from, the others owe it nothing for.
            let start = self.start(priority);
            if let Some(account) = self.account_mut(slot) {
                account.virtual_time = account.virtual_time.max(start);
            }
        }
        self.forget_turn(slot);
        if let Some(account) = self.account(slot) {
            let (virtual_time, owed_from) = (account.virtual_time, account.owed_from());
            self.turns[priority as usize].set(slot, virtual_time);
            if let Some(due) = owed_from {
                self.owed.set(slot, due);
            }
        }
    }

    fn forget_turn(&mut self, slot: usize) {
        for turns in &mut self.turns {
            turns.remove(slot);
        }
        self.owed.remove(slot);
    }

    pub(super) fn forget_place(&mut self, slot: usize) {
        self.forget_turn(slot);
        self.throttled.remove(slot);
        self.urgent.remove(slot);
    }
}
