//! When the picture is looked at.

use std::time::{Duration, Instant};

/// At least this lies between two looks, once it has not changed for a while.
const QUIET: Duration = Duration::from_millis(100);

/// So many looks that showed nothing new are a while.
const QUIET_AFTER: u32 = 15;

/// When the next look is.
#[derive(Debug)]
pub(super) struct Pace {
    /// Between two looks, while the picture changes.
    apart: Duration,
    last: Option<Instant>,
    unchanged: u32,
    /// Whether the next look shows something new, whatever it finds.
    is_other: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self::new(QUIET)
    }
}

impl Pace {
    pub(super) fn new(apart: Duration) -> Self {
        Self {
            apart,
            last: None,
            unchanged: 0,
            is_other: true,
        }
    }

    /// Between two looks, while the picture changes.
    pub(super) fn apart(&self) -> Duration {
        self.apart
    }

    /// Whether the next look shows something new, whatever it finds.
    pub(super) fn is_other(&self) -> bool {
        self.is_other
    }

    pub(super) fn next(&self) -> Instant {
        let apart = if self.unchanged < QUIET_AFTER {
            self.apart
        } else {
            self.apart.max(QUIET)
        };
        self.last.map_or_else(Instant::now, |last| last + apart)
    }

    /// Has the next look be soon, and count as one that shows something new.
    pub(super) fn hurry(&mut self) {
        self.unchanged = 0;
        self.is_other = true;
    }

    pub(super) fn looked(&mut self, has_changed: bool) {
        self.last = Some(Instant::now());
        self.is_other = false;
        self.unchanged = if has_changed {
            0
        } else {
            self.unchanged.saturating_add(1)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_keep_their_distance_however_often_another_picture_is_shown() {
        let mut pace = Pace {
            apart: Duration::from_millis(33),
            last: None,
            unchanged: 0,
            is_other: true,
        };
        assert!(pace.next() <= Instant::now());
        let apart = |pace: &Pace| pace.next().duration_since(pace.last.unwrap());
        pace.looked(true);
        pace.hurry();
        assert_eq!(apart(&pace), pace.apart);
        for _ in 0..QUIET_AFTER {
            pace.looked(false);
        }
        assert_eq!(apart(&pace), QUIET);
        pace.hurry();
        assert_eq!(apart(&pace), pace.apart);
    }
}
