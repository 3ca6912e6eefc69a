//! A vGPU of ours, run as a user would: by `vgpu run`, asked by `vgpu`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::guest::Guest;
use crate::stream::Deadline;
use crate::{Error, Process, Programs, Result, Screen};

/// How long it may take to start, and to end.
const LIMIT: Duration = Duration::from_secs(10);

/// Names in its folder.
const SOCKET: &str = "vgpu.sock";
const CONTROL: &str = "control.sock";

/// How often a wait asks again.
const POLL: Duration = Duration::from_millis(50);

/// A running vGPU. Dropping it ends it.
#[derive(Debug)]
pub struct Vgpu {
    process: Process,
    program: PathBuf,
    /// Of `vgpu run`, without its sockets.
    arguments: Vec<String>,
    dir: TempDir,
}

impl Vgpu {
    /// Starts a vGPU of a type, with further arguments of `vgpu run`.
    pub fn run(programs: &Programs, type_name: &str, more: &[&str]) -> Result<Self> {
        let dir = tempfile::tempdir().map_err(Error::doing("make a folder for a vGPU"))?;
        let program = programs.ours("vgpu");
        let arguments = [&["--type", type_name], more].concat();
        let arguments: Vec<_> = arguments.into_iter().map(str::to_owned).collect();
        let process = spawn(&program, &arguments, dir.path())?;
        let mut vgpu = Self {
            process,
            program,
            arguments,
            dir,
        };
        vgpu.wait_answer()?;
        Ok(vgpu)
    }

    /// Kills it, and starts another one at the paths that it left behind.
    pub fn kill_and_run_again(&mut self) -> Result<()> {
        self.process.signal(Signal::KILL)?;
        self.process.wait_exit(LIMIT)?;
        self.process = spawn(&self.program, &self.arguments, self.dir.path())?;
        self.wait_answer()
    }

    /// Waits until it has made both sockets, and answers on one of them.
    fn wait_answer(&mut self) -> Result<()> {
        let (control, socket) = (self.control(), self.socket());
        self.process.wait_path(&control, LIMIT)?;
        self.process.wait_path(&socket, LIMIT)?;
        let deadline = Deadline::new("answer from a vGPU", LIMIT);
        while let Err(error) = self.status() {
            if self.process.ended()?.is_some() {
                return Err(error);
            }
            thread::sleep(deadline.left()?.min(POLL));
        }
        Ok(())
    }

    /// Where a VMM connects.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join(SOCKET)
    }

    /// Where requests go.
    pub fn control(&self) -> PathBuf {
        self.dir.path().join(CONTROL)
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Runs `vgpu COMMAND --control … ARGUMENTS`, and gives back what it printed.
    pub fn ask(&self, command: &str, arguments: &[&str]) -> Result<String> {
        let output = Command::new(&self.program)
            .args([command, "--control"])
            .arg(self.control())
            .args(arguments)
            .output()
            .map_err(Error::io("run", &self.program))?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Error::Gone(format!("vgpu {command}: {words}")));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What `vgpu status --json` says.
    pub fn status(&self) -> Result<Value> {
        let text = self.ask("status", &["--json"])?;
        serde_json::from_str(&text).map_err(|error| Error::Malformed(error.to_string()))
    }

    /// One of the counters of [`Self::status`].
    pub fn counter(&self, name: &str) -> Result<u64> {
        let status = self.status()?;
        let counter = status.pointer(&format!("/counters/{name}"));
        let number = counter.and_then(Value::as_u64);
        number.ok_or_else(|| Error::Malformed(format!("no counter {name} in {status}")))
    }

    /// Waits until no client is connected.
    pub fn wait_idle(&self) -> Result<()> {
        let deadline = Deadline::new("end of the client's session", LIMIT);
        while self.status()?["connected"] != false {
            thread::sleep(deadline.left()?.min(POLL));
        }
        Ok(())
    }

    /// Has the display at `function` show the test picture of `seed`, and compares what this vGPU
    /// shows, pixel by pixel. The text console is back on return.
    pub fn check_drawing(
        &self,
        guest: &mut Guest,
        function: &str,
        size: (u32, u32),
        seed: u32,
    ) -> Result<()> {
        let card = guest.card_of(function)?;
        let picture = guest.draw(&card, size, seed)?;
        self.wait_picture(size, seed)?;
        guest.release(picture)
    }

    /// Waits until it shows the test picture of `seed`, pixel by pixel: a driver may have told the
    /// guest that a mode is set before the device has heard of it.
    pub fn wait_picture(&self, size: (u32, u32), seed: u32) -> Result<()> {
        let deadline = Deadline::new("picture", LIMIT);
        while let Err(error) = self.check_picture(size, seed) {
            let left = deadline.left().map_err(|_| error)?;
            thread::sleep(left.min(POLL));
        }
        Ok(())
    }

    /// Compares what it shows with the test picture of `seed`, pixel by pixel.
    pub fn check_picture(&self, size: (u32, u32), seed: u32) -> Result<()> {
        let screen = self.screenshot()?;
        match screen.differs_from_pattern(seed) {
            None if screen.size() == size => Ok(()),
            difference => Err(Error::Malformed(format!(
                "a picture of {:?} shows as one of {:?}, the first difference being {difference:x?}",
                size,
                screen.size()
            ))),
        }
    }

    /// Waits until a head shows the test picture of `seed`, pixel by pixel, with the test cursor at a
    /// place if there is one.
    pub fn wait_head(
        &self,
        head: u32,
        size: (u32, u32),
        seed: u32,
        cursor: Option<(i32, i32)>,
    ) -> Result<()> {
        let check = || {
            let screen = self.screenshot_of(head)?;
            match screen.differs_from_head(seed, cursor) {
                None if screen.size() == size => Ok(()),
                difference => Err(Error::Malformed(format!(
                    "head {head} is of {:?}, the first difference being {difference:x?}",
                    screen.size()
                ))),
            }
        };
        let deadline = Deadline::new("picture of a head", LIMIT);
        while let Err(error) = check() {
            let left = deadline.left().map_err(|_| error)?;
            thread::sleep(left.min(POLL));
        }
        Ok(())
    }

    /// What a head shows, with the hardware cursor.
    pub fn screenshot_of(&self, head: u32) -> Result<Screen> {
        let file = self.dir.path().join("head.png");
        let head = head.to_string();
        let name = file.display().to_string();
        let arguments = [&name, "--head", &head, "--cursor", "--quiet"];
        self.ask("screenshot", &arguments)?;
        Screen::read_png(&file)
    }

    /// Memory of its own that the process which serves it has in use, in KiB: no files, among which is
    /// the guest's memory.
    pub fn memory_in_use(&self) -> Result<u64> {
        let pid = self.status()?["pid"].to_string();
        let path = Path::new("/proc").join(pid).join("status");
        let status = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let line = status.lines().find(|line| line.starts_with("RssAnon:"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        let number = number.and_then(|number| number.parse().ok());
        number.ok_or_else(|| Error::Malformed(status.clone()))
    }

    /// Saves what it shows as a PNG file.
    pub fn save_screenshot(&self, file: &Path) -> Result<()> {
        let name = file.display().to_string();
        self.ask("screenshot", &[&name, "--quiet"]).map(drop)
    }

    /// What it shows.
    pub fn screenshot(&self) -> Result<Screen> {
        let file = self.dir.path().join("screen.png");
        self.save_screenshot(&file)?;
        Screen::read_png(&file)
    }

    /// Ends it by SIGTERM. An error if it does not end well.
    pub fn terminate(mut self) -> Result<()> {
        self.process.signal(Signal::TERM)?;
        let status = self.process.wait_exit(LIMIT)?;
        if status.success() {
            Ok(())
        } else {
            Err(Error::Gone(format!("vgpu ended: {status}")))
        }
    }
}

fn spawn(program: &Path, arguments: &[String], dir: &Path) -> Result<Process> {
    let mut command = Command::new(program);
    command
        .arg("run")
        .args(arguments)
        .arg("--socket-path")
        .arg(dir.join(SOCKET))
        .arg("--control")
        .arg(dir.join(CONTROL));
    Process::spawn(command, &dir.join("vgpu.log"))
}
