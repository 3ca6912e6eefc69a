//! A running QEMU, ended with the test.
//!
//! QEMU connects to sockets that the harness listens on, so nobody waits for a path to appear: one
//! for QMP, one for the agent. When a test fails, dropping the [`Vm`] prints the guest's console
//! log and QEMU's own words.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;

use crate::guest::{BOOT_LIMIT, Guest};
use crate::qmp::Qmp;
use crate::stream::Deadline;
use crate::{Error, Result, Screen};

/// Names in a machine's folder: two sockets and two logs.
pub(crate) const QMP: &str = "qmp";
pub(crate) const AGENT: &str = "agent";
pub(crate) const CONSOLE_LOG: &str = "console.log";
const STDERR: &str = "stderr";

/// From starting QEMU to its two connections.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How often a wait looks whether QEMU is still there.
const POLL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// A running machine. Dropping it ends QEMU.
#[derive(Debug)]
pub struct Vm {
    /// QEMU's control socket.
    pub qmp: Qmp,
    /// The agent in the guest.
    pub guest: Guest,
    qemu: Qemu,
}

impl Vm {
    /// Starts what `command` makes for a folder of the machine's own.
    pub(crate) fn start(command: impl FnOnce(&Path) -> Result<Command>) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("vm")
            .tempdir()
            .map_err(Error::doing("make a temporary folder"))?;
        let qmp = listen(&dir.path().join(QMP))?;
        let agent = listen(&dir.path().join(AGENT))?;
        let mut qemu = Qemu::spawn(command(dir.path())?, dir)?;
        match qemu.connect(&qmp, &agent) {
            Ok((qmp, guest)) => Ok(Self { qmp, guest, qemu }),
            Err(error) => {
                qemu.has_failed = true;
                Err(error)
            }
        }
    }

    /// Ends a machine that did not come up; its logs are printed.
    pub(crate) fn give_up(mut self, error: Error) -> Error {
        self.qemu.has_failed = true;
        error
    }

    /// Waits until the guest is up: after [`Machine::start`](crate::Machine::start), or after a reset from outside.
    pub fn wait_boot(&mut self) -> Result<()> {
        self.guest.wait_boot(BOOT_LIMIT)
    }

    /// Takes a picture of the screen of QEMU's own graphics.
    pub fn screenshot(&mut self) -> Result<Screen> {
        let path = self.qemu.dir.path().join("screen.png");
        let arguments = json!({ "filename": path, "format": "png" });
        self.qmp.execute("screendump", &arguments)?;
        Screen::read_png(&path)
    }

    /// Waits until QEMU has ended by itself.
    pub fn wait_exit(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Deadline::new("end of QEMU", limit);
        loop {
            if let Some(status) = self.qemu.ended()? {
                return Ok(status);
            }
            thread::sleep(deadline.left()?.min(Duration::from_millis(20)));
        }
    }

    /// Whether QEMU is still there.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.qemu.ended()?.is_none())
    }

    /// QEMU's process id.
    pub fn pid(&self) -> u32 {
        self.qemu.child.id()
    }

    /// What the guest's kernel has said so far.
    pub fn console_log(&self) -> String {
        self.qemu.text("serial")
    }

    /// What QEMU itself has said so far.
    pub fn stderr(&self) -> String {
        self.qemu.text("stderr")
    }

    /// The machine's own folder, gone with it.
    pub fn dir(&self) -> PathBuf {
        self.qemu.dir.path().to_owned()
    }
}

/// The process and its folder.
#[derive(Debug)]
struct Qemu {
    child: Child,
    dir: tempfile::TempDir,
    has_failed: bool,
}

fn listen(path: &Path) -> Result<UnixListener> {
    UnixListener::bind(path).map_err(Error::io("listen on", path))
}

impl Qemu {
    fn spawn(mut command: Command, dir: tempfile::TempDir) -> Result<Self> {
        let stderr = dir.path().join(STDERR);
        let stderr = File::create(&stderr).map_err(Error::io("create", &stderr))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .map_err(Error::io("start", Path::new(command.get_program())))?;
        Ok(Self {
            child,
            dir,
            has_failed: false,
        })
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().map_err(Error::doing("wait for QEMU"))
    }

    /// Takes both connections. QEMU makes them before it looks at its devices, and greets after.
    fn connect(&mut self, qmp: &UnixListener, agent: &UnixListener) -> Result<(Qmp, Guest)> {
        let deadline = Deadline::new("connection from QEMU", START_LIMIT);
        let agent = self.accept(agent, &deadline)?;
        let qmp = self.accept(qmp, &deadline)?;
        Ok((Qmp::new(qmp)?, Guest::new(agent)))
    }

    /// Takes a connection, unless QEMU ends first.
    fn accept(&mut self, listener: &UnixListener, deadline: &Deadline<'_>) -> Result<UnixStream> {
        loop {
            deadline.left()?;
            let mut fds = [PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN)];
            let ready = poll(&mut fds, Some(&POLL)).map_err(|error| error.into());
            if ready.map_err(Error::doing("wait for QEMU"))? > 0 {
                let (stream, _) = listener.accept().map_err(Error::doing("hear QEMU"))?;
                return Ok(stream);
            }
            if let Some(status) = self.ended()? {
                return Err(Error::Gone(format!("{status}\n{}", self.text(STDERR))));
            }
        }
    }

    fn text(&self, file: &str) -> String {
        let bytes = fs::read(self.dir.path().join(file)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Qemu {
    /// Only a process that this harness started is killed: `Child` knows whether it still is one.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if self.has_failed || thread::panicking() {
            eprintln!("---- guest console ----\n{}", self.text(CONSOLE_LOG));
            eprintln!("---- QEMU ----\n{}", self.text(STDERR));
        }
    }
}
