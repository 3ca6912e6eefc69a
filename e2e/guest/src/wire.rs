//! The frames between the host and the agent, on the guest's second serial port.
//!
//! A frame is a line that opens with [`MARK`], followed by the bytes that the line announces. The
//! host asks one thing at a time; the agent speaks unasked only when it comes up. A guest that
//! reboots cuts its frame short, so the host looks for the next mark instead of counting on one.

use std::fmt;

/// Opens every line. The control byte keeps it out of ordinary text.
pub const MARK: &str = "\u{1}vgpud ";

/// Most bytes of one command. The guest's tty holds 64 KiB before it drops any.
pub const MAX_COMMAND: usize = 16 << 10;

/// Host to guest: the next `len` bytes are a command line for the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Comes back in [`FromGuest::Done`].
    pub id: u32,
    /// Length of the command line.
    pub len: usize,
}

impl Run {
    /// Reads the line that came, without its newline.
    pub fn parse(line: &str) -> Option<Self> {
        let (id, len) = line
            .strip_prefix(MARK)?
            .strip_prefix("run ")?
            .split_once(' ')?;
        let len = len.parse().ok().filter(|&len| len <= MAX_COMMAND)?;
        Some(Self {
            id: id.parse().ok()?,
            len,
        })
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{MARK}run {} {}", self.id, self.len)
    }
}

/// Guest to host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromGuest {
    /// Something went wrong on the way up; one line of words.
    Problem(String),
    /// The agent listens. The id differs from boot to boot.
    Hello {
        /// `/proc/sys/kernel/random/boot_id`.
        boot_id: String,
    },
    /// A command has ended; its output follows, `stdout` bytes and then `stderr` bytes.
    Done {
        /// Of the [`Run`] that asked.
        id: u32,
        /// Exit status; 128 and the signal's number where a signal ended it.
        status: i32,
        /// Bytes of standard output.
        stdout: usize,
        /// Bytes of standard error.
        stderr: usize,
    },
}

impl FromGuest {
    /// Reads a line that came after [`MARK`], both mark and newline taken off.
    pub fn parse(line: &str) -> Option<Self> {
        let (kind, rest) = line.split_once(' ')?;
        match kind {
            "problem" => Some(Self::Problem(rest.to_owned())),
            "hello" => Some(Self::Hello {
                boot_id: rest.to_owned(),
            }),
            "done" => {
                let mut words = rest.split(' ');
                Some(Self::Done {
                    id: words.next()?.parse().ok()?,
                    status: words.next()?.parse().ok()?,
                    stdout: words.next()?.parse().ok()?,
                    stderr: words.next()?.parse().ok()?,
                })
            }
            _ => None,
        }
    }
}

impl fmt::Display for FromGuest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Problem(words) => writeln!(f, "{MARK}problem {}", words.replace('\n', " ")),
            Self::Hello { boot_id } => writeln!(f, "{MARK}hello {boot_id}"),
            Self::Done {
                id,
                status,
                stdout,
                stderr,
            } => writeln!(f, "{MARK}done {id} {status} {stdout} {stderr}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_as_they_went() {
        let run = Run { id: 7, len: 12 };
        assert_eq!(Run::parse(run.to_string().trim_end()), Some(run));
        for frame in [
            FromGuest::Problem("drm.ko: no such file".to_owned()),
            FromGuest::Hello {
                boot_id: "9f1c".to_owned(),
            },
            FromGuest::Done {
                id: 7,
                status: -1,
                stdout: 4096,
                stderr: 0,
            },
        ] {
            let line = frame.to_string();
            let line = line.strip_prefix(MARK).unwrap().trim_end();
            assert_eq!(FromGuest::parse(line), Some(frame));
        }
    }

    #[test]
    fn a_line_that_is_none_of_ours_is_not_a_frame() {
        for line in [
            "",
            "run",
            "run 1",
            "\u{1}vgpud run 1 x",
            "\u{1}vgpud run 1 16385",
        ] {
            assert_eq!(Run::parse(line), None, "{line:?}");
        }
        for line in ["", "hello", "done 1 2 3", "done a 0 0 0", "login: "] {
            assert_eq!(FromGuest::parse(line), None, "{line:?}");
        }
    }
}
