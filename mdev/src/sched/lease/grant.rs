//! The lease as words: written by the daemon alone, read whole or not at all.
//!
//! A sequence lock: the first word is odd while the others change. Readers never wait for a writer;
//! one that died while it wrote leaves an odd number, and readers with what they knew before.

use super::super::units::{Nanos, Time};
use super::Lease;
use super::sync::{AtomicU64, Ordering, fence};

/// How often a reader tries. A writer is at it for nanoseconds and comes back after milliseconds,
/// so who fails that often reads a page that is not a daemon's.
#[cfg(not(loom))]
const TRIES: u32 = 8;
/// Each try multiplies the orders that loom goes through.
#[cfg(loom)]
const TRIES: u32 = 1;

/// The words of a grant, in the order they have in the page.
#[derive(Debug)]
#[repr(C)]
pub struct GrantWords {
    sequence: AtomicU64,
    /// The engine in the upper half, the depth in the lower one.
    engine_depth: AtomicU64,
    budget: AtomicU64,
    period: AtomicU64,
    expiry: AtomicU64,
    /// Not part of the lease: others wait, so whoever has nothing to do says so.
    contended: AtomicU64,
    /// Not part of the lease: the number of a job that is to end.
    cancelled: AtomicU64,
}

impl Default for GrantWords {
    /// As a new page is: no lease.
    fn default() -> Self {
        Self {
            sequence: AtomicU64::new(0),
            engine_depth: AtomicU64::new(0),
            budget: AtomicU64::new(0),
            period: AtomicU64::new(0),
            expiry: AtomicU64::new(0),
            contended: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
        }
    }
}

impl GrantWords {
    /// A number that is another one whenever the lease may be.
    pub fn sequence(&self) -> u64 {
        self.sequence.load(Ordering::Acquire)
    }

    /// Whether others wait for the engine.
    pub fn is_contended(&self) -> bool {
        self.contended.load(Ordering::Relaxed) != 0
    }

    /// For the daemon: whether others wait.
    pub fn set_contended(&self, is_contended: bool) {
        self.contended.store(is_contended.into(), Ordering::Relaxed);
    }

    /// The number of the job that is to end before its time; 0 for none.
    pub fn cancelled(&self) -> u64 {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// For the daemon: that job is to end.
    pub fn cancel(&self, job: u64) {
        self.cancelled.store(job, Ordering::Relaxed);
    }

    /// The lease and its sequence; `None` if it is being written, or if that is no lease.
    pub fn read(&self) -> Option<(u64, Lease)> {
        (0..TRIES).find_map(|_| self.read_once()).flatten()
    }

    /// `None` if the words changed meanwhile.
    fn read_once(&self) -> Option<Option<(u64, Lease)>> {
        let before = self.sequence.load(Ordering::Acquire);
        let words = [&self.engine_depth, &self.budget, &self.period, &self.expiry];
        let [engine_depth, budget, period, expiry] = words.map(|w| w.load(Ordering::Relaxed));
        // The loads above are not moved below the one that follows.
        fence(Ordering::Acquire);
        let after = self.sequence.load(Ordering::Relaxed);
        if before != after || before % 2 == 1 {
            return None;
        }
        let lease = Lease::new(
            (engine_depth >> 32) as u32,
            engine_depth as u32,
            Nanos(budget),
            Nanos(period),
            Time(expiry),
        );
        Some(lease.map(|lease| (before, lease)))
    }
}

/// The one who writes a grant. What it has written it knows, and does not read back: a worker that
/// was broken into may have changed it.
#[derive(Debug)]
pub struct Granter {
    sequence: u64,
}

impl Granter {
    /// Goes on from whatever is in the page, be it of a daemon that died while it wrote.
    pub fn new(words: &GrantWords) -> Self {
        let found = words.sequence.load(Ordering::Relaxed);
        Self {
            sequence: found & !1,
        }
    }

    /// Leaves word of a lease.
    pub fn grant(&mut self, words: &GrantWords, lease: &Lease) {
        let odd = self.sequence.wrapping_add(1);
        words.sequence.store(odd, Ordering::Relaxed);
        // The stores below are not moved above the one before.
        fence(Ordering::Release);
        let engine_depth = u64::from(lease.engine) << 32 | u64::from(lease.depth);
        words.engine_depth.store(engine_depth, Ordering::Relaxed);
        words.budget.store(lease.budget.0, Ordering::Relaxed);
        words.period.store(lease.period.0, Ordering::Relaxed);
        words.expiry.store(lease.expiry.0, Ordering::Relaxed);
        self.sequence = self.sequence.wrapping_add(2);
        words.sequence.store(self.sequence, Ordering::Release);
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lease() -> Lease {
        Lease::new(3, 4, Nanos(5), Nanos(6), Time(7)).unwrap()
    }

    #[test]
    fn a_new_page_has_no_lease() {
        assert_eq!(GrantWords::default().read(), None);
    }

    #[test]
    fn a_lease_is_read_as_it_was_written_and_seen_to_be_new() {
        let words = GrantWords::default();
        let mut granter = Granter::new(&words);
        granter.grant(&words, &lease());
        let (first, read) = words.read().unwrap();
        assert_eq!((read, words.sequence()), (lease(), first));
        granter.grant(&words, &lease());
        assert_ne!(words.sequence(), first);
    }

    #[test]
    fn a_daemon_that_died_while_it_wrote_leaves_no_lease_and_the_next_one_goes_on() {
        let words = GrantWords::default();
        Granter::new(&words).grant(&words, &lease());
        words.sequence.fetch_add(1, Ordering::Relaxed);
        words.budget.store(0, Ordering::Relaxed);
        assert_eq!(words.read(), None);
        Granter::new(&words).grant(&words, &lease());
        assert_eq!(words.read().map(|(_, lease)| lease), Some(lease()));
    }

    proptest! {
        #[test]
        fn whatever_is_in_the_page_is_a_sound_lease_or_none(words in any::<[u64; 5]>()) {
            let [sequence, engine_depth, budget, period, expiry] = words.map(AtomicU64::new);
            let words = GrantWords {
                sequence, engine_depth, budget, period, expiry, ..GrantWords::default()
            };
            if let Some((_, l)) = words.read() {
                let again = Lease::new(l.engine, l.depth, l.budget, l.period, l.expiry);
                prop_assert_eq!(again, Some(l));
            }
            let mut granter = Granter::new(&words);
            granter.grant(&words, &lease());
            prop_assert_eq!(words.read().map(|(_, lease)| lease), Some(lease()));
        }
    }
}
