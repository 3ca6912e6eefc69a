//! How a worker is started and waited for.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};
use uuid::Uuid;
use worker::control::{Control, ControlError};

use crate::accounts::Access;
use crate::api::Attribute;
use crate::error::Error;
use crate::paths::Paths;

use super::confinement::Confinement;
use super::exit::reap;
use super::{Worker, identity, socket};

/// The number under which a worker finds its socket.
const SOCKET_FD: i32 = 3;

/// How long a worker may take until it answers. It takes milliseconds, on a host that is not
/// starved.
const READY_PATIENCE: Duration = Duration::from_secs(20);

/// How often it is looked for. Its end is seen at once.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 500_000,
};

/// What is needed to start workers.
#[derive(Clone, Debug)]
pub(crate) struct Launcher {
    pub(crate) paths: Paths,
    /// `vgpu-worker`.
    pub(crate) program: PathBuf,
    pub(crate) boot_id: String,
}

/// A worker that is to be started.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) uuid: Uuid,
    /// The driver's type.
    pub(crate) base: String,
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) access: Access,
    pub(crate) confinement: Confinement,
}

impl Launcher {
    /// Starts a worker, and waits until it answers. On error nothing of it is left.
    pub(crate) fn launch(&self, plan: &Plan) -> Result<Worker, Error> {
        let begun = Instant::now();
        let uuid = plan.uuid;
        let control = self.paths.control(uuid);
        let log = self.paths.log(uuid);
        plan.confinement.prepare()?;
        let (listener, socket_file) = socket::bind(&self.paths, uuid, plan.access)?;
        let started = self
            .spawn(plan, listener, &control, &log)
            .and_then(|child| {
                let pid = child.id();
                let pidfd = watch(child)?;
                let ready = wait_ready(&pidfd, &control, begun + READY_PATIENCE)
                    .map_err(|why| self.give_up(plan, &pidfd, &why));
                ready.and_then(|()| Ok((pidfd, self.identify(pid)?)))
            });
        match started {
            Ok((pidfd, identity)) => {
                socket_file.keep();
                tracing::debug!(%uuid, pid = identity.pid, took = ?begun.elapsed(), "worker ready");
                Ok(Worker::new(pidfd, identity, control, log))
            }
            Err(error) => {
                // What went wrong before is what is to be told.
                let _ = socket::remove(&control).and(socket::remove(&log));
                plan.confinement.clean_up();
                Err(error)
            }
        }
    }

    fn identify(&self, pid: u32) -> Result<crate::records::WorkerIdentity, Error> {
        identity::of(pid, &self.boot_id).map_err(Error::os("identify a worker"))
    }

    /// Starts the process. Its environment is empty: what the daemon's holds, a Mesa variable
    /// say, must not choose what a worker does.
    fn spawn(
        &self,
        plan: &Plan,
        listener: OwnedFd,
        control: &Path,
        log: &Path,
    ) -> Result<Child, Error> {
        let shown = self.program.display();
        let what = || format!("start {shown}");
        // One that a killed worker left behind.
        socket::remove(control).map_err(Error::os(what()))?;
        socket::remove(log).map_err(Error::os(what()))?;
        let output = File::options().append(true).create_new(true).open(log);
        let output = output.map_err(Error::os::<io::Error>(format!("make {}", log.display())))?;
        let mut command = Command::new(&self.program);
        command
            .args(["--type", &plan.base, "--fd", &SOCKET_FD.to_string()])
            .arg("--control")
            .arg(control)
            .args(plan.confinement.arguments())
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output);
        for Attribute { name, value } in &plan.attributes {
            command.arg(format!("--attribute={name}={value}"));
        }
        command
            .fd_mappings(vec![FdMapping {
                parent_fd: listener,
                child_fd: SOCKET_FD,
            }])
            .map_err(|error| Error::os(what())(io::Error::other(error.to_string())))?;
        // The listener is closed here with the command: the worker alone has it.
        command.spawn().map_err(Error::os::<io::Error>(what()))
    }

    /// Ends a worker that is not ready: why it is not.
    fn give_up(&self, plan: &Plan, pidfd: &OwnedFd, why: &NotReady) -> Error {
        // It may be gone already.
        let _ = pidfd_send_signal(pidfd, Signal::KILL);
        let exit = reap(pidfd.as_fd(), &self.paths.log(plan.uuid));
        let words = exit.last_words.unwrap_or_else(|| exit.reason.clone());
        let words = plan.confinement.explain(words);
        match why {
            NotReady::Ended if exit.code == Some(worker::arguments::BAD_ARGUMENTS.into()) => {
                Error::Invalid(words)
            }
            NotReady::Ended => Error::Stillborn(plan.uuid, format!("{} ({words})", exit.reason)),
            NotReady::Late => Error::Mute(plan.uuid, "it took too long to start".to_owned()),
            NotReady::Control(error) => Error::Mute(plan.uuid, error.to_string()),
        }
    }
}

/// A descriptor of a child, by which it is seen to end. From then on it is reaped by it.
fn watch(mut child: Child) -> Result<OwnedFd, Error> {
    identity::open_pid(child.id()).map_err(|error| {
        // Nobody would see its end: better it has it now.
        let _ = child.kill().and_then(|()| child.wait());
        Error::os("watch a worker")(error)
    })
}

/// Why a worker is not ready.
enum NotReady {
    Ended,
    Late,
    Control(ControlError),
}

/// Waits until the worker answers.
fn wait_ready(pidfd: &OwnedFd, control: &Path, deadline: Instant) -> Result<(), NotReady> {
    loop {
        let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
        if poll(&mut fds, Some(&LOOK)).is_ok_and(|ended| ended > 0) {
            return Err(NotReady::Ended);
        }
        match Control::connect(control).and_then(|control| control.status()) {
            Ok(_) => return Ok(()),
            Err(ControlError::Io(error)) if is_too_early(&error) => {}
            Err(error) => return Err(NotReady::Control(error)),
        }
        if Instant::now() > deadline {
            return Err(NotReady::Late);
        }
    }
}

/// The socket is not there, does not listen yet, or ended with its worker, which is seen next.
fn is_too_early(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
    )
}
