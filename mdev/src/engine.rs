//! Time on an engine that several devices share: what a device asks before each job.
//!
//! - [`EngineLease`]: the handle that a device has in [`Services`](crate::Services).
//! - [`Ticket`]: a job that waits. [`Turn`]: one that runs, and is charged by measured time.
//! - `lender`: whoever grants time, as this process knows it: a socket and two pages of
//!   [`sched::lease`](crate::sched::lease).
//! - `state`: what is left of the lease, and what runs.
//!
//! While a lease lasts, a job costs two looks at the clock and no system call. Without one its
//! thread sleeps until there is, or until it is [interrupted](EngineLease::interrupt). Where nobody
//! grants time (`vgpu run`, tests) every job runs at once, and costs nothing here.
//!
//! **If the lender is gone** a worker goes on at the rate of its last lease: nobody stops, and nobody
//! is freed of a cap.

mod lender;
mod state;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::sched::{Class, Nanos, Time};
use lender::Lender;
use state::{NotYet, State};

/// The time now, on the clock that a lender has as well: `CLOCK_MONOTONIC`.
pub fn now() -> Time {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Time(now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs())
}

/// A device's right to an engine. Clones speak of the same.
///
/// By default there is no scheduler: every job runs at once.
#[derive(Clone, Debug, Default)]
pub struct EngineLease(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Wakes those who wait: they are interrupted, or there is another lender.
    wake: OwnedFd,
    /// How many [`Interrupt`]s there are.
    interrupts: AtomicU32,
    /// How many lenders there have been.
    lenders: AtomicU32,
}

/// The job is not to wait for its turn any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the wait for the engine was interrupted")]
pub struct Interrupted;

/// As long as it is there, no job begins, and those that run are asked to end.
#[derive(Debug)]
pub struct Interrupt(EngineLease);

impl EngineLease {
    /// A right that somebody is to grant: until then no job begins.
    pub fn awaited() -> io::Result<Self> {
        // The first look at the clock asks the kernel where to look, which the sandbox will forbid.
        now();
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Some(Arc::new(Shared {
            state: Mutex::default(),
            wake,
            interrupts: AtomicU32::new(0),
            lenders: AtomicU32::new(0),
        }))))
    }

    /// Whether jobs may have to wait.
    pub fn is_scheduled(&self) -> bool {
        self.0.is_some()
    }

    /// From now on this one grants time: the end of a socket pair, the page that it writes and the
    /// one that it reads. What runs goes on. An error if there is no scheduler here.
    pub fn connect(&self, socket: OwnedFd, grant: OwnedFd, usage: OwnedFd) -> io::Result<()> {
        let shared = self.0.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let lender = Lender::open(socket, grant, usage)?;
        let mut state = shared.state();
        state.connect(lender, now());
        shared.lenders.fetch_add(1, Ordering::SeqCst);
        drop(state);
        shared.wake();
        Ok(())
    }

    /// A job waits from now on.
    pub fn submit(&self, class: Class) -> Ticket {
        if let Some(shared) = &self.0 {
            shared.state().queue(class, 1);
        }
        Ticket {
            shared: self.0.clone(),
            class,
            since: self.0.as_ref().map(|_| now()),
        }
    }

    /// Has no job begin, and asks those that run to end, until what is given back is dropped. For a
    /// reset, or a device that is to stand still.
    pub fn interrupt(&self) -> Interrupt {
        if let Some(shared) = &self.0 {
            shared.interrupts.fetch_add(1, Ordering::SeqCst);
            shared.wake();
        }
        Interrupt(self.clone())
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        if let Some(shared) = &self.0.0 {
            shared.interrupts.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // Full or not, it can be read.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    fn is_interrupted(&self) -> bool {
        self.interrupts.load(Ordering::SeqCst) > 0
    }

    /// Sleeps until something has changed.
    fn sleep(&self, wait: &NotYet) {
        let limit = wait.until.map(|until| until.since(now()));
        let limit = limit.map(|Nanos(nanos)| Timespec {
            tv_sec: (nanos / 1_000_000_000) as i64,
            tv_nsec: (nanos % 1_000_000_000) as i64,
        });
        let lender = wait.lender.as_ref().filter(|lender| !lender.is_gone());
        let mut fds = vec![PollFd::new(&self.wake, PollFlags::IN)];
        fds.extend(lender.map(|lender| PollFd::new(lender.socket(), PollFlags::IN)));
        // An interrupted wait is over early, and the next one begins.
        let _ = poll(&mut fds, limit.as_ref());
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        if let Some(lender) = lender {
            lender.hear();
        }
    }
}

/// A job that waits for its turn. Dropping it takes it back.
#[derive(Debug)]
pub struct Ticket {
    shared: Option<Arc<Shared>>,
    class: Class,
    since: Option<Time>,
}

impl Ticket {
    /// Waits for the turn. An error if it is not to come.
    pub fn begin(self) -> Result<Turn, Interrupted> {
        let Some(shared) = &self.shared else {
            return Ok(Turn(None));
        };
        loop {
            if shared.is_interrupted() {
                return Err(Interrupted);
            }
            let since = self.since.unwrap_or_default();
            let mut state = shared.state();
            let begun = state.begin(now(), since);
            let lenders = shared.lenders.load(Ordering::SeqCst);
            drop(state);
            match begun {
                Ok((job, lender)) => {
                    let turn = Turn(Some(Running {
                        shared: Arc::clone(shared),
                        job,
                        lender,
                        lenders,
                    }));
                    // Only now: whoever grants time sees the job either wait or run.
                    drop(self);
                    return Ok(turn);
                }
                Err(wait) => shared.sleep(&wait),
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.state().queue(self.class, -1);
        }
    }
}

/// A job that runs. Its end is that of this value.
#[derive(Debug)]
pub struct Turn(Option<Running>);

#[derive(Debug)]
struct Running {
    shared: Arc<Shared>,
    job: u64,
    /// The one under which it began, and how many there had been: as long as there is no other, what
    /// it says is seen without a lock.
    lender: Arc<Lender>,
    lenders: u32,
}

impl Turn {
    /// Whether the job is to end before its time: it has run for too long, or the device is to stand
    /// still.
    pub fn is_cancelled(&self) -> bool {
        self.0.as_ref().is_some_and(|running| {
            let Running { shared, job, .. } = running;
            let is_same = shared.lenders.load(Ordering::SeqCst) == running.lenders;
            let is_cancelled = match is_same {
                true => running.lender.grant().cancelled() == *job,
                false => shared.state().is_cancelled(*job),
            };
            is_cancelled || shared.is_interrupted()
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(running) = &self.0 {
            running.shared.state().end(now());
        }
    }
}
