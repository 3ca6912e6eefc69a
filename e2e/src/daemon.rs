//! The daemon of ours, run as an administrator would, asked by `vgpu`; and its vGPUs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::stream::Deadline;
use crate::{Error, Process, Programs, Result, Screen};

/// How long it may take to start, and to end.
const LIMIT: Duration = Duration::from_secs(20);

/// How often a wait looks again.
const LOOK: Duration = Duration::from_millis(5);

/// Where it listens, under its root.
const API: &str = "run/vgpud/api.sock";

/// A running daemon, all of whose files are in a folder of its own. Dropping it ends it and the
/// workers that it has.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    daemon: PathBuf,
    program: PathBuf,
    root: TempDir,
}

impl Daemon {
    /// Starts one.
    pub fn run(programs: &Programs) -> Result<Self> {
        Self::run_with(programs, "")
    }

    /// Starts one with this configuration.
    pub fn run_with(programs: &Programs, config: &str) -> Result<Self> {
        let root = tempfile::tempdir().map_err(Error::doing("make a folder for the daemon"))?;
        let file = root.path().join("vgpud.toml");
        fs::write(&file, config).map_err(Error::io("write", &file))?;
        let daemon = programs.ours("vgpud");
        let mut process = start(&daemon, root.path())?;
        process.wait_path(&root.path().join(API), LIMIT)?;
        Ok(Self {
            process,
            daemon,
            program: programs.ours("vgpu"),
            root,
        })
    }

    /// Kills it, and starts it again. Its workers live.
    pub fn kill_and_restart(&mut self) -> Result<()> {
        self.process.signal(Signal::KILL)?;
        self.process.wait_exit(LIMIT)?;
        self.process = start(&self.daemon, self.root.path())?;
        let deadline = Deadline::new("the daemon's answer", LIMIT);
        while self.list().is_err() {
            thread::sleep(deadline.left()?.min(LOOK));
        }
        Ok(())
    }

    /// What all its paths start at.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The socket of its API.
    pub fn api(&self) -> PathBuf {
        self.root.path().join(API)
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Runs `vgpu COMMAND --api … ARGUMENTS`.
    pub fn run_vgpu(&self, command: &str, arguments: &[&str]) -> Result<Output> {
        Command::new(&self.program)
            .args([command, "--api"])
            .arg(self.api())
            .args(arguments)
            .output()
            .map_err(Error::io("run", &self.program))
    }

    /// The same, which must succeed: what it printed.
    pub fn vgpu(&self, command: &str, arguments: &[&str]) -> Result<String> {
        let output = self.run_vgpu(command, arguments)?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Error::Gone(format!("vgpu {command}: {words}")));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Has a vGPU started that lasts until it is stopped.
    pub fn start(&self, type_name: &str, attributes: &[&str]) -> Result<Instance> {
        let mut arguments = vec!["--json", "--parent", "soft0", "--type", type_name];
        arguments.extend(attributes.iter().flat_map(|it| ["--attr", *it]));
        let text = self.vgpu("start", &arguments)?;
        Instance::parse(&text)
    }

    /// What it knows of its vGPUs.
    pub fn list(&self) -> Result<Vec<Value>> {
        let text = self.vgpu("list", &["--json"])?;
        serde_json::from_str(&text).map_err(|error| Error::Malformed(error.to_string()))
    }

    /// What a vGPU shows.
    pub fn screenshot(&self, instance: &Instance, file: &Path) -> Result<Screen> {
        let name = file.display().to_string();
        self.vgpu("screenshot", &[&instance.uuid, &name, "--quiet"])?;
        Screen::read_png(file)
    }

    /// Waits until a head of a vGPU shows the test picture of `seed`, with the test cursor at a place if
    /// there is one: its worker may be another one by then.
    pub fn wait_head(
        &self,
        instance: &Instance,
        head: u32,
        seed: u32,
        cursor: Option<(i32, i32)>,
    ) -> Result<()> {
        let file = self.root().join("head.png");
        let (number, name) = (head.to_string(), file.display().to_string());
        let arguments = [
            &instance.uuid,
            &name,
            "--head",
            &number,
            "--cursor",
            "--quiet",
        ];
        let check = || {
            self.vgpu("screenshot", &arguments)?;
            let screen = Screen::read_png(&file)?;
            match screen.differs_from_head(seed, cursor) {
                None => Ok(()),
                Some(difference) => Err(Error::Malformed(format!(
                    "head {head} differs at first by {difference:x?}"
                ))),
            }
        };
        let deadline = Deadline::new("picture of a head", LIMIT);
        while let Err(error) = check() {
            let left = deadline.left().map_err(|_| error)?;
            thread::sleep(left.min(LOOK));
        }
        Ok(())
    }
}

fn start(daemon: &Path, root: &Path) -> Result<Process> {
    let mut command = Command::new(daemon);
    command.arg("--root").arg(root);
    command.arg("--config").arg(root.join("vgpud.toml"));
    Process::spawn(command, &root.join("log"))
}

/// Sends a signal to a worker.
pub fn kill(pid: u32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(pid.cast_signed());
    let pid = pid.ok_or_else(|| Error::Gone("a worker without a process".to_owned()))?;
    kill_process(pid, signal).map_err(|error| Error::doing("kill a worker")(error.into()))
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Workers outlive the daemon, and must not outlive the test.
        for instance in self.list().unwrap_or_default() {
            if let Some(uuid) = instance["uuid"].as_str() {
                let _ = self.run_vgpu("stop", &["--force", uuid]);
            }
        }
    }
}

/// A vGPU of a daemon.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Its name.
    pub uuid: String,
    /// Where a VMM connects.
    pub socket: PathBuf,
    /// Its worker.
    pub pid: u32,
}

impl Instance {
    fn parse(text: &str) -> Result<Self> {
        let malformed = || Error::Malformed(format!("a vGPU: {text}"));
        let value: Value = serde_json::from_str(text).map_err(|_| malformed())?;
        let word = |name: &str| value[name].as_str().map(str::to_owned);
        Ok(Self {
            uuid: word("uuid").ok_or_else(malformed)?,
            socket: word("socket").ok_or_else(malformed)?.into(),
            pid: value["pid"]
                .as_u64()
                .and_then(|pid| u32::try_from(pid).ok())
                .ok_or_else(malformed)?,
        })
    }

    /// Kills its worker, as a crash would.
    pub fn kill(&self) -> Result<()> {
        kill(self.pid, Signal::KILL)
    }
}
