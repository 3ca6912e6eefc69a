//! Looking for chains before sleeping.
//!
//! To be notified costs a busy guest an exit and a message, and us the way from a sleeping thread to
//! another. So a queue that is found empty is looked at for as long as has lately paid, as a session
//! does with its socket ([`mdev::polling`]), and meanwhile its driver is asked for no notification.
//! A device that is idle sleeps; and with one CPU nobody could put in what is looked for.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::Instant;

use mdev::polling::{PollWindow, Polling};

use super::thread::Worker;
use super::{Setup, State};

/// Which queues are looked at, and for how long.
#[derive(Debug)]
pub(super) struct Looking {
    window: PollWindow,
    /// Since when there is nothing to do; `None` where that need not be known.
    since: Option<Instant>,
    is_idle: bool,
    /// Those that were empty, and whose driver was asked for no notification.
    queues: u64,
    /// Those that were looked at for long enough: the driver is to be asked for one.
    given_up: u64,
}

impl Looking {
    pub(super) fn new(polling: Polling) -> Self {
        Self {
            window: PollWindow::new(polling),
            since: None,
            is_idle: false,
            queues: 0,
            given_up: 0,
        }
    }

    /// Nothing is to be done from now on.
    pub(super) fn nothing_to_do(&mut self) {
        if !self.is_idle {
            self.is_idle = true;
            self.since = self.window.begin();
        }
    }

    /// There was a chain in this queue.
    pub(super) fn found(&mut self, queue: u16) {
        self.is_idle = false;
        if let Some(since) = self.since.take() {
            self.window.waited(since.elapsed());
        }
        self.given_up &= !(1 << queue);
    }

    /// Whether a queue that is empty is to be looked at.
    pub(super) fn is_wanted(&self, queue: u16) -> bool {
        !self.window.window().is_zero() && self.given_up & (1 << queue) == 0
    }

    /// The driver of this queue was asked for no notification.
    pub(super) fn add(&mut self, queue: u16) {
        self.queues |= 1 << queue;
    }

    /// Whether there is any to look at.
    pub(super) fn has_queues(&self) -> bool {
        self.queues != 0
    }

    /// They have been looked at for long enough.
    fn give_up(&mut self) -> u64 {
        self.given_up |= self.queues;
        std::mem::take(&mut self.queues)
    }
}

impl Worker {
    /// Looks at queues until one is not empty, or something else is to be done. Those that are to
    /// have a turn: all, if the time is over.
    pub(super) fn look(&mut self, mut state: MutexGuard<'_, State>) -> u64 {
        state.is_busy = true;
        self.shared.attention.store(false, Ordering::Relaxed);
        let setup = Arc::clone(&state.setup);
        drop(state);
        let deadline = self
            .looking
            .since
            .map(|it| it + self.looking.window.window());
        loop {
            let found = self.not_empty(&setup);
            if found != 0 {
                self.looking.queues &= !found;
                return found;
            }
            if self.shared.attention.load(Ordering::Relaxed) {
                return 0;
            }
            if deadline.is_none_or(|deadline| Instant::now() >= deadline) {
                return self.looking.give_up();
            }
            std::hint::spin_loop();
        }
    }

    /// Those of the queues that are not empty, or not there any more.
    fn not_empty(&self, setup: &Setup) -> u64 {
        let bits = (0..u64::BITS as u16).filter(|queue| self.looking.queues & (1 << queue) != 0);
        let found = bits.filter(|queue| {
            let position = self.shared.ledger.used(*queue) as u16;
            let setup = setup.queues.get(usize::from(*queue)).copied().flatten();
            // What is wrong with it is told when it has its turn.
            setup.is_none_or(|it| it.ring.has_more(&self.memory, position).unwrap_or(true))
        });
        found.fold(0, |found, queue| found | 1 << queue)
    }
}
