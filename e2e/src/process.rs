//! A process that a test starts, and that ends with it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::stream::Deadline;
use crate::{Error, Result};

/// How often a wait looks again.
const POLL: Duration = Duration::from_millis(20);

/// A child whose output goes to a log file. When a test fails, dropping it prints the log.
///
/// Only a process that this harness started is ever signalled: `Child` knows whether it still is
/// one.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
    has_failed: bool,
}

impl Process {
    /// Starts `command` with standard output and error in the file `log`.
    pub fn spawn(mut command: Command, log: &Path) -> Result<Self> {
        let program = PathBuf::from(command.get_program());
        let name = program.file_name().unwrap_or(program.as_os_str());
        let output = File::create(log).map_err(Error::io("create", log))?;
        let errors = output.try_clone().map_err(Error::io("open", log))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(Error::io("start", &program))?;
        Ok(Self {
            child,
            name: name.display().to_string(),
            log: log.to_owned(),
            has_failed: false,
        })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait();
        status.map_err(Error::doing(&format!("wait for {}", self.name)))
    }

    /// Waits until it has ended by itself.
    pub fn wait_exit(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("end of {}", self.name);
        let deadline = Deadline::new(&what, limit);
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            thread::sleep(deadline.left()?.min(POLL));
        }
    }

    /// Waits until it has made `path`, such as the socket that it serves.
    pub fn wait_path(&mut self, path: &Path, limit: Duration) -> Result<()> {
        let what = path.display().to_string();
        let deadline = Deadline::new(&what, limit);
        while !path.exists() {
            if let Some(status) = self.ended()? {
                self.has_failed = true;
                return Err(Error::Gone(format!("{} ended: {status}", self.name)));
            }
            thread::sleep(deadline.left()?.min(POLL));
        }
        Ok(())
    }

    /// Sends it a signal, unless it has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.ended()?.is_none()
            && let Some(pid) = Pid::from_raw(self.child.id().cast_signed())
        {
            kill_process(pid, signal)
                .map_err(|error| Error::doing(&format!("signal {}", self.name))(error.into()))?;
        }
        Ok(())
    }

    /// Has the log printed although no test is failing yet.
    pub(crate) fn mark_failed(&mut self) {
        self.has_failed = true;
    }

    /// Whether whoever drops this should say what is known.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed || thread::panicking()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if self.has_failed() {
            eprintln!("---- {} ----\n{}", self.name, self.log());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn shell(script: &str, dir: &Path) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(dir);
        Process::spawn(command, &dir.join("log")).unwrap()
    }

    #[test]
    fn a_process_is_awaited_read_and_signalled() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = shell(
            "echo up; echo oh >&2; touch sock; exec sleep 1000",
            dir.path(),
        );
        process.wait_path(&dir.path().join("sock"), LIMIT).unwrap();
        assert_eq!(process.log(), "up\noh\n");
        assert!(process.ended().unwrap().is_none());
        process.signal(Signal::TERM).unwrap();
        assert!(!process.wait_exit(LIMIT).unwrap().success());
        process.signal(Signal::TERM).unwrap();
    }

    #[test]
    fn one_that_ends_early_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = shell("exit 3", dir.path());
        let error = process.wait_path(&dir.path().join("sock"), LIMIT);
        assert!(matches!(error, Err(Error::Gone(_))), "{error:?}");
    }
}
