//! Which CPUs a thread, and what it starts, may run on, and by which rules.

use std::fs;
use std::io;
use std::process::Command;

use anyhow::Context;
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

/// The CPUs of a measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpus {
    /// Where the client runs.
    pub(crate) client: usize,
    /// Another one, if there is one: of another core, if there is one.
    pub(crate) other: Option<usize>,
}

impl Cpus {
    /// Takes the first two that we may use.
    pub(crate) fn choose() -> anyhow::Result<Self> {
        let set = sched_getaffinity(None).context("cannot ask for our CPUs")?;
        let mut usable = (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu));
        let client = usable.next().context("no CPU to use")?;
        let rest: Vec<usize> = usable.collect();
        let core = core_of(client);
        let other = rest
            .iter()
            .find(|cpu| core_of(**cpu) != core)
            .or(rest.first());
        Ok(Self {
            client,
            other: other.copied(),
        })
    }
}

/// The CPUs that share a core with `cpu`, as the kernel lists them.
fn core_of(cpu: usize) -> String {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    fs::read_to_string(path).unwrap_or_else(|_| cpu.to_string())
}

/// Lets the thread `id` run on `cpus` alone.
pub(crate) fn hold_thread(id: Pid, cpus: &[usize]) -> io::Result<()> {
    Ok(sched_setaffinity(Some(id), &set_of(cpus))?)
}

fn set_of(cpus: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu);
    }
    set
}

/// Holds this thread to some CPUs, and what it starts for good. Dropping it lets the thread go
/// where it could before.
#[must_use = "it ends when it is dropped"]
pub(crate) struct Pinned {
    before: CpuSet,
}

impl Pinned {
    pub(crate) fn to(cpus: &[usize]) -> io::Result<Self> {
        let before = sched_getaffinity(None)?;
        sched_setaffinity(None, &set_of(cpus))?;
        Ok(Self { before })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // It was allowed before. If it is not any more, the kernel has moved us already.
        let _ = sched_setaffinity(None, &self.before);
    }
}

/// Puts this thread, the first of the process, under `SCHED_BATCH`, and what it starts for good.
/// Whom it wakes then does not run before it sleeps. Dropping it brings the usual rules back.
#[must_use = "it ends when it is dropped"]
pub(crate) struct Batch(());

impl Batch {
    pub(crate) fn begin() -> io::Result<Self> {
        chrt("--batch").map(|()| Self(()))
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // Only the way to SCHED_BATCH could be barred, and that was gone.
        let _ = chrt("--other");
    }
}

/// The system call has no safe wrapper; the program is in Debian's essential `util-linux`.
fn chrt(policy: &str) -> io::Result<()> {
    let own = std::process::id().to_string();
    let status = Command::new("chrt")
        .args([policy, "--pid", "0", &own])
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("chrt {policy} ended: {status}")))
    }
}
