//! How a process ended that is nobody's child here. Once it is reaped, the kernel tells whoever had
//! a descriptor of it before (`PIDFD_GET_INFO`, since Linux 6.15); until then, its directory does.

#![expect(
    unsafe_code,
    reason = "an ioctl: only its documentation says which type its number goes with"
)]

use std::fs;
use std::os::fd::BorrowedFd;

use rustix::ioctl::{Updater, ioctl, opcode};

use super::identity::field;

/// `struct pidfd_info`, as far as it went when exits were added: `include/uapi/linux/pidfd.h`.
#[repr(C)]
#[derive(Debug, Default)]
struct Info {
    mask: u64,
    cgroup_id: u64,
    /// Numbers of the process, its group and parent, and of its users and groups.
    ids: [u32; 11],
    exit_code: i32,
}

/// `PIDFD_INFO_PID`: the numbers are told, always if it was not reaped.
const INFO_PID: u64 = 1 << 0;

/// `PIDFD_INFO_EXIT`: the exit code is asked for, or told.
const INFO_EXIT: u64 = 1 << 3;

/// `PIDFD_GET_INFO`: `_IOWR(0xFF, 11, struct pidfd_info)`.
const GET_INFO: u32 = opcode::read_write::<Info>(0xFF, 11);

fn ask(pidfd: BorrowedFd<'_>) -> Option<Info> {
    let mut info = Info {
        mask: INFO_PID | INFO_EXIT,
        ..Info::default()
    };
    // SAFETY: the number carries the size of `Info`, which is laid out as the kernel's; the kernel
    // writes no more than that.
    let told = unsafe { ioctl(pidfd, Updater::<GET_INFO, Info>::new(&mut info)) };
    told.ok().map(|()| info)
}

/// The status of a process that has ended, in the form of wait(2).
pub(crate) fn wait_status(pidfd: BorrowedFd<'_>) -> Option<i32> {
    let reaped = |info: &Info| (info.mask & INFO_EXIT != 0).then_some(info.exit_code);
    let before = ask(pidfd)?;
    reaped(&before).or_else(|| {
        let status = zombie_status(*before.ids.first()?);
        // If it was reaped meanwhile, what was read may be another's.
        reaped(&ask(pidfd)?).or(status)
    })
}

/// The same of one that nobody has reaped yet: `exit_code` of proc_pid_stat(5).
fn zombie_status(pid: u32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let is_zombie = field(&stat, 3)? == "Z";
    is_zombie.then(|| field(&stat, 52)?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::process::Command;

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;
    use crate::worker_process::identity;

    #[test]
    fn the_kernels_structure_has_64_bytes() {
        assert_eq!(size_of::<Info>(), 64);
        assert_eq!(GET_INFO, 0xC040_FF0B);
    }

    #[test]
    fn an_end_is_told_before_and_after_it_is_reaped_if_the_kernel_can() {
        for (script, status) in [("exit 3", 3 << 8), ("kill -KILL $$", 9)] {
            let mut child = Command::new("sh").args(["-c", script]).spawn().unwrap();
            let pidfd = identity::open_pid(child.id()).unwrap();
            poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None).unwrap();
            let is_known = ask(pidfd.as_fd()).is_some();
            let told = wait_status(pidfd.as_fd());
            child.wait().unwrap();
            if !is_known {
                eprintln!("NOT RUN: this kernel has no PIDFD_GET_INFO");
                return;
            }
            assert_eq!(told, Some(status), "{script}");
            let told = wait_status(pidfd.as_fd());
            // Kernels before 6.15 do not tell then.
            assert!(told.is_none_or(|told| told == status), "{script}: {told:?}");
        }
    }
}
