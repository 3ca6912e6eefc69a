//! A running QEMU, ended with the test.
//!
//! QEMU connects to sockets that the harness listens on, so nobody waits for a path to appear: one
//! for QMP, one for the agent. When a test fails, dropping the [`Vm`] prints the guest's console
//! log and QEMU's own words.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;

use crate::guest::{BOOT_LIMIT, COMMAND_LIMIT, Guest};
use crate::machine::{Memory, memory_backend};
use crate::process::Process;
use crate::qmp::Qmp;
use crate::stream::Deadline;
use crate::{Error, Result, Screen};

/// Names in a machine's folder: two sockets and two logs.
pub(crate) const QMP: &str = "qmp";
pub(crate) const AGENT: &str = "agent";
pub(crate) const CONSOLE_LOG: &str = "console.log";
const QEMU_LOG: &str = "qemu.log";

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
        let process = Process::spawn(command(dir.path())?, &dir.path().join(QEMU_LOG))?;
        let mut qemu = Qemu { process, dir };
        match qemu.connect(&qmp, &agent) {
            Ok((qmp, guest)) => Ok(Self { qmp, guest, qemu }),
            Err(error) => {
                qemu.process.mark_failed();
                Err(error)
            }
        }
    }

    /// Ends a machine that did not come up; its logs are printed.
    pub(crate) fn give_up(mut self, error: Error) -> Error {
        self.qemu.process.mark_failed();
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

    /// Plugs in a module of memory. The guest has yet to notice it, and to use it.
    pub fn plug_memory(&mut self, id: &str, memory: Memory, mib: u32) -> Result<()> {
        let backend = format!("{id}-memory");
        let object = memory_backend(memory, &backend, mib);
        self.qmp.execute("object-add", &object)?;
        let module = json!({ "driver": "pc-dimm", "id": id, "memdev": backend });
        self.qmp.device_add(&module)
    }

    /// Asks the guest to give a module of memory back, and waits until it has, or refuses to.
    pub fn unplug_memory(&mut self, id: &str) -> Result<()> {
        self.qmp.device_del(id, COMMAND_LIMIT)?;
        let object = json!({ "id": format!("{id}-memory") });
        self.qmp.execute("object-del", &object).map(drop)
    }

    /// QEMU itself.
    pub fn process(&mut self) -> &mut Process {
        &mut self.qemu.process
    }

    /// What the guest's kernel has said so far.
    pub fn console_log(&self) -> String {
        self.qemu.console_log()
    }

    /// The machine's own folder, gone with it.
    pub fn dir(&self) -> PathBuf {
        self.qemu.dir.path().to_owned()
    }
}

/// The process, and the folder that holds its sockets and logs.
#[derive(Debug)]
struct Qemu {
    process: Process,
    dir: tempfile::TempDir,
}

fn listen(path: &Path) -> Result<UnixListener> {
    UnixListener::bind(path).map_err(Error::io("listen on", path))
}

impl Qemu {
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
            if let Some(status) = self.process.ended()? {
                return Err(Error::Gone(status.to_string()));
            }
        }
    }

    fn console_log(&self) -> String {
        let bytes = fs::read(self.dir.path().join(CONSOLE_LOG)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        if self.process.has_failed() {
            eprintln!("---- guest console ----\n{}", self.console_log());
        }
    }
}
