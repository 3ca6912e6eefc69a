//! The server under test: one that listens already, or one that is started and ended here.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::check::Unmet;

/// How long a server may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long a server may take to end: after SIGTERM, or after its only client has gone.
const END_LIMIT: Duration = Duration::from_secs(2);
/// How long a connection may wait for room in the queue of the server.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(2);

/// A server.
#[derive(Debug)]
pub struct Server {
    socket: PathBuf,
    ours: Option<Ours>,
}

/// What is known of a server that was started here.
#[derive(Debug)]
struct Ours {
    command: Vec<String>,
    child: Child,
    /// Whether it ends when its client goes, which the section "Client Disconnection" allows.
    serves_one: bool,
    /// Whether somebody has been connected since it was started.
    was_used: bool,
    /// A status that says that it did not end of its own will.
    died: Option<ExitStatus>,
    /// Whether its end was looked at, or is ours.
    is_noted: bool,
    folder: TempDir,
}

impl Server {
    /// The server that listens at `socket`.
    pub fn listening(socket: &Path) -> anyhow::Result<Self> {
        let server = Self {
            socket: socket.to_owned(),
            ours: None,
        };
        connect_within(socket, CONNECT_LIMIT)
            .with_context(|| format!("no server listens at {}", socket.display()))?;
        Ok(server)
    }

    /// Starts the server that `command` is: words, of which `{socket}` is replaced.
    pub fn start(command: &str) -> anyhow::Result<Self> {
        let command: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        if !command.iter().any(|word| word.contains("{socket}")) {
            bail!("the command of the server has no {{socket}} in it");
        }
        let folder = tempfile::tempdir().context("no folder for the socket")?;
        let socket = folder.path().join("server.sock");
        let child = spawn(&command, &socket)?;
        let ours = Ours {
            command,
            child,
            serves_one: false,
            was_used: false,
            died: None,
            is_noted: false,
            folder,
        };
        let mut server = Self {
            socket,
            ours: Some(ours),
        };
        server.wait_until_listening()?;
        server.find_out_whether_it_serves_one()?;
        Ok(server)
    }

    /// Where clients connect.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The process that was started here.
    pub fn pid(&self) -> Option<u32> {
        self.ours.as_ref().map(|ours| ours.child.id())
    }

    /// Connects. Nobody else is connected if it `is_first`: only then may a server that has
    /// ended with its last client be started again.
    pub fn connect(&mut self, is_first: bool) -> Result<UnixStream, Unmet> {
        if is_first {
            self.renew()?;
        }
        if let Some(ours) = &mut self.ours {
            ours.was_used = true;
        }
        UnixStream::connect(&self.socket)
            .map_err(|error| Unmet::fail(format!("the server cannot be connected to: {error}")))
    }

    /// How the server died, if it did since this was last asked.
    pub fn take_death(&mut self) -> Option<ExitStatus> {
        let ours = self.ours.as_mut()?;
        if ours.was_used && ours.serves_one {
            wait_for_end(&mut ours.child, END_LIMIT);
        }
        ours.look();
        ours.died.take()
    }

    /// Ends the server if it was started here, and starts it anew.
    pub fn restart(&mut self) -> Result<(), Unmet> {
        let Some(ours) = &mut self.ours else {
            return Ok(());
        };
        ours.look();
        end(&mut ours.child);
        ours.again(&self.socket)
            .and_then(|()| self.wait_until_listening())
            .map_err(|error| Unmet::fail(format!("the server does not start again: {error:#}")))
    }

    /// Starts the server again if it has ended, or is about to.
    fn renew(&mut self) -> Result<(), Unmet> {
        let Some(ours) = &mut self.ours else {
            return Ok(());
        };
        if ours.serves_one && ours.was_used {
            wait_for_end(&mut ours.child, END_LIMIT);
            return self.restart();
        }
        ours.look();
        match ours.child.try_wait() {
            Ok(None) => Ok(()),
            _ => self.restart(),
        }
    }

    fn wait_until_listening(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        let Some(ours) = &mut self.ours else {
            return Ok(());
        };
        // To connect would use up a server that serves only one.
        while !is_listening(&self.socket) {
            if let Some(status) = ours.child.try_wait()? {
                bail!("the server ended before it listened: {status}");
            }
            if Instant::now() > deadline {
                bail!("the server does not listen at {}", self.socket.display());
            }
            sleep(PAUSE);
        }
        Ok(())
    }

    /// Connects, goes, and looks whether the server goes too.
    fn find_out_whether_it_serves_one(&mut self) -> anyhow::Result<()> {
        drop(connect_within(&self.socket, CONNECT_LIMIT).context("the server does not accept")?);
        let Some(ours) = &mut self.ours else {
            return Ok(());
        };
        if wait_for_end(&mut ours.child, Duration::from_millis(300)) {
            ours.serves_one = true;
            ours.again(&self.socket)?;
            self.wait_until_listening()?;
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(ours) = &mut self.ours {
            end(&mut ours.child);
        }
    }
}

impl Ours {
    /// Notes a death, once.
    fn look(&mut self) {
        if self.is_noted {
            return;
        }
        if let Ok(Some(status)) = self.child.try_wait() {
            self.is_noted = true;
            if !status.success() {
                self.died = Some(status);
            }
        }
    }

    fn again(&mut self, socket: &Path) -> anyhow::Result<()> {
        match std::fs::remove_file(socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        debug_assert!(socket.starts_with(self.folder.path()));
        self.child = spawn(&self.command, socket)?;
        self.was_used = false;
        self.is_noted = false;
        Ok(())
    }
}

fn spawn(command: &[String], socket: &Path) -> anyhow::Result<Child> {
    let socket = socket.to_str().context("the socket's path is not UTF-8")?;
    let words: Vec<String> = command
        .iter()
        .map(|word| word.replace("{socket}", socket))
        .collect();
    let (program, arguments) = words.split_first().context("no command")?;
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {program}"))
}

/// Connects without waiting for ever: a server that stopped accepting has a full queue, at which
/// a plain `connect` waits.
fn connect_within(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let deadline = Instant::now() + limit;
    let address = SocketAddrUnix::new(path)?;
    loop {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        match connect(&socket, &address) {
            Ok(()) => return Ok(UnixStream::from(socket)),
            Err(Errno::AGAIN | Errno::INTR) if Instant::now() < deadline => sleep(PAUSE),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether somebody listens at `path`, as the kernel's table says.
fn is_listening(path: &Path) -> bool {
    const ACCEPTS: &str = "00010000";
    let table = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    table.lines().any(|line| {
        let mut fields = line.split_whitespace();
        fields.nth(3) == Some(ACCEPTS) && fields.nth(3).is_some_and(|name| Path::new(name) == path)
    })
}

/// Waits until `child` has ended, if it does.
fn wait_for_end(child: &mut Child, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < deadline => sleep(PAUSE),
            Ok(None) => return false,
            _ => return true,
        }
    }
}

/// Ends `child`: by request, then by force.
fn end(child: &mut Child) {
    if let (Ok(None), Some(pid)) = (
        child.try_wait(),
        i32::try_from(child.id()).ok().and_then(Pid::from_raw),
    ) {
        let _ = kill_process(pid, Signal::TERM);
        if !wait_for_end(child, END_LIMIT) {
            let _ = child.kill();
        }
    }
    let _ = child.wait();
}
