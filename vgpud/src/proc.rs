//! What `/proc` says of a process.

use std::fs;
use std::io;

use rustix::param::page_size;

use crate::worker_process::identity::field;

/// What a process uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// CPU time, in clock ticks of which there are [`TICKS_PER_SECOND`].
    pub(crate) cpu_ticks: u64,
    /// Bytes of its memory that lie in RAM.
    pub(crate) resident: u64,
    /// The same, where shared memory counts in proportion. The kernel tells that to whoever might
    /// debug the process: of another user's, to those with `CAP_SYS_PTRACE`.
    pub(crate) proportional: Option<u64>,
}

/// `USER_HZ`, which is part of Linux' interface on x86 and Arm.
pub(crate) const TICKS_PER_SECOND: u64 = 100;

/// Looks at a process.
pub(crate) fn usage(pid: u32) -> io::Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    parse(&stat, &rollup).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn parse(stat: &str, rollup: &str) -> Option<Usage> {
    let number = |index| field(stat, index)?.parse::<u64>().ok();
    // rss, which the kernel counts without looking at each page: it may be late.
    let counted = || number(24)?.checked_mul(page_size() as u64);
    Some(Usage {
        // utime and stime.
        cpu_ticks: number(14)?.checked_add(number(15)?)?,
        resident: kilobytes(rollup, "Rss:").or_else(counted)?,
        proportional: kilobytes(rollup, "Pss:"),
    })
}

fn kilobytes(rollup: &str, name: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    number.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_from_its_files() {
        let stat = "7 (a b) S 1 7 7 0 -1 4194560 1 2 3 4 50 25 0 0 20 0 5 0 999 1 3";
        let rollup = "00400000-7fff ---p 0 00:00 0 [rollup]\nRss:   2048 kB\nPss:  1024 kB\n\
                      Pss_Dirty:   5 kB\n";
        let usage = parse(stat, rollup).unwrap();
        assert_eq!(usage.cpu_ticks, 75);
        assert_eq!(
            (usage.resident, usage.proportional),
            (2 << 20, Some(1 << 20))
        );
        assert_eq!(parse("", rollup), None);
        let usage = parse(stat, "").unwrap();
        assert_eq!(usage.resident, 3 * page_size() as u64);
        assert_eq!(usage.proportional, None);
        assert!(super::usage(std::process::id()).unwrap().resident > 0);
    }
}
