//! The thread that serves the queues: one request at a time, queues in turn.

use std::sync::Arc;

use mdev::dma::{AccessError, GuestMemory};

use super::looking::Looking;
use super::{QueueSetup, Setup, Shared};
use crate::device::QueueHandler;
use crate::ring::RingError;

/// What the thread owns.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) memory: GuestMemory,
    pub(super) handler: Box<dyn QueueHandler>,
    pub(super) looking: Looking,
}

/// A queue that has its turn.
struct Turn {
    queue: u16,
    setup: Arc<Setup>,
    is_unsure: bool,
}

/// What came of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// There may be more.
    More,
    /// Nothing is to be done before the next notification.
    Idle,
}

impl Worker {
    /// Serves queues until nobody could ask for it any more.
    pub(super) fn run(mut self) {
        while let Some(turn) = self.next() {
            self.handler.attend();
            let outcome = match self.current(&turn) {
                None => Ok(Outcome::Idle),
                Some(setup) => self.serve(turn.queue, setup, turn.is_unsure),
            };
            let outcome = outcome.unwrap_or_else(|error| self.give_up(turn.queue, &error));
            let mut state = self.shared.state();
            state.is_busy = false;
            if outcome == Outcome::More {
                state.notified |= 1 << turn.queue;
            }
            drop(state);
            self.shared.changed.notify_all();
        }
    }

    /// The queue that has its turn, unless there is nothing to be done for it: the driver has not
    /// set it up, or that was before a reset which another process has done already.
    fn current(&self, turn: &Turn) -> Option<QueueSetup> {
        let Shared {
            ledger, signals, ..
        } = &*self.shared;
        let setup = turn.setup.queues.get(usize::from(turn.queue));
        let setup = setup.copied().flatten()?;
        let is_of_now = turn.setup.resets == ledger.resets()
            && setup.resets == ledger.queue_resets(turn.queue)
            && !signals.needs_reset();
        is_of_now.then_some(setup)
    }

    /// Waits for a queue to serve.
    fn next(&mut self) -> Option<Turn> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state();
        loop {
            if state.is_ending {
                return None;
            }
            let may_begin = !state.is_held && !state.is_stopped;
            if state.notified != 0 && may_begin {
                break;
            }
            self.looking.nothing_to_do();
            state = match may_begin && self.looking.has_queues() {
                true => {
                    let found = self.look(state);
                    let mut state = shared.state();
                    state.is_busy = false;
                    state.notified |= found;
                    shared.changed.notify_all();
                    state
                }
                false => shared.wait(state),
            };
        }
        // The next after the last that had its turn.
        let behind = state.last + 1;
        let queue = (behind + state.notified.rotate_right(behind).trailing_zeros()) % u64::BITS;
        let bit = 1 << queue;
        state.last = queue;
        state.notified &= !bit;
        let is_unsure = state.unsure & bit != 0;
        state.is_busy = true;
        Some(Turn {
            queue: queue as u16,
            setup: Arc::clone(&state.setup),
            is_unsure,
        })
    }

    /// Handles the next request of a queue.
    fn serve(
        &mut self,
        queue: u16,
        setup: QueueSetup,
        is_unsure: bool,
    ) -> Result<Outcome, RingError> {
        let ring = setup.ring;
        if is_unsure {
            self.make_sure(queue, setup)?;
        }
        let used = self.shared.ledger.used(queue);
        if !self.handler.is_ready(queue, used) {
            return Ok(Outcome::Idle);
        }
        let position = used as u16;
        let Some((head, mut chain)) = ring.pop(&self.memory, position)? else {
            return self.empty(queue, setup);
        };
        self.looking.found(queue);
        let Ok(written) = self.handler.handle(queue, used, &mut chain) else {
            return Ok(Outcome::More);
        };
        ring.push(&self.memory, position, head, written)?;
        self.shared.ledger.set_used(queue, used.wrapping_add(1));
        if ring.wants_interrupt(&self.memory, position)? {
            self.shared.signals.queue(setup.vector);
        }
        Ok(Outcome::More)
    }

    /// The queue is empty: it is looked at for a while, or the driver is asked to notify.
    fn empty(&mut self, queue: u16, setup: QueueSetup) -> Result<Outcome, RingError> {
        let (ring, bit) = (setup.ring, 1 << queue);
        if self.looking.is_wanted(queue) && ring.is_direct(&self.memory) {
            ring.hush(&self.memory)?;
            self.shared.state().hushed |= bit;
            self.looking.add(queue);
            return Ok(Outcome::Idle);
        }
        let position = self.shared.ledger.used(queue) as u16;
        let may_be_hushed = self.shared.state().hushed & bit != 0;
        let is_armed = ring.arm(&self.memory, position, may_be_hushed)?;
        self.shared.state().hushed &= !bit;
        Ok(if is_armed {
            Outcome::Idle
        } else {
            Outcome::More
        })
    }

    /// Another process may have died after it told the driver of a chain and before it noted that,
    /// or before it interrupted. An interrupt too many harms nobody.
    fn make_sure(&self, queue: u16, setup: QueueSetup) -> Result<(), RingError> {
        let used = self.shared.ledger.used(queue);
        let told = setup.ring.used_index(&self.memory)?;
        if told == (used as u16).wrapping_add(1) {
            self.shared.ledger.set_used(queue, used.wrapping_add(1));
        }
        self.shared.signals.queue(setup.vector);
        self.shared.state().unsure &= !(1 << queue);
        Ok(())
    }

    /// A queue cannot be served.
    fn give_up(&self, queue: u16, error: &RingError) -> Outcome {
        match error {
            RingError::Cancelled(_) => Outcome::More,
            // The guest has switched the device off, and not told it so.
            RingError::Memory(AccessError::NotBusMaster) => Outcome::Idle,
            error => {
                let log = &self.shared.log;
                log.warn(format_args!(
                    "queue {queue} is dead until the driver resets the device: {error}"
                ));
                self.shared.signals.need_reset();
                Outcome::Idle
            }
        }
    }
}
