//! The programs of a test: a worker and a console, ended with it.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use vfu::client::Client;
use vfu::wire::version::Capabilities;
use worker::control::Control;

use crate::vnc::Viewer;

/// Longer than anything here takes: a test fails after it rather than hang.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A program, ended with its value.
pub(crate) struct Program {
    pub(crate) child: Child,
    log: PathBuf,
}

impl Program {
    fn start(mut command: Command, folder: &Path, log: &str) -> Self {
        let log = folder.join(log);
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        command.current_dir(folder).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(file);
        Self {
            child: command.spawn().unwrap(),
            log,
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        wait_until("it ends", || self.child.try_wait().unwrap())
    }

    /// The process that this one has started.
    pub(crate) fn inside(&self) -> u32 {
        let pid = self.child.id();
        wait_until("the process inside", || {
            let path = format!("/proc/{pid}/task/{pid}/children");
            let children = fs::read_to_string(path).unwrap();
            children.split_whitespace().next()?.parse().ok()
        })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `is_so` gives, once it gives something.
pub(crate) fn wait_until<T>(what: &str, mut is_so: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = is_so() {
            return value;
        }
        assert!(Instant::now() < deadline, "never so: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A folder in which a worker serves at `sock` and `control`.
pub(crate) fn start_worker(folder: &TempDir, type_name: &str) -> Program {
    let mut command = Command::new(worker_program());
    command.args(["--type", type_name, "--socket-path", "sock"]);
    command.args(["--control", "control"]).arg0("vgpu-worker");
    let mut worker = Program::start(command, folder.path(), "worker.log");
    wait_until("the worker answers", || {
        let ended = worker.child.try_wait().unwrap();
        assert!(ended.is_none(), "{ended:?}: {}", worker.log());
        Control::connect(&folder.path().join("control")).ok()
    });
    worker
}

/// A VMM of that worker.
pub(crate) fn client(folder: &TempDir) -> Client {
    let socket = UnixStream::connect(folder.path().join("sock")).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let offer = Capabilities {
        max_msg_fds: Some(16),
        ..Capabilities::default()
    };
    Client::negotiate(socket.into(), offer).unwrap()
}

/// The command of a console of whoever serves at `control`, that takes viewers at `vnc`.
pub(crate) fn console_command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vgpu-console"));
    command.args(["--control", "control", "--socket-path", "vnc"]);
    command.env("RUST_LOG", "debug");
    command
}

/// A console; `more` goes to its command line. It takes viewers when it is returned.
pub(crate) fn start_console(folder: &TempDir, more: &[&str]) -> Program {
    let mut command = console_command();
    command.args(more);
    let mut console = Program::start(command, folder.path(), "console.log");
    wait_until("the console takes viewers", || {
        let ended = console.child.try_wait().unwrap();
        assert!(ended.is_none(), "{ended:?}: {}", console.log());
        Viewer::connect(&folder.path().join("vnc")).ok()
    });
    console
}

/// A console that is to refuse what it is told: what it says.
pub(crate) fn refused(folder: &TempDir, more: &[&str]) -> String {
    let mut command = console_command();
    command.args(more);
    let mut console = Program::start(command, folder.path(), "console.log");
    assert!(!console.end().success());
    console.log()
}

/// Where it listens by TCP: it says so.
pub(crate) fn tcp_address(console: &Program) -> SocketAddr {
    wait_until("the address in the log", || {
        let log = console.log();
        let (_, rest) = log.rsplit_once("viewers may connect to ")?;
        rest.split_whitespace().next()?.parse().ok()
    })
}

/// A viewer that can decode this, the most wanted first.
pub(crate) fn viewer(folder: &TempDir, encodings: &[i32]) -> Viewer {
    let mut viewer = Viewer::connect(&folder.path().join("vnc")).unwrap();
    viewer.set_encodings(encodings).unwrap();
    viewer
}

/// The worker of the same build, or of the one that `VGPUD_BIN` names.
fn worker_program() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_vgpu-console")).with_file_name("vgpu-worker");
    if beside.exists() {
        return beside;
    }
    let folder = std::env::var_os("VGPUD_BIN").expect("no vgpu-worker: cargo build -p worker");
    PathBuf::from(folder).join("vgpu-worker")
}
