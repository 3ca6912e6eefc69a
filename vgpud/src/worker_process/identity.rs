//! How a process is told from every other, also one that gets its number later.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::records::WorkerIdentity;

/// The identity of a process that lives now.
pub(crate) fn of(pid: u32, boot_id: &str) -> io::Result<WorkerIdentity> {
    Ok(WorkerIdentity {
        pid,
        start_ticks: start_ticks(pid)?,
        boot_id: boot_id.to_owned(),
    })
}

/// A descriptor of the process, if it still lives.
pub(crate) fn open(identity: &WorkerIdentity, boot_id: &str) -> Option<OwnedFd> {
    if identity.boot_id != boot_id {
        return None;
    }
    let pidfd = open_pid(identity.pid).ok()?;
    // Asked after it was opened: from here on the number cannot pass to another.
    let is_it = start_ticks(identity.pid).ok()? == identity.start_ticks;
    (is_it && !has_ended(&pidfd)).then_some(pidfd)
}

/// Whether a process has ended, though nobody may have reaped it yet.
fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// A descriptor of the process that has this number now.
pub(crate) fn open_pid(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// Tells this boot from every other.
pub(crate) fn boot_id() -> io::Result<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(id.trim().to_owned())
}

fn start_ticks(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let field = field(&stat, 22).and_then(|field| field.parse().ok());
    field.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// A field of `/proc/PID/stat`, counted as in proc_pid_stat(5). The second, the program's name,
/// may hold anything: what counts is the last parenthesis.
pub(crate) fn field(stat: &str, number: usize) -> Option<&str> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(number.checked_sub(3)?)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_program_may_be_called_anything() {
        let stat = "7 (a) R (b) S 1 7 7";
        assert_eq!(field(stat, 3), Some("S"));
        assert_eq!(field(stat, 4), Some("1"));
        assert_eq!(field(stat, 2), None);
        assert_eq!(field(stat, 9), None);
        assert_eq!(field("", 4), None);
    }

    #[test]
    fn only_the_very_process_is_opened() {
        let boot = boot_id().unwrap();
        let own = of(std::process::id(), &boot).unwrap();
        assert!(open(&own, &boot).is_some());
        assert!(open(&own, "another boot").is_none());
        let earlier = WorkerIdentity {
            start_ticks: own.start_ticks - 1,
            ..own
        };
        assert!(open(&earlier, &boot).is_none());
    }

    #[test]
    fn a_process_that_has_ended_is_not_opened_though_nobody_reaped_it() {
        let boot = boot_id().unwrap();
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let identity = of(child.id(), &boot).unwrap();
        assert!(open(&identity, &boot).is_some());
        child.kill().unwrap();
        let pidfd = open_pid(child.id()).unwrap();
        poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None).unwrap();
        assert!(open(&identity, &boot).is_none());
        child.wait().unwrap();
    }
}
