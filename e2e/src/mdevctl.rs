//! Debian's own `mdevctl`, on the files that `vgpu-mdev` mounts for a daemon of ours.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};
use serde_json::Value;

use crate::{Daemon, Error, Process, Programs, Result};

/// How long the tree may take to be there.
const LIMIT: Duration = Duration::from_secs(20);

/// What mdevctl wants to be there, under its root.
const SCRIPTS: &str = "usr/lib/mdevctl/scripts.d";

/// A tree, and mdevctl on it. Dropping it ends the program that mounted the tree, and detaches what
/// is left of that.
#[derive(Debug)]
pub struct Mdevctl {
    _process: Process,
    debian: PathBuf,
    bin: PathBuf,
    at: PathBuf,
}

impl Mdevctl {
    /// Mounts the tree of a daemon, with our callout beside mdevctl's scripts. `None`, with words on
    /// standard error, where nothing can be mounted.
    pub fn mount(programs: &Programs, daemon: &Daemon) -> Result<Option<Self>> {
        let is_root = rustix::process::geteuid().is_root();
        if !is_root || !Path::new("/dev/fuse").exists() {
            eprintln!("NOT RUN: the mdev tree is mounted by root alone, and with /dev/fuse");
            return Ok(None);
        }
        let debian = env::var_os("VGPUD_DEBIAN").ok_or(Error::Environment("VGPUD_DEBIAN"))?;
        let root = daemon.root();
        prepare(root)?;
        let at = daemon.api().with_file_name("mdev");
        let mut command = Command::new(programs.ours("vgpu-mdev"));
        command.arg("--root").arg(root);
        command.arg("--config").arg(root.join("vgpud.toml"));
        // From here on the tree is detached, whatever fails.
        let mut mounted = Self {
            _process: Process::spawn(command, &root.join("mdev.log"))?,
            debian: debian.into(),
            bin: programs.bin.clone(),
            at,
        };
        let fixed = mounted.path("sys/class/mdev_bus");
        mounted._process.wait_path(&fixed, LIMIT)?;
        Ok(Some(mounted))
    }

    /// A path in the tree.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.at.join(path)
    }

    /// What `vgpu-mdev` logged.
    pub fn log(&self) -> String {
        self._process.log()
    }

    /// Runs `mdevctl ARGUMENTS`, by Debian's own loader and libraries.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        let loader = self.debian.join("usr/lib64/ld-linux-x86-64.so.2");
        let path = env::var("PATH").unwrap_or_default();
        Command::new("timeout")
            .arg("120")
            .arg(&loader)
            .arg("--library-path")
            .arg(self.debian.join("usr/lib/x86_64-linux-gnu"))
            .arg(self.debian.join("usr/bin/mdevctl"))
            .args(arguments)
            .env("MDEVCTL_ENV_ROOT", &self.at)
            .env("RUST_BACKTRACE", "0")
            // For the callout, which runs `vgpu`.
            .env("PATH", format!("{}:{path}", self.bin.display()))
            .env_remove("VGPUD_API")
            .stdin(Stdio::null())
            .output()
            .map_err(Error::io("run", Path::new("timeout")))
    }

    /// The same, which must succeed: what it printed.
    pub fn ask(&self, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments)?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Error::Gone(format!("mdevctl {arguments:?}: {words}")));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The same, which must fail: its words.
    pub fn refused(&self, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments)?;
        if output.status.success() {
            return Err(Error::Malformed(format!("mdevctl {arguments:?} succeeded")));
        }
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// What it prints as JSON.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.ask(arguments)?;
        serde_json::from_str(&text).map_err(|error| Error::Malformed(format!("{error}: {text}")))
    }
}

impl Drop for Mdevctl {
    fn drop(&mut self) {
        // Without its mount the program ends; it is killed when it is dropped if it does not.
        let _ = unmount(&self.at, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    }
}

/// What Debian's package of mdevctl has on a host, and ours adds.
fn prepare(root: &Path) -> Result<()> {
    for folder in ["callouts", "notifiers"] {
        let folder = root.join(SCRIPTS).join(folder);
        fs::create_dir_all(&folder).map_err(Error::io("make", &folder))?;
    }
    let definitions = root.join("etc/mdevctl.d");
    fs::create_dir_all(&definitions).map_err(Error::io("make", &definitions))?;
    let ours = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/mdevctl/vgpud");
    let callout = root.join(SCRIPTS).join("callouts/vgpud");
    symlink(ours, &callout).map_err(Error::io("make", &callout))
}
