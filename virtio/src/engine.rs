//! The thread that serves the queues, and how the session's thread speaks to it.
//!
//! A notification sets a bit and wakes the thread: no access by the guest waits for a request. The
//! session's thread waits for one request at most, in [`Engine::quiesced`], when the device is reset
//! or stopped or memory leaves the map; what waits for the client meanwhile is cancelled then.
//!
//! A driver that keeps a queue busy notifies hardly ever: the thread looks into an empty ring for a
//! short while before it asks for a notification and sleeps ([`looking`]).

mod looking;
mod thread;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use mdev::client_log::ClientLog;
use mdev::dma::GuestMemory;
use mdev::polling::Polling;

use crate::device::QueueHandler;
use crate::ledger::Ledger;
use crate::ring::Ring;
use crate::signals::Signals;
use looking::Looking;
use thread::Worker;

/// The engine's end that the session's thread holds. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct Engine {
    shared: Arc<Shared>,
    memory: GuestMemory,
    thread: Option<JoinHandle<()>>,
}

/// Has the queues of a device looked at again, from any thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<Shared>);

impl Waker {
    /// The device has something for a queue.
    pub fn wake(&self, queue: u16) {
        self.0.notify(1 << queue);
    }
}

/// What both threads know.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Something is to be done, or nothing is being done.
    changed: Condvar,
    /// Something in the state has changed: looking for chains ends.
    attention: AtomicBool,
    ledger: Arc<Ledger>,
    signals: Arc<Signals>,
    /// A guest decides how often its driver is wrong.
    log: ClientLog,
}

/// What there is to do, and what is being done.
#[derive(Debug)]
struct State {
    setup: Arc<Setup>,
    /// Queues that were notified, each with a bit.
    notified: u64,
    /// Queues of which another process may have done more than it has noted.
    unsure: u64,
    /// Queues whose driver may have been asked for no notification, by us or by whoever had the
    /// device before.
    hushed: u64,
    /// The last queue that had its turn.
    last: u32,
    /// A request is being handled, or looked for.
    is_busy: bool,
    /// None is to be begun.
    is_held: bool,
    /// For migration.
    is_stopped: bool,
    is_ending: bool,
}

/// The queues as the driver has set them up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Setup {
    /// Since which reset. What belongs to another one is not served.
    pub(crate) resets: u64,
    /// Those that may be served; none before the driver is up.
    pub(crate) queues: Vec<Option<QueueSetup>>,
}

/// One queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueSetup {
    /// As of the device, since which reset of its own.
    pub(crate) resets: u64,
    pub(crate) ring: Ring,
    pub(crate) vector: u16,
}

impl Default for State {
    fn default() -> Self {
        Self {
            setup: Arc::default(),
            notified: 0,
            unsure: 0,
            hushed: u64::MAX,
            last: 0,
            is_busy: false,
            is_held: false,
            is_stopped: false,
            is_ending: false,
        }
    }
}

impl Shared {
    /// The state, for a change that the thread is to hear of at once.
    fn state_to_be_heard(&self) -> MutexGuard<'_, State> {
        let state = self.state();
        self.attention.store(true, Ordering::Relaxed);
        state
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let state = self.changed.wait(state);
        state.unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self, queues: u64) {
        self.state_to_be_heard().notified |= queues;
        self.changed.notify_all();
    }
}

impl Engine {
    /// Starts the thread.
    pub(crate) fn start(
        memory: GuestMemory,
        ledger: Arc<Ledger>,
        signals: Arc<Signals>,
        handler: Box<dyn QueueHandler>,
        polling: Polling,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            attention: AtomicBool::default(),
            ledger,
            signals,
            log: ClientLog::default(),
        });
        let worker = Worker {
            shared: Arc::clone(&shared),
            memory: memory.clone(),
            handler,
            looking: Looking::new(polling),
        };
        let thread = Builder::new()
            .name("virtio-queues".to_owned())
            .spawn(move || worker.run())?;
        Ok(Self {
            shared,
            memory,
            thread: Some(thread),
        })
    }

    /// The queues are like this from now on.
    pub(crate) fn set_up(&self, setup: Setup) {
        self.shared.state().setup = Arc::new(setup);
    }

    /// The driver has put something into these queues.
    pub(crate) fn notify(&self, queues: u64) {
        self.shared.notify(queues);
    }

    /// For a device that has something to say.
    pub(crate) fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.shared))
    }

    /// Another process may have done more of any queue than it has noted.
    pub(crate) fn set_unsure(&self) {
        self.shared.state().unsure = u64::MAX;
    }

    /// Forgets what was notified.
    pub(crate) fn forget(&self) {
        let mut state = self.shared.state();
        state.notified = 0;
        state.unsure = 0;
        state.hushed = u64::MAX;
    }

    /// Forgets what was notified of a queue.
    pub(crate) fn forget_queue(&self, queue: u16) {
        let mut state = self.shared.state();
        state.notified &= !(1 << queue);
        state.unsure &= !(1 << queue);
    }

    /// Does something while no request is being handled. Whoever waits for the client in one is
    /// told that it was cancelled, and the request comes again.
    pub(crate) fn quiesced<T>(&self, action: impl FnOnce() -> T) -> T {
        self.shared.state_to_be_heard().is_held = true;
        let cancelled = self.memory.cancel_waits();
        let mut state = self.shared.state();
        while state.is_busy {
            state = self.shared.wait(state);
        }
        drop(state);
        let done = action();
        drop(cancelled);
        self.shared.state().is_held = false;
        self.shared.changed.notify_all();
        done
    }

    /// Whether requests are handled.
    pub(crate) fn is_stopped(&self) -> bool {
        self.shared.state().is_stopped
    }

    /// Ends what is under way and begins nothing more, or goes on.
    pub(crate) fn set_stopped(&self, stopped: bool) {
        self.shared.state_to_be_heard().is_stopped = stopped;
        match stopped {
            true => self.quiesced(|| ()),
            false => self.shared.changed.notify_all(),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.state_to_be_heard().is_ending = true;
        self.shared.changed.notify_all();
        let _cancelled = self.memory.cancel_waits();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
