//! The thread of the engine: it does jobs in order.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};
use std::{hint, iter};

use mdev::dma::messages::MessageError;
use mdev::dma::{AccessError, GuestMemory};
use mdev::engine::Ticket;
use mdev::region_memory::RegionMemory;

use super::{Job, Shared, TransferJob};
use crate::edu::ended::Ended;
use crate::edu::mover::Mover;
use crate::edu::registers::{cause, spin};
use crate::edu::transfer::TransferError;

/// What the thread owns.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) memory: GuestMemory,
    pub(super) mover: Box<dyn Mover>,
    pub(super) store: Option<Arc<RegionMemory>>,
}

impl Worker {
    /// Does jobs in order, until there is nobody who could give another.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        for job in jobs {
            match job {
                Job::Factorial(number, ticket) => self.compute(number, ticket),
                Job::Transfer(job, ticket) => self.transfer(job, ticket),
                Job::Spin(value, ticket) => self.spin(value, ticket),
                Job::Tell(told) => _ = told.send(Box::new(self.mover.buffer())),
                Job::Hold(buffer) => self.mover.hold(&buffer),
                Job::Forget => self.note(Ended::default()),
                Job::Fence(done) => _ = done.send(()),
            }
        }
    }

    /// What is not to wait for its turn is done at once: it takes no time, and after a reset it is
    /// forgotten.
    fn compute(&self, number: u32, ticket: Ticket) {
        let _turn = ticket.begin();
        let result = factorial(number);
        let mut state = self.shared.state();
        state.factorial = result;
        state.is_computing = false;
        if state.interrupt_after_factorial {
            // Under the lock: a checkpoint has both, or neither.
            self.shared.interrupt.raise(cause::FACTORIAL);
        }
    }

    /// Keeps the engine busy. One that is not to go on stays to be done: after a reset it is
    /// forgotten, and if the device stands still it is begun again.
    fn spin(&self, value: u32, ticket: Ticket) {
        let Ok(turn) = ticket.begin() else {
            return;
        };
        let micros = (value & spin::MICROSECONDS).min(spin::LONGEST);
        let length = Duration::from_micros(micros.into());
        let begun = Instant::now();
        while begun.elapsed() < length && !turn.is_cancelled() {
            if self.shared.is_hasty.load(Ordering::Relaxed) {
                return;
            }
            hint::spin_loop();
        }
        drop(turn);
        let mut state = self.shared.state();
        if state.is_stopped || state.spins.pop_front().is_none() {
            return;
        }
        state.spins_ended += 1;
        if value & spin::INTERRUPT != 0 {
            // Under the lock: a checkpoint has both, or neither.
            self.shared.interrupt.raise(cause::SPIN);
        }
    }

    fn transfer(&mut self, job: TransferJob, ticket: Ticket) {
        let Ok(_turn) = ticket.begin() else {
            return;
        };
        let done = job.transfer.and_then(|transfer| {
            self.mover
                .run(&transfer, &self.memory, job.way, &*self.shared)
        });
        if let Err(error) = &done {
            tracing::debug!("a transfer was not done: {error}");
        }
        let mut state = self.shared.state();
        let is_interrupted = matches!(done, Err(TransferError::Interrupted));
        if is_interrupted || state.is_stopped && done.as_ref().is_err_and(is_cancelled) {
            state.transfer = None;
            self.shared.ended.notify_all();
            return;
        }
        let errno = done.err().map_or(0, |error| error.errno().raw_os_error());
        state.ended = Ended {
            number: job.number,
            errno,
            // A state that was restored may have had any number.
            failures: state.dma_failures.saturating_add(u64::from(errno != 0)),
        };
        // First: whoever goes on in another process does again what the guest cannot know of yet.
        self.note(state.ended);
        state.end_transfer();
        self.shared.ended.notify_all();
        if job.interrupt {
            // Under the lock: a checkpoint has both, or neither.
            self.shared.interrupt.raise(cause::DMA);
        }
    }

    fn note(&self, ended: Ended) {
        if let Some(store) = &self.store
            && let Err(error) = ended.store(store)
        {
            tracing::warn!("the end of a transfer is not stored: {error}");
        }
    }
}

/// Whether a transfer failed for no other reason than that it was not to wait.
fn is_cancelled(error: &TransferError) -> bool {
    let cancelled = MessageError::Cancelled;
    matches!(error, TransferError::Memory(AccessError::Message(error)) if *error == cancelled)
}

/// The factorial, as far as it fits 32 bits: the rest is cut off, as in QEMU.
///
/// From 34 on the low 32 bits are zero, and stay so, which bounds how long this takes.
fn factorial(number: u32) -> u32 {
    iter::successors(Some(1), |factor| Some(factor + 1))
        .take_while(|factor| *factor <= number)
        .try_fold(1_u32, |product, factor| match product {
            0 => None,
            _ => Some(product.wrapping_mul(factor)),
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_factorial_is_cut_off_at_32_bits() {
        for (number, expected) in [
            (0, 1),
            (1, 1),
            (5, 120),
            (12, 479_001_600),
            (13, 1_932_053_504),
            (20, 2_192_834_560),
            (33, 0x8000_0000),
            (34, 0),
            (35, 0),
            (u32::MAX, 0),
        ] {
            assert_eq!(factorial(number), expected, "{number}!");
        }
    }
}
