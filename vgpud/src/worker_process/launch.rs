//! How a worker is started and waited for.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};
use worker::control::{Control, ControlError};
use worker::parking::Parking;

use crate::accounts::Access;
use crate::api::Attribute;
use crate::error::Error;
use crate::functions::Name;
use crate::paths::Paths;

use super::confinement::Confinement;
use super::exit::{NO_SUCCESSION, SUCCESSION, reap};
use super::keeping::Keeping;
use super::{Worker, identity, socket};

/// The number under which a worker finds its socket.
const SOCKET_FD: i32 = 3;

/// The one under which it finds who keeps what it parks.
const KEEPER_FD: i32 = 4;

/// The one under which it finds who hands it over what another has left.
const RESUME_FD: i32 = 5;

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
    pub(crate) name: Name,
    /// The driver's type.
    pub(crate) base: String,
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) access: Access,
    pub(crate) confinement: Confinement,
}

/// The sockets that a worker is born with.
pub(super) struct Sockets {
    pub(super) listener: OwnedFd,
    pub(super) keeper: OwnedFd,
    /// If it is to take over from another.
    pub(super) resume: Option<OwnedFd>,
}

impl Sockets {
    fn mappings(self) -> Vec<FdMapping> {
        let pairs = [
            (Some(self.listener), SOCKET_FD),
            (Some(self.keeper), KEEPER_FD),
            (self.resume, RESUME_FD),
        ];
        let pairs = pairs.into_iter();
        pairs
            .filter_map(|(parent_fd, child_fd)| {
                let parent_fd = parent_fd?;
                Some(FdMapping {
                    parent_fd,
                    child_fd,
                })
            })
            .collect()
    }
}

impl Launcher {
    /// Starts a worker, and waits until it answers. On error nothing of it is left.
    pub(crate) fn launch(&self, plan: &Plan) -> Result<Worker, Error> {
        let begun = Instant::now();
        let name = plan.name;
        let control = self.paths.control(name);
        let log = self.paths.log(name);
        plan.confinement.prepare()?;
        let (listener, socket_file) = socket::bind(&self.paths, name, plan.access)?;
        let (parking, keeper) = Parking::new().map_err(Error::os("make a socket pair"))?;
        let sockets = Sockets {
            listener,
            keeper,
            resume: None,
        };
        let started = self.spawn(plan, sockets, &control, &log).and_then(|child| {
            let pid = child.id();
            let pidfd = watch(child)?;
            let ready = wait_ready(&pidfd, &control, begun + READY_PATIENCE)
                .map_err(|why| self.give_up(plan, &pidfd, &why));
            ready.and_then(|()| Ok((pidfd, self.identify(pid)?)))
        });
        match started {
            Ok((pidfd, identity)) => {
                socket_file.keep();
                tracing::debug!(%name, pid = identity.pid, took = ?begun.elapsed(), "worker ready");
                let keeping = Keeping::new(parking);
                Ok(Worker::new(pidfd, identity, control, log, keeping))
            }
            Err(error) => {
                // What went wrong before is what is to be told.
                let _ = socket::remove(&control).and(socket::remove(&log));
                plan.confinement.clean_up();
                Err(error)
            }
        }
    }

    pub(super) fn identify(&self, pid: u32) -> Result<crate::records::WorkerIdentity, Error> {
        identity::of(pid, &self.boot_id).map_err(Error::os("identify a worker"))
    }

    /// Starts the process. Its environment is empty: what the daemon's holds, a Mesa variable
    /// say, must not choose what a worker does.
    pub(super) fn spawn(
        &self,
        plan: &Plan,
        sockets: Sockets,
        control: &Path,
        log: &Path,
    ) -> Result<Child, Error> {
        let shown = self.program.display();
        let what = || format!("start {shown}");
        // One that a killed worker left behind.
        socket::remove(control).map_err(Error::os(what()))?;
        let output = open_log(log, sockets.resume.is_some());
        let output = output.map_err(Error::os::<io::Error>(format!("make {}", log.display())))?;
        let mut command = Command::new(&self.program);
        command
            .args(["--type", &plan.base, "--fd", &SOCKET_FD.to_string()])
            .args(["--keeper", &KEEPER_FD.to_string()])
            .arg("--control")
            .arg(control)
            .args(plan.confinement.arguments())
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output);
        if drivers::uses_engine(&plan.base) {
            command.arg("--leased");
        }
        if sockets.resume.is_some() {
            command.args(["--resume", &RESUME_FD.to_string()]);
        }
        for Attribute { name, value } in &plan.attributes {
            command.arg(format!("--attribute={name}={value}"));
        }
        command
            .fd_mappings(sockets.mappings())
            .map_err(|error| Error::os(what())(io::Error::other(error.to_string())))?;
        // They are closed here with the command: the worker alone has them.
        command.spawn().map_err(Error::os::<io::Error>(what()))
    }

    /// Ends a worker that is not ready: why it is not.
    fn give_up(&self, plan: &Plan, pidfd: &OwnedFd, why: &NotReady) -> Error {
        // It may be gone already.
        let _ = pidfd_send_signal(pidfd, Signal::KILL);
        let exit = reap(pidfd.as_fd(), &self.paths.log(plan.name));
        let words = exit.last_words.unwrap_or_else(|| exit.reason.clone());
        let words = plan.confinement.explain(words);
        match why {
            NotReady::Ended if exit.code == Some(worker::arguments::BAD_ARGUMENTS.into()) => {
                Error::Invalid(words)
            }
            NotReady::Ended => {
                Error::Stillborn(plan.name.uuid, format!("{} ({words})", exit.reason))
            }
            NotReady::Late => Error::Mute(plan.name.uuid, "it took too long to start".to_owned()),
            NotReady::Control(error) => Error::Mute(plan.name.uuid, error.to_string()),
        }
    }
}

/// A file for what a worker says. One that takes over goes on where the other stopped, which may
/// have it open still.
fn open_log(log: &Path, is_shared: bool) -> io::Result<File> {
    let mut options = File::options();
    options.append(true);
    if !is_shared {
        socket::remove(log)?;
        return options.create_new(true).open(log);
    }
    // What cannot be written, on a full disk say, is no reason not to take over.
    let Ok(mut file) = options.create(true).open(log) else {
        return File::options().append(true).open("/dev/null");
    };
    let _ = writeln!(file, "{SUCCESSION}");
    Ok(file)
}

/// Tells in a log that the worker that was to take over is gone, and did not.
pub(super) fn close_log(log: &Path) {
    // What cannot be written is missed by nobody but who reads it.
    if let Ok(mut file) = File::options().append(true).open(log) {
        let _ = writeln!(file, "{NO_SUCCESSION}");
    }
}

/// A descriptor of a child, by which it is seen to end. From then on it is reaped by it.
pub(super) fn watch(mut child: Child) -> Result<OwnedFd, Error> {
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

/// Waits until a worker that took over answers. Blocks.
pub(crate) fn wait_answers(worker: &Worker) -> Result<(), String> {
    let deadline = Instant::now() + READY_PATIENCE;
    wait_ready(&worker.pidfd, &worker.control, deadline).map_err(|why| match why {
        NotReady::Ended => "it has ended".to_owned(),
        NotReady::Late => "it took too long to answer".to_owned(),
        NotReady::Control(error) => error.to_string(),
    })
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
