//! The agent: runs the host's commands, one at a time, and sends back what they printed.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use guest::wire::{FromGuest, Run};
use rustix::process::{WaitOptions, wait};

use crate::tty;

/// The port that belongs to the agent; the console log has the first one.
const PORT: &str = "/dev/ttyS1";

/// A command's output goes to files, not pipes: a process that it leaves behind keeps its
/// descriptors, and a pipe would then never end.
const STDOUT: &str = "/tmp/.stdout";
const STDERR: &str = "/tmp/.stderr";

/// The only program of the initramfs that is not ours.
const BUSYBOX: &str = "/bin/busybox";

/// Where root finds programs.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The guest's end of the conversation.
pub(crate) struct Agent {
    reader: BufReader<File>,
    writer: File,
}

impl Agent {
    /// Opens the port raw: no echo, no translation, every byte as it is.
    pub(crate) fn open() -> io::Result<Self> {
        let writer = tty::open_raw(PORT.as_ref(), tty::Blocking::Yes)?;
        let reader = BufReader::new(writer.try_clone()?);
        Ok(Self { reader, writer })
    }

    /// Sends one frame that has no bytes behind it.
    pub(crate) fn tell(&mut self, frame: &FromGuest) -> io::Result<()> {
        self.writer.write_all(frame.to_string().as_bytes())
    }

    /// Says hello, then serves until the guest goes down.
    pub(crate) fn serve(&mut self) -> io::Result<()> {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        self.tell(&FromGuest::Hello {
            boot_id: boot_id.trim_end().to_owned(),
        })?;
        loop {
            let (id, command) = self.next_command()?;
            let status = run(&command)?;
            let (stdout, stderr) = (fs::read(STDOUT)?, fs::read(STDERR)?);
            self.tell(&FromGuest::Done {
                id,
                status: code(status),
                stdout: stdout.len(),
                stderr: stderr.len(),
            })?;
            self.writer.write_all(&stdout)?;
            self.writer.write_all(&stderr)?;
            reap();
        }
    }

    /// Waits for a command. A line that is none is passed over.
    fn next_command(&mut self) -> io::Result<(u32, String)> {
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let Some(run) = Run::parse(line.trim_end()) else {
                continue;
            };
            let mut command = vec![0; run.len];
            self.reader.read_exact(&mut command)?;
            return Ok((run.id, String::from_utf8_lossy(&command).into_owned()));
        }
    }
}

/// Runs one command line to its end: by the shell of the initramfs, or that of a whole system.
fn run(command: &str) -> io::Result<ExitStatus> {
    let mut shell = if Path::new(BUSYBOX).exists() {
        let mut shell = Command::new(BUSYBOX);
        shell.arg("sh").env("PATH", "/bin");
        shell
    } else {
        let mut shell = Command::new("/bin/sh");
        shell.env("PATH", SYSTEM_PATH).env("HOME", "/root");
        shell
    };
    shell
        .args(["-c", command])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(File::create(STDOUT)?)
        .stderr(File::create(STDERR)?)
        .status()
}

/// The shell's way to put an exit status or a signal into one number.
fn code(status: ExitStatus) -> i32 {
    let signalled = || status.signal().map(|signal| 128 + signal);
    status.code().or_else(signalled).unwrap_or(-1)
}

/// Collects what commands left behind and has ended since: it is ours, as process 1.
fn reap() {
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}
