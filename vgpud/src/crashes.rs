//! How often a vGPU's workers have ended by themselves of late: when to give up.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long one counts, by a clock that nobody sets, and that stands while the host sleeps.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);

/// The ends of late.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Crashes(VecDeque<Instant>);

impl Crashes {
    /// Takes note of one: how many there were of late, with this one.
    pub(crate) fn note(&mut self, now: Instant) -> usize {
        self.0
            .retain(|&at| now.saturating_duration_since(at) < WINDOW);
        self.0.push_back(now);
        self.0.len()
    }

    /// How many there were when one was noted last.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Begins anew: an administrator has started it.
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_minute_old_counts_no_more() {
        let start = Instant::now();
        let mut crashes = Crashes::default();
        for (seconds, count) in [
            (0, 1),
            (10, 2),
            (59, 3),
            (60, 3),
            (69, 4),
            (70, 4),
            (200, 1),
        ] {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(crashes.note(now), count, "{seconds}");
        }
        crashes.forget();
        assert_eq!(crashes.note(start), 1);
    }
}
