//! A worker, started for a test and ended with it.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ::worker::control::Control;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use vfu::client::Client;
use vfu::wire::version::Capabilities;

/// Longer than anything here takes: a test fails after it rather than hang.
const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Worker {
    pub(crate) child: Child,
    pub(crate) dir: TempDir,
}

impl Worker {
    /// Serves a type; `more` goes to the command line. Ready when it is returned.
    pub(crate) fn start(type_name: &str, more: &[&str]) -> Self {
        Self::start_by(type_name, more, |_| ())
    }

    /// The same, the command changed before.
    pub(crate) fn start_by(
        type_name: &str,
        more: &[&str],
        change: impl FnOnce(&mut Command),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_vgpu-worker"));
        command
            .args(["--type", type_name])
            .args(["--socket-path", "sock", "--control", "control"])
            .args(more)
            .arg0("vgpu-worker")
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        change(&mut command);
        let child = command.spawn().unwrap();
        let mut worker = Self { child, dir };
        worker.wait_until("it answers", |worker| {
            let ended = worker.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", worker.log());
            Control::connect(&worker.path("control")).is_ok()
        });
        worker
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn control(&self) -> Control {
        Control::connect(&self.path("control")).unwrap()
    }

    /// A VMM that cannot be asked for memory by messages.
    pub(crate) fn client(&self) -> Client {
        let socket = UnixStream::connect(self.path("sock")).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let offer = Capabilities {
            max_msg_fds: Some(16),
            ..Capabilities::default()
        };
        Client::negotiate(socket.into(), offer).unwrap()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits until no client is connected.
    pub(crate) fn wait_idle(&mut self) {
        self.wait_until("the client is gone", |worker| {
            !worker.control().status().unwrap().connected
        });
    }

    /// Waits for the end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        self.wait_until("it ends", |worker| {
            worker.child.try_wait().unwrap().is_some()
        });
        self.child.wait().unwrap()
    }

    /// Ends it well: no socket is left, and nothing was refused.
    pub(crate) fn stop(mut self) {
        self.control().stop().unwrap();
        let end = self.end();
        assert!(end.success(), "{end}: {}", self.log());
        assert!(!self.path("sock").exists() && !self.path("control").exists());
    }

    pub(crate) fn wait_until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !is_so(self) {
            let log = self.log();
            assert!(Instant::now() < deadline, "never so: {what}; {log}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
