//! A relay between QEMU and a vGPU, that takes the place of a VMM that migrates: the program
//! `vfu-relay`.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::{Error, Process, Programs, Result, Vgpu};

/// How long it may take to start, and to carry out an order.
const LIMIT: Duration = Duration::from_secs(30);

/// A running relay. Dropping it ends it.
#[derive(Debug)]
pub struct Relay {
    _process: Process,
    dir: TempDir,
}

impl Relay {
    /// Starts one that connects to `vgpu` once a VMM has connected to it.
    pub fn run(programs: &Programs, vgpu: &Vgpu) -> Result<Self> {
        let dir = tempfile::tempdir().map_err(Error::doing("make a folder for a relay"))?;
        let mut command = Command::new(programs.ours("vfu-relay"));
        command
            .arg("--socket")
            .arg(dir.path().join("vmm.sock"))
            .arg("--server")
            .arg(vgpu.socket())
            .arg("--control")
            .arg(dir.path().join("control.sock"));
        let mut process = Process::spawn(command, &dir.path().join("relay.log"))?;
        process.wait_path(&dir.path().join("vmm.sock"), LIMIT)?;
        Ok(Self {
            _process: process,
            dir,
        })
    }

    /// Where a VMM connects.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("vmm.sock")
    }

    /// Puts the device's state into another vGPU, and compares.
    pub fn copy_to(&self, vgpu: &Vgpu) -> Result<Value> {
        self.order("copy", &vgpu.socket())
    }

    /// The same, and has the VMM served by that vGPU from now on.
    pub fn move_to(&self, vgpu: &Vgpu) -> Result<Value> {
        self.order("move", &vgpu.socket())
    }

    fn order(&self, order: &str, path: &Path) -> Result<Value> {
        let control = self.dir.path().join("control.sock");
        let ask = || {
            let mut socket = UnixStream::connect(&control)?;
            socket.set_read_timeout(Some(LIMIT))?;
            writeln!(socket, "{order} {}", path.display())?;
            let mut answer = String::new();
            BufReader::new(socket).read_line(&mut answer)?;
            Ok(answer)
        };
        let answer: String = ask().map_err(Error::doing("order a relay"))?;
        let answer: Value =
            serde_json::from_str(&answer).map_err(|error| Error::Malformed(error.to_string()))?;
        match answer.get("error") {
            Some(words) => Err(Error::Gone(format!("{order}: {words}"))),
            None => Ok(answer),
        }
    }
}
