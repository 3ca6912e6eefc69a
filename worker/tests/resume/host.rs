//! What the daemon does, as far as it takes to go on: it starts workers, keeps what they park, and
//! hands it to the next.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ::worker::control::Control;
use ::worker::parking::{JOURNAL, Parked, Parking};
use ::worker::resume::{Answer, Handing, Outlook};
use command_fds::{CommandFdExt, FdMapping};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Longer than anything here takes: a test fails after it rather than hang.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// One vGPU and its worker of now.
pub(crate) struct Host {
    pub(crate) dir: TempDir,
    arguments: Vec<String>,
    listener: OwnedFd,
    pub(crate) worker: Running,
}

/// A worker.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) parking: Parking,
}

impl Host {
    pub(crate) fn start(type_name: &str) -> Self {
        Self::start_with(type_name, &[])
    }

    /// With `more` on each worker's command line.
    pub(crate) fn start_with(type_name: &str, more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("sock")).unwrap().into();
        let arguments = ["--type", type_name]
            .into_iter()
            .chain(more.iter().copied());
        let arguments: Vec<_> = arguments.map(str::to_owned).collect();
        let worker = spawn(&dir, &arguments, &listener, None);
        let host = Self {
            dir,
            arguments,
            listener,
            worker,
        };
        host.wait_for_control();
        host
    }

    pub(crate) fn wait_for_control(&self) {
        let deadline = Instant::now() + DEADLINE;
        while Control::connect(&self.path("control")).is_err() {
            assert!(Instant::now() < deadline, "no worker: {}", self.log());
            thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn control(&self) -> Control {
        Control::connect(&self.path("control")).unwrap()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    pub(crate) fn connect(&self) -> UnixStream {
        let socket = UnixStream::connect(self.path("sock")).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket
    }

    /// Takes in what the worker has parked, until it has this.
    pub(crate) fn wait_parked(&mut self, id: u32) {
        let deadline = Instant::now() + DEADLINE;
        while !self.worker.parking.parked().contains_key(&id) {
            assert!(
                Instant::now() < deadline,
                "{id} was not parked: {}",
                self.log()
            );
            self.worker.parking.take_in().unwrap();
            thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn kill(&mut self, signal: Signal) {
        let pid = Pid::from_raw(self.worker.child.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
        self.worker.child.wait().unwrap();
    }

    /// Waits until the worker has ended by itself.
    pub(crate) fn wait_for_end(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        while self.worker.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "it lives: {}", self.log());
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Takes in all that a worker that is gone has parked.
    pub(crate) fn take_in(&mut self) {
        while self.worker.parking.take_in().unwrap() {}
    }

    /// Starts another worker in place of one that is gone.
    pub(crate) fn recover(&mut self) -> Result<Outlook, String> {
        self.take_in();
        let mut next = self.hand(false)?;
        std::mem::swap(&mut self.worker, &mut next.0);
        next.1.go().unwrap();
        Ok(next.2)
    }

    /// Has a new worker, with `more` on its command line, try to take over from the one of now.
    pub(crate) fn upgrade_with(&mut self, more: &[&str]) -> Result<Outlook, String> {
        let before = self.arguments.len();
        self.arguments.extend(more.iter().map(|&it| it.to_owned()));
        let outlook = self.upgrade();
        self.arguments.truncate(before);
        outlook
    }

    /// Has a new worker take over from the one of now.
    pub(crate) fn upgrade(&mut self) -> Result<Outlook, String> {
        self.upgrade_after(|_| ())
    }

    /// The same, after something was done to what is handed over.
    pub(crate) fn upgrade_after(
        &mut self,
        change: impl FnOnce(&Parked),
    ) -> Result<Outlook, String> {
        self.worker.parking.take_in().unwrap();
        self.control().hand_over().unwrap();
        self.worker.parking.take_in().unwrap();
        change(self.worker.parking.parked());
        let control = self.path("control");
        fs::rename(&control, self.path("old")).unwrap();
        let old = Control::connect(&self.path("old")).unwrap();
        match self.hand(true) {
            Ok((next, handing, outlook)) => {
                old.leave().unwrap();
                assert!(self.worker.child.wait().unwrap().success());
                self.worker = next;
                handing.go().unwrap();
                self.wait_for_control();
                Ok(outlook)
            }
            Err(words) => {
                let _ = fs::remove_file(&control);
                fs::rename(self.path("old"), &control).unwrap();
                old.go_on().unwrap();
                Err(words)
            }
        }
    }

    fn hand(&mut self, is_upgrade: bool) -> Result<(Running, Handing, Outlook), String> {
        if !is_upgrade {
            let _ = fs::remove_file(self.path("control"));
        }
        let (handing, theirs) = Handing::new().unwrap();
        let mut next = spawn(&self.dir, &self.arguments, &self.listener, Some(theirs));
        let parked = self.worker.parking.parked();
        assert!(
            parked.contains_key(&JOURNAL),
            "{:?} {}",
            parked.keys(),
            self.log()
        );
        handing.hand_over(parked).unwrap();
        let copies = parked.iter();
        let copies = copies.map(|(id, fd)| (*id, fd.as_fd().try_clone_to_owned().unwrap()));
        next.parking.fill(copies.collect());
        match handing.answer(DEADLINE) {
            Ok(Answer::Ready(outlook)) => Ok((next, handing, outlook)),
            Ok(Answer::Refused { words }) => {
                // No word will come.
                drop(handing);
                next.child.wait().unwrap();
                Err(words)
            }
            Err(error) => panic!("{error}: {}", self.log()),
        }
    }

    /// Ends it well.
    pub(crate) fn stop(mut self) {
        self.control().stop().unwrap();
        let end = self.worker.child.wait().unwrap();
        assert!(end.success(), "{end}: {}", self.log());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(
    dir: &TempDir,
    arguments: &[String],
    listener: &OwnedFd,
    resume: Option<OwnedFd>,
) -> Running {
    let (parking, keeper) = Parking::new().unwrap();
    let log = File::options()
        .append(true)
        .create(true)
        .open(dir.path().join("log"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_vgpu-worker"));
    command
        .args(arguments)
        .args(["--control", "control"])
        .args(["--fd", "3", "--keeper", "4"])
        .arg0("vgpu-worker")
        .env_clear()
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.unwrap());
    let mut fds = vec![listener.try_clone().unwrap(), keeper];
    if let Some(resume) = resume {
        command.args(["--resume", "5"]);
        fds.push(resume);
    }
    let mappings = (3..).zip(fds).map(|(child_fd, parent_fd)| FdMapping {
        parent_fd,
        child_fd,
    });
    command.fd_mappings(mappings.collect()).unwrap();
    Running {
        child: command.spawn().unwrap(),
        parking,
    }
}

/// Whether the other end has closed, with nothing left to read.
pub(crate) fn is_closed(mut socket: &UnixStream) -> bool {
    matches!(socket.read(&mut [0; 1]), Ok(0))
}
