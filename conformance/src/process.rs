//! What a server costs: its open descriptors and its memory, as `/proc` tells.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What a process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Open descriptors.
    pub fds: usize,
    /// Resident memory, in KiB.
    pub rss_kib: u64,
}

/// Looks at a process.
pub fn usage(pid: u32) -> std::io::Result<Usage> {
    let fds = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let rss_kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0);
    Ok(Usage { fds, rss_kib })
}

/// The process among `pid` and its descendants that listens at `socket`; `pid` if none is found.
pub fn serving(pid: u32, socket: &Path) -> u32 {
    let Some(inode) = listening_inode(socket) else {
        return pid;
    };
    let name = format!("socket:[{inode}]");
    let mut left = vec![pid];
    // The newest first: a parent that keeps the listener waits, and its child serves.
    let mut found = pid;
    while let Some(pid) = left.pop() {
        if holds(pid, &name) {
            found = pid;
        }
        left.extend(children(pid));
    }
    found
}

fn listening_inode(socket: &Path) -> Option<u64> {
    fs::metadata(socket).ok()?.ino();
    let table = fs::read_to_string("/proc/net/unix").ok()?;
    table.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let name = fields.get(7)?;
        (Path::new(name) == socket && *fields.get(3)? == "00010000")
            .then(|| fields.get(6)?.parse().ok())?
    })
}

fn holds(pid: u32, name: &str) -> bool {
    let Ok(fds) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    let mut links = fds.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
    links.any(|link| link == Path::new(name))
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok())
        .flat_map(|children| {
            let pids: Vec<u32> = children
                .split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect();
            pids
        })
        .collect()
}
