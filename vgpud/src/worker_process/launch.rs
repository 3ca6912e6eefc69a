//! How a worker is started and waited for.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use rustix::event::PollFlags;
use rustix::process::{Signal, pidfd_send_signal};
use worker::control::{Control, ControlError};
use worker::parking::Parking;

use crate::accounts::Access;
use crate::api::Attribute;
use crate::error::Error;
use crate::functions::Name;
use crate::held::DevicePlan;
use crate::paths::Paths;

use super::confinement::Confinement;
use super::exit::{NO_SUCCESSION, SUCCESSION, reap};
use super::keeping::Keeping;
use super::life::{Life, is_told_within};
use super::seat::SeatPlan;
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
const LOOK: Duration = Duration::from_micros(500);

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
    /// If it is to share the worker of a physical device.
    pub(crate) seat: Option<SeatPlan>,
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
        match &plan.seat {
            None => self.launch_process(plan),
            Some(how) => self.take_seat(plan, how),
        }
    }

    fn launch_process(&self, plan: &Plan) -> Result<Worker, Error> {
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
                let life = Life::Process(pidfd);
                Ok(Worker::new(life, identity, control, log, keeping))
            }
            Err(error) => {
                // What went wrong before is what is to be told.
                let _ = socket::remove(&control).and(socket::remove(&log));
                plan.confinement.clean_up();
                Err(error)
            }
        }
    }

    pub(crate) fn identify(&self, pid: u32) -> Result<crate::records::WorkerIdentity, Error> {
        identity::of(pid, &self.boot_id).map_err(Error::os("identify a worker"))
    }

    /// A worker that is asked at `control` and talks to `log`. Its environment is empty: what the
    /// daemon's holds, a Mesa variable say, must not choose what a worker does.
    fn command(
        &self,
        confinement: &Confinement,
        control: &Path,
        log: &Path,
        goes_on: bool,
    ) -> Result<Command, Error> {
        // One that a killed worker left behind.
        socket::remove(control).map_err(Error::os(self.what()))?;
        let output = open_log(log, goes_on);
        let output = output.map_err(Error::os::<io::Error>(format!("make {}", log.display())))?;
        let mut command = Command::new(&self.program);
        command
            .arg("--control")
            .arg(control)
            .args(confinement.arguments())
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output);
        Ok(command)
    }

    fn what(&self) -> String {
        format!("start {}", self.program.display())
    }

    /// Starts it. The descriptors are closed here with the command: the worker alone has them.
    fn run(&self, mut command: Command, fds: Vec<FdMapping>) -> Result<Child, Error> {
        command
            .fd_mappings(fds)
            .map_err(|error| Error::os(self.what())(io::Error::other(error.to_string())))?;
        command.spawn().map_err(Error::os::<io::Error>(self.what()))
    }

    /// Starts the process of one vGPU.
    pub(super) fn spawn(
        &self,
        plan: &Plan,
        sockets: Sockets,
        control: &Path,
        log: &Path,
    ) -> Result<Child, Error> {
        let mut command =
            self.command(&plan.confinement, control, log, sockets.resume.is_some())?;
        command
            .args(["--type", &plan.base, "--fd", &SOCKET_FD.to_string()])
            .args(["--keeper", &KEEPER_FD.to_string()]);
        if drivers::uses_engine(&plan.base) {
            command.arg("--leased");
        }
        if sockets.resume.is_some() {
            command.args(["--resume", &RESUME_FD.to_string()]);
        }
        for Attribute { name, value } in &plan.attributes {
            command.arg(format!("--attribute={name}={value}"));
        }
        self.run(command, sockets.mappings())
    }

    /// Starts the process of a physical device's worker.
    pub(crate) fn spawn_device(
        &self,
        plan: &DevicePlan,
        files: OwnedFd,
        control: &Path,
        log: &Path,
    ) -> Result<Child, Error> {
        let host = &plan.host;
        let mut command = self.command(&plan.confinement, control, log, log.exists())?;
        command
            .args(["--parent", &host.address.to_string()])
            .args(["--parent-files", &SOCKET_FD.to_string()]);
        if let Some(bytes) = host.lock_limit {
            command.arg(format!("--lock-limit={bytes}"));
        }
        for Attribute { name, value } in &host.settings {
            command.arg(format!("--parent-setting={name}={value}"));
        }
        let files = FdMapping {
            parent_fd: files,
            child_fd: SOCKET_FD,
        };
        self.run(command, vec![files])
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
pub(crate) fn watch(mut child: Child) -> Result<OwnedFd, Error> {
    identity::open_pid(child.id()).map_err(|error| {
        // Nobody would see its end: better it has it now.
        let _ = child.kill().and_then(|()| child.wait());
        Error::os("watch a worker")(error)
    })
}

/// Why a worker is not ready.
pub(crate) enum NotReady {
    /// It has ended.
    Ended,
    /// It takes too long.
    Late,
    /// What it answers makes no sense.
    Control(ControlError),
}

/// Waits until a worker that took over answers. Blocks.
pub(crate) fn wait_answers(worker: &Worker) -> Result<(), String> {
    let deadline = Instant::now() + READY_PATIENCE;
    let ended = |patience| worker.life.has_ended_within(patience);
    wait_until_ready(ended, &worker.control, deadline).map_err(|why| match why {
        NotReady::Ended => "it has ended".to_owned(),
        NotReady::Late => "it took too long to answer".to_owned(),
        NotReady::Control(error) => error.to_string(),
    })
}

/// Waits until a worker's process answers. Blocks.
pub(crate) fn wait_ready(
    pidfd: &OwnedFd,
    control: &Path,
    deadline: Instant,
) -> Result<(), NotReady> {
    let ended = |patience| is_told_within(pidfd.as_fd(), PollFlags::IN, patience);
    wait_until_ready(ended, control, deadline)
}

fn wait_until_ready(
    has_ended_within: impl Fn(Duration) -> bool,
    control: &Path,
    deadline: Instant,
) -> Result<(), NotReady> {
    loop {
        if has_ended_within(LOOK) {
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
