//! The thread that computes and copies, and what both threads know of its work.
//!
//! The session's thread gives it jobs over a channel and reads their state from a lock that is
//! never held over a job, so a guest's access never waits for one. It waits only in
//! [`Engine::finish_in`] and [`Engine::reset`], for at most one transfer, whose waits for the
//! client `mdev` has cancelled by then.

mod thread;

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use mdev::dma::{GuestMemory, IovaRange};
use mdev::engine::{EngineLease, Ticket};
use mdev::region_memory::RegionMemory;
use mdev::sched::Class;

use super::ended::Ended;
use super::interrupt::Interrupt;
use super::mover::{Flow, Mover};
use super::registers::{cause, spin};
use super::settings::Way;
use super::transfer::{BUFFER_LEN, Buffer, Transfer, TransferError};
use thread::Worker;

/// The engine's end that the session's thread holds. Dropping it ends the engine's thread.
#[derive(Debug)]
pub(super) struct Engine {
    memory: GuestMemory,
    lease: EngineLease,
    /// Whether transfers may wait for those of others, without a lease too.
    may_wait: bool,
    /// `None` only while it is dropped.
    jobs: Option<Sender<Job>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the engine can be asked to do.
#[derive(Debug)]
enum Job {
    Factorial(u32, Ticket),
    Transfer(TransferJob, Ticket),
    /// To be busy, as the register says.
    Spin(u32, Ticket),
    /// To tell what the buffer holds.
    Tell(SyncSender<Box<Buffer>>),
    /// To hold this in the buffer.
    Hold(Box<Buffer>),
    /// To have ended no transfer.
    Forget,
    /// To say that every job before has ended.
    Fence(SyncSender<()>),
}

/// A transfer, and what belongs to it. One that cannot be done ends in the same way.
#[derive(Debug)]
pub(super) struct TransferJob {
    /// Which one it is, counted from 1. One that is done again has the number that it had.
    pub(super) number: u64,
    pub(super) transfer: Result<Transfer, TransferError>,
    pub(super) way: Way,
    /// Interrupt once it has ended.
    pub(super) interrupt: bool,
}

/// What both threads know.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// A transfer has ended, or touches no memory any more.
    ended: Condvar,
    interrupt: Arc<Interrupt>,
    /// Whether a spin is to end before its time.
    is_hasty: AtomicBool,
}

/// The state of the engine, as registers show it.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// The last result; while it is computed, the number that was asked for.
    pub(super) factorial: u32,
    pub(super) is_computing: bool,
    /// Whether a factorial interrupts.
    pub(super) interrupt_after_factorial: bool,
    pub(super) is_transferring: bool,
    /// What is transferred, if it can be.
    pub(super) transfer: Option<Transfer>,
    /// The transfer touches no memory: it waits for its turn, say.
    pub(super) is_transfer_waiting: bool,
    /// The errno of the last transfer that has ended, or 0.
    pub(super) dma_error: i32,
    /// How many transfers have failed.
    pub(super) dma_failures: u64,
    /// The last transfer that has ended, as it is stored.
    pub(super) ended: Ended,
    /// Spins that have not ended, as they were written. The first may be under way.
    pub(super) spins: VecDeque<u32>,
    pub(super) spins_ended: u64,
    /// For migration. A transfer whose wait for the client was cancelled stays under way.
    pub(super) is_stopped: bool,
}

impl State {
    /// The transfer has ended as it is told.
    fn end_transfer(&mut self) {
        self.dma_error = self.ended.errno;
        self.dma_failures = self.ended.failures;
        self.is_transferring = false;
        self.is_transfer_waiting = false;
        self.transfer = None;
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flow for Shared {
    fn touch(&self, is_touching: bool) {
        self.state().is_transfer_waiting = !is_touching;
        if !is_touching {
            self.ended.notify_all();
        }
    }

    fn is_hasty(&self) -> bool {
        self.is_hasty.load(Ordering::Relaxed)
    }
}

impl Engine {
    /// Starts the thread.
    ///
    /// Which transfer has ended is noted in `store`, if there is one, before the guest is told.
    pub(super) fn start(
        memory: GuestMemory,
        lease: EngineLease,
        interrupt: Arc<Interrupt>,
        store: Option<Arc<RegionMemory>>,
        mover: Box<dyn Mover>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            ended: Condvar::new(),
            interrupt,
            is_hasty: AtomicBool::new(false),
        });
        shared.state().ended = store.as_deref().map_or_else(Ended::default, Ended::load);
        let (jobs, received) = mpsc::channel();
        let may_wait = mover.may_wait();
        let worker = Worker {
            shared: Arc::clone(&shared),
            memory: memory.clone(),
            mover,
            store,
        };
        let thread = Builder::new()
            .name("edu-engine".to_owned())
            .spawn(move || worker.run(&received))?;
        Ok(Self {
            memory,
            lease,
            may_wait,
            jobs: Some(jobs),
            shared,
            thread: Some(thread),
        })
    }

    /// The state now.
    pub(super) fn state(&self) -> State {
        self.shared.state().clone()
    }

    /// The state, which stays as it is as long as this is held.
    pub(super) fn locked(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    /// Starts to compute a factorial, unless one is being computed.
    pub(super) fn compute(&self, number: u32) {
        let mut state = self.shared.state();
        if !state.is_computing {
            state.is_computing = true;
            state.factorial = number;
            self.give(Job::Factorial(number, self.lease.submit(Class::Render)));
        }
    }

    /// Starts a spin behind those that have not ended, unless there are too many.
    pub(super) fn spin(&self, value: u32) {
        let mut state = self.shared.state();
        if state.spins.len() < spin::MOST {
            state.spins.push_back(value);
            self.give_spin(value);
        }
    }

    fn give_spin(&self, value: u32) {
        let class = match value & spin::DISPLAY {
            0 => Class::Render,
            _ => Class::Display,
        };
        self.give(Job::Spin(value, self.lease.submit(class)));
    }

    pub(super) fn set_interrupt_after_factorial(&self, wanted: bool) {
        self.shared.state().interrupt_after_factorial = wanted;
    }

    /// Starts a transfer. The caller has seen that none is under way, and is the only one who
    /// starts any.
    ///
    /// One that has ended in another process is not done again: the guest may know that it has
    /// ended, and have other things in that memory since. But it may not have been told.
    pub(super) fn transfer(&self, job: TransferJob) {
        let mut state = self.shared.state();
        if job.number <= state.ended.number {
            state.end_transfer();
            if job.interrupt {
                self.shared.interrupt.raise(cause::DMA);
            }
            return;
        }
        state.is_transferring = true;
        state.transfer = job.transfer.as_ref().ok().cloned();
        // Behind a spin, or for its turn. One that is next is as good as begun.
        state.is_transfer_waiting =
            self.may_wait || self.lease.is_scheduled() || !state.spins.is_empty();
        self.give(Job::Transfer(job, self.lease.submit(Class::Render)));
    }

    /// Waits until no transfer is under way that touches `range`. One that waits for its turn does
    /// not: it finds the memory that is there by then.
    pub(super) fn finish_in(&self, range: IovaRange) {
        let is_under_way = |state: &mut State| {
            let transfer = state.transfer.as_ref();
            !state.is_transfer_waiting && transfer.is_some_and(|transfer| transfer.touches(range))
        };
        let state = self.shared.state();
        let ended = self.shared.ended.wait_while(state, is_under_way);
        // Whoever panicked under the lock does no transfer either.
        drop(ended);
    }

    /// Waits until every job has ended, and forgets what came of them.
    pub(super) fn reset(&self) {
        let _hurry = self.hurry();
        self.give(Job::Hold(Box::new([0; BUFFER_LEN])));
        self.give(Job::Forget);
        self.finish();
        *self.shared.state() = State::default();
    }

    /// Ends what is under way, save a transfer that waits for the client: that stays to be done.
    pub(super) fn stop(&self) {
        self.shared.state().is_stopped = true;
        let _cancelled = self.memory.cancel_waits();
        let _hurry = self.hurry();
        self.finish();
    }

    /// Has spins end at once, and those that wait for their turn not begin, until what is given back
    /// is dropped.
    fn hurry(&self) -> Hurry<'_> {
        self.shared.is_hasty.store(true, Ordering::Relaxed);
        Hurry {
            shared: &self.shared,
            _interrupt: self.lease.interrupt(),
        }
    }

    /// Takes jobs again. `true` if the transfer that was under way is to be started anew.
    pub(super) fn resume(&self) -> bool {
        let mut state = self.shared.state();
        let was_stopped = std::mem::take(&mut state.is_stopped);
        if was_stopped && state.is_computing {
            // Another process was at it.
            let ticket = self.lease.submit(Class::Render);
            self.give(Job::Factorial(state.factorial, ticket));
        }
        if was_stopped {
            for &value in &state.spins {
                self.give_spin(value);
            }
        }
        was_stopped && state.is_transferring
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.shared.state().is_stopped
    }

    /// What the buffer holds. Nothing is under way.
    pub(super) fn buffer(&self) -> Buffer {
        let (told, waiting) = mpsc::sync_channel(1);
        self.give(Job::Tell(told));
        // Without the thread there is no buffer any more.
        waiting.recv().map_or([0; BUFFER_LEN], |buffer| *buffer)
    }

    /// Takes a state that was saved, and stays stopped.
    pub(super) fn load(&self, state: State, buffer: Buffer) {
        self.give(Job::Hold(Box::new(buffer)));
        self.finish();
        let mut shared = self.shared.state();
        *shared = State {
            is_stopped: true,
            ended: shared.ended,
            ..state
        };
    }

    fn finish(&self) {
        let (done, waiting) = mpsc::sync_channel(1);
        self.give(Job::Fence(done));
        // An error says that the thread is gone: then nothing is under way either.
        let _ = waiting.recv();
    }

    fn give(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // The thread outlives the sender, unless it has panicked: then the job stays undone.
            let _ = jobs.send(job);
        }
    }
}

/// While it is there, jobs that could take long do not begin, or end at once.
struct Hurry<'a> {
    shared: &'a Shared,
    _interrupt: mdev::engine::Interrupt,
}

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.shared.is_hasty.store(false, Ordering::Relaxed);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _hurry = self.lease.interrupt();
        self.shared.is_hasty.store(true, Ordering::Relaxed);
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
