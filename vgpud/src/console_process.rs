//! A console's process: the display of one vGPU, for viewers.
//!
//! What is known of it lies in a file beside its socket. So a daemon that was started after it finds
//! it, and whoever ends the vGPU ends it, without a table.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use mdev::scanout::MAX_HEADS;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::accounts::Access;
use crate::api::{Console, ConsoleTcp};
use crate::error::Error;
use crate::files;
use crate::functions::{Function, Name};
use crate::paths::Paths;
use crate::records::WorkerIdentity;
use crate::worker_process::{identity, socket};

/// The numbers under which it finds its sockets and the password.
const SOCKET_FD: i32 = 3;
const TCP_FD: i32 = 4;
const PASSWORD_FD: i32 = 5;

/// How long it may take until it greets viewers.
const READY_PATIENCE: Duration = Duration::from_secs(10);

/// How many seconds the worker may be gone before it ends by itself, if no daemon ends it.
const WORKER_PATIENCE: u64 = 60;

/// How long its end may take after SIGKILL.
const END_PATIENCE: Timespec = Timespec {
    tv_sec: 3,
    tv_nsec: 0,
};

/// What is needed to start consoles.
#[derive(Clone, Debug)]
pub(crate) struct ConsoleLauncher {
    pub(crate) paths: Paths,
    /// `vgpu-console`.
    pub(crate) program: PathBuf,
    pub(crate) boot_id: String,
}

/// A console that is to be started.
#[derive(Debug)]
pub(crate) struct ConsolePlan {
    pub(crate) uuid: Uuid,
    /// Which head of its display.
    pub(crate) head: u32,
    pub(crate) access: Access,
    /// The user that it becomes.
    pub(crate) user: Option<u32>,
    pub(crate) tcp: Option<ConsoleTcp>,
    /// What viewers can use beside looking on.
    pub(crate) functions: Vec<Function>,
}

/// What is kept of one that runs.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    identity: WorkerIdentity,
    /// What was asked for.
    asked: Option<String>,
    /// What came of it: a port, if any would do.
    tcp: Option<SocketAddr>,
}

impl ConsoleLauncher {
    /// The console that runs, if one does, and what was asked for by TCP. Blocks.
    pub(crate) fn find(&self, uuid: Uuid, head: u32) -> Option<(Console, Option<String>)> {
        let note = self.read_note(uuid, head)?;
        identity::open(&note.identity, &self.boot_id)?;
        let asked = note.asked.clone();
        Some((self.describe(uuid, head, &note), asked))
    }

    fn read_note(&self, uuid: Uuid, head: u32) -> Option<Note> {
        let note = fs::read(self.paths.console_note(uuid, head)).ok()?;
        serde_json::from_slice(&note).ok()
    }

    fn describe(&self, uuid: Uuid, head: u32, note: &Note) -> Console {
        Console {
            head,
            socket: self.paths.console(uuid, head).display().to_string(),
            tcp: note.tcp.map(|address| address.to_string()),
            pid: note.identity.pid,
        }
    }

    /// Starts a console, and waits until it greets viewers. On error nothing of it is left. Blocks.
    ///
    /// The child is given back to be waited for.
    pub(crate) fn launch(&self, plan: &ConsolePlan) -> Result<(Console, Child), Error> {
        self.end(plan.uuid, plan.head);
        let path = self.paths.console(plan.uuid, plan.head);
        let (listener, file) = socket::bind_at(&self.paths, &path, plan.access)?;
        let tcp = plan.tcp.as_ref().map(listen).transpose()?;
        let address = tcp.as_ref().map(|(_, address)| *address);
        let mut child = self.spawn(plan, listener.into(), tcp.map(|(listener, _)| listener))?;
        let identity = self
            .wait_ready(plan, &mut child)
            .and_then(|()| {
                let identity = identity::of(child.id(), &self.boot_id);
                identity.map_err(Error::os("identify a console"))
            })
            .and_then(|identity| {
                let note = Note {
                    identity,
                    asked: plan.tcp.as_ref().map(|tcp| tcp.address.clone()),
                    tcp: address,
                };
                self.write_note(plan, &note).map(|()| note)
            });
        match identity {
            Ok(note) => {
                file.keep();
                Ok((self.describe(plan.uuid, plan.head, &note), child))
            }
            Err(error) => {
                // It may be gone already.
                let _ = child.kill().and_then(|()| child.wait());
                Err(error)
            }
        }
    }

    fn write_note(&self, plan: &ConsolePlan, note: &Note) -> Result<(), Error> {
        let what = || format!("take note of the console of {}", plan.uuid);
        let content = serde_json::to_vec(note).map_err(Error::os::<serde_json::Error>(what()))?;
        let path = self.paths.console_note(plan.uuid, plan.head);
        files::write_whole(&path, &content, 0o600).map_err(Error::os(what()))
    }

    fn spawn(
        &self,
        plan: &ConsolePlan,
        listener: OwnedFd,
        tcp: Option<OwnedFd>,
    ) -> Result<Child, Error> {
        let what = || format!("start {}", self.program.display());
        let mut command = Command::new(&self.program);
        command
            .arg("--control")
            .arg(self.paths.control(plan.uuid))
            .args(["--fd", &SOCKET_FD.to_string()])
            .args(["--head", &plan.head.to_string()])
            .args(["--name", &name_of(plan.uuid, plan.head)])
            .args(["--patience", &WORKER_PATIENCE.to_string()])
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        for function in &plan.functions {
            let name = Name {
                uuid: plan.uuid,
                function: Some(*function),
            };
            command.arg(format!("--{}", function.name()));
            command.arg(self.paths.control(name));
        }
        if let Some(user) = plan.user {
            command.arg(format!("--user={user}"));
        }
        let mut descriptors = vec![(listener, SOCKET_FD)];
        if let (Some(listener), Some(tcp)) = (tcp, &plan.tcp) {
            command.args(["--tcp-fd", &TCP_FD.to_string()]);
            command.args(["--password-fd", &PASSWORD_FD.to_string()]);
            let password = pipe_with(&tcp.password).map_err(Error::os(what()))?;
            descriptors.extend([(listener, TCP_FD), (password, PASSWORD_FD)]);
        }
        let descriptors = descriptors.into_iter();
        let mappings = descriptors
            .map(|(parent_fd, child_fd)| FdMapping {
                parent_fd,
                child_fd,
            })
            .collect();
        command
            .fd_mappings(mappings)
            .map_err(|error| Error::os(what())(io::Error::other(error.to_string())))?;
        command.spawn().map_err(Error::os::<io::Error>(what()))
    }

    /// Waits until it greets who connects.
    fn wait_ready(&self, plan: &ConsolePlan, child: &mut Child) -> Result<(), Error> {
        let uuid = plan.uuid;
        let greeted = || -> io::Result<()> {
            let mut viewer = UnixStream::connect(self.paths.console(uuid, plan.head))?;
            viewer.set_read_timeout(Some(READY_PATIENCE))?;
            viewer.read_exact(&mut [0; 12])
        };
        greeted().map_err(|error| match child.try_wait() {
            Ok(Some(status)) => Error::ConsoleStillborn(uuid, status.to_string()),
            _ => Error::ConsoleStillborn(uuid, error.to_string()),
        })
    }

    /// Ends the consoles of all heads of a vGPU, and removes what they leave. Blocks.
    pub(crate) fn end_all(&self, uuid: Uuid) {
        for head in 0..MAX_HEADS {
            self.end(uuid, head);
        }
    }

    /// Ends the console of a head, if one runs, and removes what it leaves. Blocks.
    pub(crate) fn end(&self, uuid: Uuid, head: u32) {
        if let Some(note) = self.read_note(uuid, head)
            && let Some(pidfd) = identity::open(&note.identity, &self.boot_id)
        {
            // The process that viewers talk to ends with the one that started it.
            let _ = pidfd_send_signal(&pidfd, Signal::KILL);
            let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
            let _ = poll(&mut fds, Some(&END_PATIENCE));
        }
        self.remove_files(uuid, head);
    }

    /// Removes what a console leaves that has ended by itself, unless another one has its place.
    pub(crate) fn clean_up(&self, uuid: Uuid, head: u32, pid: u32) {
        if self
            .read_note(uuid, head)
            .is_some_and(|note| note.identity.pid == pid)
        {
            self.remove_files(uuid, head);
        }
    }

    fn remove_files(&self, uuid: Uuid, head: u32) {
        let paths = &self.paths;
        for path in [paths.console(uuid, head), paths.console_note(uuid, head)] {
            if let Err(error) = socket::remove(&path) {
                tracing::warn!("{} stays: {error}", path.display());
            }
        }
    }
}

/// What viewers call it.
fn name_of(uuid: Uuid, head: u32) -> String {
    match head {
        0 => format!("vGPU {uuid}"),
        _ => format!("vGPU {uuid}, head {head}"),
    }
}

/// Listens where that is asked for: what comes of it.
fn listen(tcp: &ConsoleTcp) -> Result<(OwnedFd, SocketAddr), Error> {
    let shown = tcp.address.escape_debug();
    let address: SocketAddr = tcp.address.parse().map_err(|_| {
        Error::Invalid(format!(
            "'{shown}' is no address and port, as 127.0.0.1:5900"
        ))
    })?;
    let is_good = (1..=8).contains(&tcp.password.len())
        && tcp
            .password
            .bytes()
            .all(|byte| (b' '..=b'~').contains(&byte));
    if !is_good {
        let words = "a password for VNC is of 1 to 8 characters, of ASCII's that can be printed";
        return Err(Error::Invalid(words.to_owned()));
    }
    // Why that fails lies with what was asked for: an address of others, a port that is taken.
    let refuse = |error: io::Error| Error::Invalid(format!("cannot listen on {shown}: {error}"));
    let listener = TcpListener::bind(address).map_err(refuse)?;
    let address = listener.local_addr().map_err(refuse)?;
    Ok((listener.into(), address))
}

/// A pipe with a line in it, to be read.
fn pipe_with(line: &str) -> io::Result<OwnedFd> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // A few bytes: there is room for them.
    File::from(writer).write_all(line.as_bytes())?;
    Ok(reader)
}

/// Waits for a console that this daemon has started, so that nothing of it stays. Blocks.
pub(crate) fn reap(mut child: Child) {
    // It is a child of ours: that cannot fail.
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_listened_on_is_refused_in_words() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = taken.local_addr().unwrap().to_string();
        for (address, password, words) in [
            ("here", "geheim", "no address and port"),
            ("127.0.0.1", "geheim", "no address and port"),
            (&taken, "geheim", "cannot listen"),
            ("127.0.0.1:0", "", "1 to 8"),
            ("127.0.0.1:0", "123456789", "1 to 8"),
            ("127.0.0.1:0", "ü", "1 to 8"),
        ] {
            let tcp = ConsoleTcp {
                address: address.to_owned(),
                password: password.to_owned(),
            };
            let error = listen(&tcp).unwrap_err();
            assert_eq!(error.status(), 422);
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn a_password_is_not_told_by_accident() {
        let tcp = ConsoleTcp {
            address: "127.0.0.1:0".to_owned(),
            password: "geheim".to_owned(),
        };
        assert!(!format!("{tcp:?}").contains("geheim"));
    }
}
