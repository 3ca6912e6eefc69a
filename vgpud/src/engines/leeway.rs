//! How long one may keep an engine from others without using it.
//!
//! Between two jobs, and until a lease is known to be over, nobody uses the engine: threads take time
//! to wake. That is nobody's fault, and on a machine with CPUs to spare it is a few hundredths of the
//! time. Who keeps the engine for longer is charged for it as if it had used it: it says that it has a
//! job and sleeps, or comes for a moment so often that the others get to nothing.

use mdev::sched::{Nanos, Time};

/// What is forgiven: a twentieth of the time, and so much of it at once.
const PART: u64 = 20;
const MOST: Nanos = Nanos::from_millis(10);

/// What is forgiven one who shares an engine.
#[derive(Debug)]
pub(super) struct Leeway {
    at: Time,
    left: Nanos,
}

impl Leeway {
    pub(super) fn new(now: Time) -> Self {
        Self {
            at: now,
            left: MOST,
        }
    }

    /// How much of what was kept and not used is to be charged.
    pub(super) fn exceed(&mut self, now: Time, unused: Nanos) -> Nanos {
        let more = now.since(self.at).0 / PART;
        let left = self.left.0.saturating_add(more).min(MOST.0);
        self.at = self.at.max(now);
        self.left = Nanos(left.saturating_sub(unused.0));
        Nanos(unused.0.saturating_sub(left))
    }
}

/// How long a lease was kept while others waited, and what was used meanwhile.
#[derive(Debug, Default)]
pub(super) struct Kept {
    before: Nanos,
    since: Option<(Time, Nanos)>,
    used: Nanos,
}

impl Kept {
    /// Others wait, or nobody does, from now on; so much was used of the lease by now.
    pub(super) fn note(&mut self, now: Time, others_wait: bool, used: Nanos) {
        match (self.since, others_wait) {
            (None, true) => self.since = Some((now, used)),
            (Some((since, used_before)), false) => {
                self.before = Nanos(self.before.0 + now.since(since).0);
                self.used = Nanos(self.used.0 + used.0.saturating_sub(used_before.0));
                self.since = None;
            }
            (None, false) | (Some(_), true) => {}
        }
    }

    /// How much of it was not used, the lease being over.
    pub(super) fn unused(mut self, now: Time, used: Nanos) -> Nanos {
        self.note(now, false, used);
        Nanos(self.before.0.saturating_sub(self.used.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Nanos {
        Nanos::from_millis(millis)
    }

    #[test]
    fn a_twentieth_of_the_time_is_forgiven_and_the_rest_is_not() {
        let mut now = Time(1_000_000);
        let mut leeway = Leeway::new(now);
        assert_eq!(leeway.exceed(now, ms(10)), ms(0));
        assert_eq!(leeway.exceed(now, ms(1)), ms(1));
        now = now + ms(100);
        assert_eq!(leeway.exceed(now, ms(7)), ms(2));
        now = now + ms(3_600_000);
        assert_eq!(leeway.exceed(now, ms(11)), ms(1), "it is not saved up");
    }

    #[test]
    fn only_what_others_waited_for_counts_and_what_was_used_then_does_not() {
        let at = |millis| Time(0) + ms(millis);
        let mut kept = Kept::default();
        kept.note(at(0), false, ms(0));
        // It has used five alone; of the seven after that two.
        kept.note(at(6), true, ms(5));
        kept.note(at(7), true, ms(5));
        kept.note(at(13), false, ms(7));
        kept.note(at(20), true, ms(14));
        assert_eq!(kept.unused(at(21), ms(15)), ms(5));
        assert_eq!(Kept::default().unused(at(9), ms(0)), ms(0));
    }
}
