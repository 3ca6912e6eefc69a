//! What a worker has used as this daemon sees it: the CPU time of its process, if it has one of its own.

use std::fs;

use mdev::sched::{Nanos, Time};

use crate::proc::TICKS_PER_SECOND;
use crate::worker_process::identity::field;

/// Less than this is not looked at: the kernel counts in hundredths of a second.
const LEAST: Nanos = Nanos::from_millis(100);

const TICK: u64 = 1_000_000_000 / TICKS_PER_SECOND;

/// The CPU time of a process, against what it says.
#[derive(Debug)]
pub(super) struct CpuWatch {
    pid: u32,
    at: Time,
    cpu: Option<Nanos>,
    used: Nanos,
}

impl CpuWatch {
    pub(super) fn new(pid: u32, now: Time) -> Self {
        Self {
            pid,
            at: now,
            cpu: cpu_time(pid),
            used: Nanos(0),
        }
    }

    /// How much more of the CPU it has used than of the engine, by its own word of all that it has
    /// `used`, if that is more than a half of the time: a worker has other things to do as well.
    pub(super) fn check(&mut self, now: Time, used: Nanos) -> Option<Nanos> {
        let passed = now.since(self.at);
        if passed < LEAST {
            return None;
        }
        let cpu = cpu_time(self.pid);
        let excess = excess(
            passed,
            cpu?.0
                .saturating_sub(self.cpu.map_or(u64::MAX, |cpu| cpu.0)),
            used.0.saturating_sub(self.used.0),
        );
        // It is counted from here on, and not the use of a worker that is honest by now.
        let counted = excess.map_or(used.0, |excess| used.0.saturating_add(excess.0));
        (self.at, self.cpu, self.used) = (now, cpu, Nanos(counted));
        excess
    }
}

fn excess(passed: Nanos, cpu: u64, used: u64) -> Option<Nanos> {
    let unsaid = cpu.saturating_sub(used);
    // The kernel's count may be late by a tick at both ends.
    (unsaid > passed.0 / 2 + 2 * TICK).then_some(Nanos(unsaid))
}

/// CPU time of all its threads; `None` if it is gone.
pub(super) fn cpu_time(pid: u32) -> Option<Nanos> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let number = |index| field(&stat, index)?.parse::<u64>().ok();
    let ticks = number(14)?.checked_add(number(15)?)?;
    Some(Nanos(ticks.checked_mul(TICK)?))
}

/// Whether a process stands still, or has ended: what it runs in software does not go on.
pub(super) fn is_standing_still(pid: u32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => matches!(field(&stat, 3), Some("T" | "t" | "Z" | "X")),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_far_more_than_was_said_counts() {
        const MS: u64 = 1_000_000;
        for (passed, cpu, used, unsaid) in [
            (1000, 990, 990, None),
            (1000, 400, 0, None),
            (1000, 500, 0, None),
            (1000, 600, 0, Some(600)),
            (1000, 1000, 100, Some(900)),
            (1000, 300, 900, None),
            (100, 80, 0, Some(80)),
            (100, 60, 0, None),
        ] {
            let found = excess(Nanos(passed * MS), cpu * MS, used * MS);
            assert_eq!(
                found,
                unsaid.map(|ms| Nanos(ms * MS)),
                "{passed} {cpu} {used}"
            );
        }
    }

    #[test]
    fn this_process_does_not_stand_still() {
        let own = std::process::id();
        assert!(!is_standing_still(own));
        assert!(cpu_time(own).is_some());
        assert!(is_standing_still(0));
    }
}
