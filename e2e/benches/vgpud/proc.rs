//! What a process has used of its CPUs, as `/proc` tells.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::thread::Pid;

/// Fields of `stat` counted from the one behind the name, which is the process's state.
const UTIME: usize = 11;
const STIME: usize = 12;
const PROCESSOR: usize = 36;

/// What all threads of a process have used since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuUse {
    /// `utime` and `stime`: hundredths of a second.
    pub(crate) ticks: u64,
    /// Time on a CPU, to the nanosecond; 0 where the kernel does not count it.
    pub(crate) run_ns: u64,
    /// Times that a thread went to sleep.
    pub(crate) voluntary_switches: u64,
}

impl CpuUse {
    /// What the process `pid` has used.
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let mut total = Self {
            ticks: stat(&process, UTIME)? + stat(&process, STIME)?,
            ..Self::default()
        };
        for thread in threads(pid)? {
            total.run_ns += run_ns(&thread);
            total.voluntary_switches += voluntary_switches(&thread)?;
        }
        Ok(total)
    }

    /// What was used since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            ticks: self.ticks - earlier.ticks,
            run_ns: self.run_ns - earlier.run_ns,
            voluntary_switches: self.voluntary_switches - earlier.voluntary_switches,
        }
    }
}

/// The CPU on which the busiest thread of `pid` runs, or ran last.
pub(crate) fn busiest_cpu(pid: u32) -> anyhow::Result<usize> {
    let busiest = threads(pid)?.into_iter().max_by_key(|path| run_ns(path));
    let cpu = stat(&busiest.context("no threads")?, PROCESSOR)?;
    Ok(usize::try_from(cpu)?)
}

/// The ids of the threads of `pid`.
pub(crate) fn thread_ids(pid: u32) -> anyhow::Result<Vec<Pid>> {
    let id = |path: &PathBuf| Pid::from_raw(path.file_name()?.to_str()?.parse().ok()?);
    Ok(threads(pid)?.iter().filter_map(id).collect())
}

/// Bytes of its own that a process has in memory: what it shares does not count.
pub(crate) fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let text = read(Path::new(&format!("/proc/{pid}/status")))?;
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .context("no RssAnon in status")?;
    Ok(kib.trim().parse::<u64>()? << 10)
}

fn threads(pid: u32) -> anyhow::Result<Vec<PathBuf>> {
    let path = format!("/proc/{pid}/task");
    let threads = fs::read_dir(&path).with_context(|| format!("cannot read {path}"))?;
    Ok(threads.flatten().map(|entry| entry.path()).collect())
}

fn stat(of: &Path, field: usize) -> anyhow::Result<u64> {
    let text = read(&of.join("stat"))?;
    // The name before it is in brackets, and may hold anything.
    let (_, fields) = text.rsplit_once(") ").context("no name in stat")?;
    let value = fields.split(' ').nth(field).context("a short stat")?;
    Ok(value.trim().parse()?)
}

fn run_ns(thread: &Path) -> u64 {
    let text = fs::read_to_string(thread.join("schedstat")).unwrap_or_default();
    let first = text.split(' ').next().unwrap_or_default();
    first.parse().unwrap_or(0)
}

fn voluntary_switches(thread: &Path) -> anyhow::Result<u64> {
    let text = read(&thread.join("status"))?;
    let count = text
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
        .context("no switches in status")?;
    Ok(count.trim().parse()?)
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
