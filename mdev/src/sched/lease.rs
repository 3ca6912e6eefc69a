//! Time that a worker may spend on an engine without asking: a lease, as words in shared pages.
//!
//! A decision of [`Scheduler`](super::Scheduler) costs a message there and one back, too much for
//! jobs of microseconds. So the daemon leaves word of how much time a worker has until when, and
//! the worker spends it with loads and stores alone.
//!
//! - [`grant`]: a page that the daemon alone writes: the lease. The worker may map it read-only.
//! - [`usage`]: a page that the worker alone writes: what it has used, which the daemon believes
//!   within bounds and holds against what it measures itself.
//! - [`spender`]: the worker's side: whether a job may begin, and what is left.
//!
//! - [`page`]: a file of memory with such words, mapped.
//!
//! Each word has one writer. A worker *announces* a job before it looks whether its lease is there
//! still, and the daemon takes a lease back before it looks whether a job runs: one of them sees the
//! other, so that no job begins under a lease that is somebody else's by then.

pub mod grant;
#[cfg(loom)]
mod loom_tests;
pub mod page;
pub mod spender;
mod sync;
pub mod usage;

pub use grant::{GrantWords, Granter};
pub use page::Page;
pub use spender::{Spender, Wait};
pub use usage::{Reported, UsageReader, UsageWords};

use super::scheduler::MAX_DEPTH;
use super::units::{Nanos, Time};

/// Longest period of a lease: that of two milliseconds at the least share there is, a thousandth.
pub const MAX_PERIOD: Nanos = Nanos::from_millis(2000);

/// What a worker may do with an engine.
///
/// # Invariants
///
/// At least one place and at most 1024 of them; a period of at least 1 ns and at most
/// [`MAX_PERIOD`]; no more budget than all its places have in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    engine: u32,
    depth: u32,
    budget: Nanos,
    period: Nanos,
    expiry: Time,
}

impl Lease {
    /// `budget` of the engine in each `period`, on up to `depth` places at once, the first period
    /// ending at `expiry`. A budget of nothing takes a lease back. `None` if that is no lease.
    pub fn new(
        engine: u32,
        depth: u32,
        budget: Nanos,
        period: Nanos,
        expiry: Time,
    ) -> Option<Self> {
        let is_sound = (1..=MAX_DEPTH).contains(&depth)
            && (1..=MAX_PERIOD.0).contains(&period.0)
            && budget.0 <= period.0 * u64::from(depth);
        is_sound.then_some(Self {
            engine,
            depth,
            budget,
            period,
            expiry,
        })
    }

    /// Which engine of the parent.
    pub fn engine(&self) -> u32 {
        self.engine
    }

    /// How many jobs may run at once.
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// How much may be used in a period.
    pub fn budget(&self) -> Nanos {
        self.budget
    }

    /// How long a budget is for.
    pub fn period(&self) -> Nanos {
        self.period
    }

    /// When the first period ends.
    pub fn expiry(&self) -> Time {
        self.expiry
    }
}
