//! What a worker has used, as a word: written by the worker alone, believed within bounds.

use super::super::decision::Class;
use super::super::units::{Nanos, Time};
use super::sync::{AtomicU64, Ordering, fence};

/// The words of usage, in the order they have in the page. Each is read alone.
#[derive(Debug)]
#[repr(C)]
pub struct UsageWords {
    /// Nanoseconds of the engine that were used since the page was new. It only grows.
    used: AtomicU64,
    /// The number of the job that runs; 0 for none.
    running: AtomicU64,
    /// When it began.
    begun: AtomicU64,
    /// Jobs of each class that wait.
    queued: [AtomicU64; 2],
    /// How many have ended.
    jobs: AtomicU64,
    /// How long those that have begun had waited, in nanoseconds.
    waited: AtomicU64,
}

impl Default for UsageWords {
    /// As a new page is.
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            used: zero(),
            running: zero(),
            begun: zero(),
            queued: [zero(), zero()],
            jobs: zero(),
            waited: zero(),
        }
    }
}

impl UsageWords {
    /// For the worker: all that it has used so far.
    pub(super) fn set(&self, used: Nanos) {
        self.used.store(used.0, Ordering::Release);
    }

    /// For the worker: a job begins, if the lease turns out to be there still. What it looks at
    /// afterwards is not older than this.
    pub fn announce(&self, job: u64, now: Time) {
        self.begun.store(now.0, Ordering::Relaxed);
        self.running.store(job, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// For the worker: nothing runs. What it looks at afterwards is not older than this.
    pub fn retract(&self) {
        self.running.store(0, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// For the worker: so many jobs wait.
    pub fn set_queued(&self, class: Class, jobs: u64) {
        self.queued[class as usize].store(jobs, Ordering::Release);
    }

    /// For the worker: what it has done so far.
    pub fn set_done(&self, jobs: u64, waited: Nanos) {
        self.jobs.store(jobs, Ordering::Relaxed);
        self.waited.store(waited.0, Ordering::Relaxed);
    }

    /// The job that runs, and since when. To be asked after a lease was taken back: a worker that
    /// says that none runs will find it taken back before it begins one.
    pub fn running(&self) -> Option<(u64, Time)> {
        fence(Ordering::SeqCst);
        let job = self.running.load(Ordering::Acquire);
        (job != 0).then(|| (job, Time(self.begun.load(Ordering::Relaxed))))
    }

    /// How many jobs wait.
    pub fn queued(&self, class: Class) -> u64 {
        self.queued[class as usize].load(Ordering::Acquire)
    }

    /// How many jobs have ended, and how long those that have begun had waited.
    pub fn done(&self) -> (u64, Nanos) {
        let waited = Nanos(self.waited.load(Ordering::Relaxed));
        (self.jobs.load(Ordering::Relaxed), waited)
    }

    fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }
}

/// What a worker says it has used since it was asked last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported {
    /// How much, never more than it can have been.
    pub used: Nanos,
    /// Whether that is what it said. One that says less than before, or more than there was, is
    /// broken or lies, and is to be charged by what the daemon measures.
    pub is_sound: bool,
}

/// The daemon's side: what it has heard so far.
#[derive(Debug, Default)]
pub struct UsageReader {
    heard: u64,
}

impl UsageReader {
    /// Goes on from what a page says, for a daemon that finds a worker at work.
    pub fn adopt(words: &UsageWords) -> Self {
        Self {
            heard: words.used(),
        }
    }

    /// What was used since the last time, of which there was no more than `most`: the time that has
    /// passed on all places of the engine.
    pub fn read(&mut self, words: &UsageWords, most: Nanos) -> Reported {
        let said = words.used();
        let since = said.checked_sub(self.heard);
        self.heard = said;
        let used = Nanos(since.unwrap_or(0)).min(most);
        Reported {
            used,
            is_sound: since == Some(used.0),
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_says_is_believed_within_bounds() {
        let words = UsageWords::default();
        let mut reader = UsageReader::default();
        for (says, most, used, is_sound) in [
            (0, 10, 0, true),
            (10, 10, 10, true),
            (25, 10, 10, false),
            (26, 10, 1, true),
            (20, 10, 0, false),
            (22, 10, 2, true),
            (u64::MAX, 10, 10, false),
            (3, 10, 0, false),
        ] {
            words.set(Nanos(says));
            let used = Nanos(used);
            let reported = reader.read(&words, Nanos(most));
            assert_eq!(reported, Reported { used, is_sound }, "{says}");
        }
    }

    #[test]
    fn a_new_daemon_does_not_charge_what_the_last_one_has_charged() {
        let words = UsageWords::default();
        words.set(Nanos(1000));
        let mut reader = UsageReader::adopt(&words);
        words.set(Nanos(1003));
        assert_eq!(reader.read(&words, Nanos(50)).used, Nanos(3));
    }
}
