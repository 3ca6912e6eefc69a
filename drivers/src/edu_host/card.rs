//! The device's one engine: whose turn it is, and one job after the other.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mdev::dma::view::Access;
use mdev::host::{Job, Seat};

use super::hardware::Hardware;
use crate::edu::registers::{Register, command};
use crate::edu::transfer::{BUFFER, TransferError};

/// How often who waits for his turn looks whether he is still to.
const PATIENCE: Duration = Duration::from_millis(20);

/// How often who waits for the device looks whether its interrupt was lost.
const DOUBT: Duration = Duration::from_millis(500);

/// A physical device.
#[derive(Debug)]
pub(super) struct Card {
    hardware: Box<dyn Hardware>,
    /// How long all jobs of one turn may take: a device that takes longer is taken for hung.
    limit: Duration,
    state: Mutex<State>,
    /// A turn has ended.
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Whose turn it is, and who comes next: by numbers that come once.
    queue: VecDeque<u64>,
    last: u64,
    /// It may reach memory. It may not before the first turn, nor after a job that did not end.
    is_awake: bool,
    /// Whose bytes the device's buffer has.
    held: Option<Held>,
}

/// Bytes in the device's buffer that are those of a vGPU's.
#[derive(Clone, Debug)]
struct Held {
    seat: Seat,
    part: Range<u64>,
}

impl Card {
    /// A card that is no bus master.
    pub(super) fn new(hardware: Box<dyn Hardware>, limit: Duration) -> Self {
        Self {
            hardware,
            limit,
            state: Mutex::default(),
            ended: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the device: it is this seat's alone until the turn is dropped, and reaches memory. An
    /// error if the caller is not to wait any more, or the device is not to be had.
    pub(super) fn take(
        &self,
        seat: Seat,
        is_hasty: impl Fn() -> bool,
    ) -> Result<Turn<'_>, TransferError> {
        let mut state = self.state();
        state.last += 1;
        let number = state.last;
        state.queue.push_back(number);
        while state.queue.front() != Some(&number) {
            if is_hasty() {
                state.queue.retain(|&waiting| waiting != number);
                return Err(TransferError::Interrupted);
            }
            let woken = self.ended.wait_timeout(state, PATIENCE);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        let turn = Turn {
            card: self,
            end: Instant::now() + self.limit,
        };
        turn.wake(seat)?;
        Ok(turn)
    }

    /// The buffer of a vGPU is another one now.
    pub(super) fn forget(&self, seat: Seat) {
        let held = &mut self.state().held;
        held.take_if(|held| held.seat == seat);
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        if let Err(error) = self.hardware.set_bus_master(false) {
            tracing::warn!("the device may not be quiet: {error}");
        }
    }
}

/// A time in which a device is one vGPU's.
#[derive(Debug)]
pub(super) struct Turn<'card> {
    card: &'card Card,
    /// When the device counts as hung.
    end: Instant,
}

impl Turn<'_> {
    /// Does a job, with the bytes from `at` on of the device's buffer. On error the device is quiet, and
    /// its buffer is nobody's.
    pub(super) fn run(&self, job: &Job<'_>, at: u64) -> Result<(), TransferError> {
        let hardware = &self.card.hardware;
        if !self.card.state().is_awake {
            return Err(TransferError::Device("it is hung"));
        }
        // The card drops what does not fit into 32 bits, and its addresses are of fewer.
        let (memory, buffer) = (job.device_address() as u32, (BUFFER + at) as u32);
        let (source, destination, way) = match job.access() {
            Access::Read => (memory, buffer, 0),
            Access::Write => (buffer, memory, command::TO_RAM),
        };
        hardware.store(Register::InterruptAcknowledge, u32::MAX);
        hardware.store(Register::DmaSource, source);
        hardware.store(Register::DmaDestination, destination);
        hardware.store(Register::DmaCount, job.len() as u32);
        let command = command::START | command::INTERRUPT | way;
        hardware.store(Register::DmaCommand, command as u32);
        self.wait_until_idle().inspect_err(|_| {
            tracing::error!("{}: {} bytes are not transferred", job.seat(), job.len());
            self.quiet();
        })
    }

    /// Lets the device reach memory. What it may have been at before must have ended: it would go on.
    fn wake(&self, seat: Seat) -> Result<(), TransferError> {
        if self.card.state().is_awake {
            return Ok(());
        }
        let hardware = &self.card.hardware;
        if let Err(error) = self.wait_until_idle() {
            if !hardware.reset() {
                tracing::warn!("{seat}: the device is still hung");
                return Err(error);
            }
            tracing::warn!("the device was reset");
        }
        if let Err(error) = hardware.set_bus_master(true) {
            tracing::error!("the device cannot be let reach memory: {error}");
            return Err(TransferError::Device("it is not to be had"));
        }
        self.card.state().is_awake = true;
        Ok(())
    }

    /// What becomes of a device whose job does not end: whatever it does, it does it to no memory.
    fn quiet(&self) {
        let mut state = self.card.state();
        state.is_awake = false;
        state.held = None;
        if let Err(error) = self.card.hardware.set_bus_master(false) {
            tracing::error!("the device may not be quiet: {error}");
        }
    }

    fn wait_until_idle(&self) -> Result<(), TransferError> {
        let is_busy = || self.card.hardware.load(Register::DmaCommand) & command::START as u32 != 0;
        while is_busy() {
            if Instant::now() >= self.end {
                return Err(TransferError::Device("it does not end a transfer"));
            }
            self.card.hardware.wait(DOUBT);
        }
        Ok(())
    }

    /// Whether the device's buffer has these bytes of a vGPU's.
    pub(super) fn has(&self, seat: Seat, part: &Range<u64>) -> bool {
        let state = self.card.state();
        let held = state.held.as_ref().filter(|held| held.seat == seat);
        held.is_some_and(|held| held.part.start <= part.start && part.end <= held.part.end)
    }

    /// The device's buffer has nobody's bytes: it is about to get others.
    pub(super) fn forget_all(&self) {
        self.card.state().held = None;
    }

    /// The device's buffer has these bytes of a vGPU's.
    pub(super) fn note(&self, seat: Seat, part: Range<u64>) {
        self.card.state().held = Some(Held { seat, part });
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.card.state().queue.pop_front();
        self.card.ended.notify_all();
    }
}
