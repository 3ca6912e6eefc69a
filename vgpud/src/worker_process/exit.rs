//! How a worker is seen to end, and why it did.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::io::retry_on_intr;
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};

use crate::api::Exit;
use crate::clock;

use super::pidfd_info;

/// How much of a log is looked at for its last line.
const TAIL: u64 = 4096;

/// What worker programs put before their last words.
const PROGRAM: &str = "vgpu-worker: ";

/// What Rust's library adds when an allocation fails; what it said before is what counts.
const ADVICE: &str = "note: run with `RUST_BACKTRACE=";

/// Before what a worker says that took over from another. What is above it are another's words.
pub(crate) const SUCCESSION: &str = "---- another worker takes over ----";

/// After the words of one that did not. What is below it are those of the one that served before.
pub(crate) const NO_SUCCESSION: &str = "---- it does not ----";

/// How a process ended: the two ends of wait(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Exited(i32),
    Killed { signal: i32, dumped: bool },
}

impl End {
    fn of_child(status: &WaitIdStatus) -> Option<Self> {
        if let Some(signal) = status.terminating_signal() {
            let dumped = status.dumped();
            return Some(Self::Killed { signal, dumped });
        }
        status.exit_status().map(Self::Exited)
    }

    /// From the status that wait(2) fills in.
    fn of_status(status: i32) -> Self {
        match status & 0x7F {
            0 => Self::Exited(status >> 8 & 0xFF),
            signal => Self::Killed {
                signal,
                dumped: status & 0x80 != 0,
            },
        }
    }
}

/// Takes note of a process that has ended, or is about to: why it did.
pub(crate) fn reap(pidfd: BorrowedFd<'_>, log: &Path) -> Exit {
    let status = retry_on_intr(|| waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED));
    let end = match status {
        Ok(status) => status.as_ref().and_then(End::of_child),
        // It is no child of this daemon if an earlier one started it.
        Err(_) => pidfd_info::wait_status(pidfd).map(End::of_status),
    };
    let (reason, code, signal) = describe(end);
    Exit {
        reason,
        code,
        signal,
        last_words: last_line(log),
        at: clock::now(),
    }
}

fn describe(end: Option<End>) -> (String, Option<i32>, Option<i32>) {
    match end {
        None => {
            let words = "ended; its daemon was gone, and nobody was told why";
            (words.to_owned(), None, None)
        }
        Some(End::Exited(code)) => (format!("exited with code {code}"), Some(code), None),
        Some(End::Killed { signal, dumped }) => {
            let dumped = if dumped { ", core dumped" } else { "" };
            let words = format!("killed by {}{dumped}", signal_name(signal));
            (words, None, Some(signal))
        }
    }
}

fn signal_name(number: i32) -> String {
    // signal(7), for x86 and Arm.
    let name = match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return format!("signal {number}"),
    };
    name.to_owned()
}

/// The last line of a log, without what a program puts before it; nothing if that is another
/// worker's.
pub(crate) fn last_line(log: &Path) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))
        .ok()?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail).ok()?;
    let tail = String::from_utf8_lossy(&tail);
    let says_something = |line: &&str| !line.trim().is_empty() && !line.starts_with(ADVICE);
    let is_own = |line: &&str| ![SUCCESSION, NO_SUCCESSION].contains(line);
    let mut own = tail.lines().rev().take_while(is_own);
    let line = own.find(says_something)?;
    Some(line.strip_prefix(PROGRAM).unwrap_or(line).to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;
    use std::process::Command;

    use super::*;
    use crate::worker_process::identity;

    #[test]
    #[expect(clippy::zombie_processes, reason = "it is reaped by what is tested")]
    fn an_end_is_told_with_its_reason_and_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        for (script, reason, code, signal) in [
            ("exit 0", "exited with code 0", Some(0), None),
            ("exit 3", "exited with code 3", Some(3), None),
            ("kill -SEGV $$", "killed by SIGSEGV", None, Some(11)),
            ("kill -KILL $$", "killed by SIGKILL", None, Some(9)),
        ] {
            fs::write(&log, "early\nvgpu-worker: no more\n\n").unwrap();
            let child = Command::new("sh").args(["-c", script]).spawn().unwrap();
            let pidfd = identity::open_pid(child.id()).unwrap();
            let exit = reap(pidfd.as_fd(), &log);
            assert!(exit.reason.starts_with(reason), "{}", exit.reason);
            assert_eq!((exit.code, exit.signal), (code, signal));
            assert_eq!(exit.last_words.as_deref(), Some("no more"));
        }
    }

    #[test]
    fn an_end_is_read_from_waits_status() {
        for (status, end) in [
            (0, End::Exited(0)),
            (3 << 8, End::Exited(3)),
            (
                9,
                End::Killed {
                    signal: 9,
                    dumped: false,
                },
            ),
            (
                0x80 | 11,
                End::Killed {
                    signal: 11,
                    dumped: true,
                },
            ),
        ] {
            assert_eq!(End::of_status(status), end);
        }
    }

    #[test]
    fn the_last_line_of_any_log_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        assert_eq!(last_line(&log), None);
        let long = "x".repeat(10_000);
        for (content, line) in [
            (&b""[..], None),
            (b"\n\n", None),
            (b"one", Some("one")),
            (b"one\ntwo\n", Some("two")),
            (
                b"one\nnote: run with `RUST_BACKTRACE=1` to see more\n",
                Some("one"),
            ),
            (b"\xff\n", Some("\u{fffd}")),
            (b"one\n---- another worker takes over ----\n", None),
            (b"---- another worker takes over ----\ntwo\n", Some("two")),
            (b"two\n---- it does not ----\n", None),
            (b"two\n---- it does not ----\none\n", Some("one")),
        ] {
            fs::write(&log, content).unwrap();
            assert_eq!(last_line(&log).as_deref(), line);
        }
        fs::write(&log, &long).unwrap();
        assert_eq!(last_line(&log).map(|line| line.len()), Some(TAIL as usize));
    }
}
