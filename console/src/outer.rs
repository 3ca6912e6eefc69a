//! The process that is started: it opens what is needed, starts the one that viewers talk to, and
//! runs its errands. No viewer ever sends it a byte.

use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use command_fds::{CommandFdExt, FdMapping};
use rustix::net::sockopt;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use worker::arguments::SandboxMode;
use worker::claimed::{ClaimedPath, claim};
use worker::control::{Control, ControlError};
use worker::inherited;

use crate::arguments::Arguments;
use crate::confinement::NICENESS;
use crate::errand::{self, Instructions};
use crate::inner::{ERRANDS_FD, KEYBOARD_FD, SOCKET_FD, TABLET_FD, TCP_FD};
use crate::password::Password;

/// Starts the process that viewers talk to, and serves it until it ends or a signal comes.
pub fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT]).context("cannot take signals")?;
    let control = arguments
        .control
        .as_deref()
        .context("no control socket is named")?;
    need_head(control, arguments.head)?;
    let password = password(arguments)?;
    let takes_tcp = arguments.tcp.is_some() || arguments.tcp_fd.is_some();
    ensure!(
        !takes_tcp || password.is_some(),
        "who takes viewers by TCP needs a password for them: --password-file FILE"
    );
    ensure!(
        takes_tcp || password.is_none(),
        "the password is for TCP, which is not asked for; who may open the UNIX socket is let in"
    );
    let (socket, _claimed) = socket(arguments)?;
    let tcp = tcp(arguments)?;
    let instructions = Instructions {
        name: arguments.name.clone(),
        head: arguments.head,
        password: password.map(|password| password.text()),
        patience: Duration::from_secs(arguments.patience),
        apart: Duration::from_secs(1) / arguments.fps,
    };
    // Those of the worker come first. It fails only where it is lower already.
    let _ = rustix::process::nice(NICENESS);
    let (asking, running) = errand::pair().context("cannot make a socket pair")?;
    let mut sockets = vec![(socket, SOCKET_FD), (asking, ERRANDS_FD)];
    sockets.extend(tcp.map(|tcp| (tcp, TCP_FD)));
    sockets.extend(start_input(arguments)?);
    let mut child = Inside(spawn(arguments, sockets)?);
    let errands = {
        let control = control.to_owned();
        let signals = signals.handle();
        thread::spawn(move || {
            let run = errand::run(&running, &control, &instructions);
            signals.close();
            run
        })
    };
    announce(arguments);
    let is_told = signals.forever().next().is_some();
    if is_told {
        return Ok(());
    }
    let status = child
        .0
        .wait()
        .context("cannot wait for the process inside")?;
    let run = errands.join().unwrap_or(Ok(()));
    finish(status, run)
}

/// Refuses a head that the display has not. A worker that is not there may come.
fn need_head(control: &Path, head: u32) -> anyhow::Result<()> {
    if head == 0 {
        return Ok(());
    }
    match Control::connect(control).and_then(|control| control.scanout(head)) {
        Err(ControlError::Refused { errno, message }) if errno == "EINVAL" => bail!("{message}"),
        _ => Ok(()),
    }
}

fn finish(status: ExitStatus, run: std::io::Result<()>) -> anyhow::Result<()> {
    run.context("cannot run errands")?;
    if !status.success() {
        bail!("the process that viewers talk to ended: {status}");
    }
    Ok(())
}

/// Ends with its value.
struct Inside(Child);

impl Drop for Inside {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn password(arguments: &Arguments) -> anyhow::Result<Option<Password>> {
    if let Some(path) = &arguments.password_file {
        return Password::read(path).map(Some);
    }
    let Some(number) = arguments.password_fd else {
        return Ok(None);
    };
    let file = inherited::take("--password-fd", number)?;
    let password = Password::read_from(std::fs::File::from(file));
    password
        .context("--password-fd has none that can be used")
        .map(Some)
}

fn socket(arguments: &Arguments) -> anyhow::Result<(OwnedFd, Option<ClaimedPath>)> {
    if let Some(path) = &arguments.socket_path {
        let is_live = |path: &Path| UnixStream::connect(path).map(drop);
        let (listener, claimed) = claim(path, |path| UnixListener::bind(path), is_live)?;
        return Ok((listener.into(), Some(claimed)));
    }
    let number = arguments.fd.context("neither a path nor a descriptor")?;
    Ok((listening("--fd", number)?, None))
}

fn tcp(arguments: &Arguments) -> anyhow::Result<Option<OwnedFd>> {
    let listener: OwnedFd = match (arguments.tcp, arguments.tcp_fd) {
        (Some(address), _) => {
            let listener = TcpListener::bind(address);
            let listener = listener.with_context(|| format!("cannot listen on {address}"))?;
            if let Ok(address) = listener.local_addr() {
                tracing::info!("viewers may connect to {address}");
            }
            listener.into()
        }
        (None, Some(number)) => listening("--tcp-fd", number)?,
        (None, None) => return Ok(None),
    };
    // Viewers' sockets have both from it: they are not to be changed any more when they come.
    sockopt::set_socket_keepalive(&listener, true).context("cannot set keepalive")?;
    sockopt::set_tcp_nodelay(&listener, true).context("cannot set nodelay")?;
    Ok(Some(listener))
}

fn listening(option: &str, number: i32) -> anyhow::Result<OwnedFd> {
    let fd = inherited::take(option, number)?;
    let is_listening = sockopt::socket_acceptconn(fd.as_fd());
    let is_listening = is_listening.with_context(|| format!("{option} {number} is no socket"))?;
    ensure!(is_listening, "{option} {number} does not listen");
    Ok(fd)
}

/// Runs errands to the functions that take input, from now on: the asking ends.
fn start_input(arguments: &Arguments) -> anyhow::Result<Vec<(OwnedFd, RawFd)>> {
    let functions = [
        (&arguments.keyboard, KEYBOARD_FD),
        (&arguments.tablet, TABLET_FD),
    ];
    let mut sockets = Vec::new();
    for (control, number) in functions {
        let Some(control) = control.clone() else {
            continue;
        };
        let (asking, running) = errand::input_pair().context("cannot make a socket pair")?;
        thread::spawn(move || {
            if let Err(error) = errand::run_input(&running, &control) {
                tracing::warn!("cannot run errands to {}: {error}", control.display());
            }
        });
        sockets.push((asking, number));
    }
    Ok(sockets)
}

fn spawn(arguments: &Arguments, sockets: Vec<(OwnedFd, RawFd)>) -> anyhow::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.arg("--inside").env_clear().stdin(Stdio::null());
    command.stdout(Stdio::null());
    if let Ok(filter) = std::env::var("RUST_LOG") {
        command.env("RUST_LOG", filter);
    }
    let optional = [
        ("--tcp-fd", TCP_FD),
        ("--keyboard-fd", KEYBOARD_FD),
        ("--tablet-fd", TABLET_FD),
    ];
    for (option, number) in optional {
        if sockets.iter().any(|(_, given)| *given == number) {
            command.args([option, &number.to_string()]);
        }
    }
    let confinement = &arguments.confinement;
    command.args(["--sandbox", mode(confinement.sandbox)]);
    if let Some(owner) = confinement.user {
        command.arg(format!("--user={}:{}", owner.uid, owner.gid));
    }
    if let Some(bytes) = confinement.memory_limit {
        command.arg(format!("--memory-limit={bytes}"));
    }
    if let Some(cgroup) = &confinement.cgroup {
        command.arg("--cgroup").arg(cgroup);
    }
    if confinement.debuggable {
        command.arg("--debuggable");
    }
    let mappings = sockets
        .into_iter()
        .map(|(parent_fd, child_fd)| FdMapping {
            parent_fd,
            child_fd,
        })
        .collect();
    command.fd_mappings(mappings)?;
    command
        .spawn()
        .context("cannot start the process that viewers talk to")
}

fn mode(mode: SandboxMode) -> &'static str {
    match mode {
        SandboxMode::On => "on",
        SandboxMode::Log => "log",
        SandboxMode::Off => "off",
    }
}

fn announce(arguments: &Arguments) {
    let socket = arguments.socket_path.as_ref();
    let socket = socket.map(|path| path.display().to_string());
    tracing::info!(socket, "serving viewers");
}
