//! A root of its own for Debian's programs and ours: what an administrator types runs there as it
//! is written, at the places that it names, and this machine keeps nothing of it.
//!
//! The tree is the one that `setup/debian.sh` unpacks. It takes namespaces, which not every machine
//! gives to every user.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::geteuid;
use tempfile::TempDir;

use crate::{Error, Process, Programs, Result};

mod shell;

pub use shell::Shell;

/// Makes the root, and enters it.
const ENTER: &str = include_str!("debian/enter.sh");

/// A root that is yet to be entered.
#[derive(Debug)]
pub struct DebianRoot {
    tree: PathBuf,
    /// What is put into it: where it lies, and where it is to be.
    bound: Vec<(PathBuf, String)>,
    /// The scripts, and the place where the root is mounted.
    scratch: TempDir,
}

impl DebianRoot {
    /// A root of the tree that `VGPUD_DEBIAN` names; none where namespaces are not to be had.
    pub fn from_env() -> Result<Option<Self>> {
        let tree = env::var_os("VGPUD_DEBIAN").filter(|tree| !tree.is_empty());
        let tree = tree.ok_or(Error::Environment("VGPUD_DEBIAN"))?.into();
        if !has_namespaces()? {
            return Ok(None);
        }
        let scratch = tempfile::tempdir().map_err(Error::doing("make a folder for a root"))?;
        Ok(Some(Self {
            tree,
            bound: Vec::new(),
            scratch,
        }))
    }

    /// Puts the folder or file at `host` into it.
    #[must_use]
    pub fn bind(mut self, host: &Path, inside: &str) -> Self {
        self.bound.push((host.to_owned(), inside.to_owned()));
        self
    }

    /// Puts QEMU into it, as `/opt/qemu/qemu`; none where QEMU is not one that brings its libraries
    /// along, as that of `./x` does: this machine's libraries are not in there.
    #[must_use]
    pub fn bind_qemu(self, programs: &Programs) -> Option<Self> {
        let folder = programs.qemu.parent()?;
        let is_whole = folder.join("qemu") == programs.qemu && folder.join("lib").is_dir();
        is_whole.then(|| self.bind(folder, "/opt/qemu"))
    }

    /// Runs a script of bash in it. All that the script starts ends with it, and it with the test.
    pub fn run(&self, script: &str, log: &Path) -> Result<Process> {
        let write = |name: &str, text: &str| {
            let path = self.scratch.path().join(name);
            fs::write(&path, text).map_err(Error::io("write", &path))?;
            Ok(path)
        };
        let place = self.scratch.path().join("place");
        fs::create_dir_all(&place).map_err(Error::io("create", &place))?;
        let mut command = unshare();
        command.arg("sh").arg(write("enter.sh", ENTER)?);
        command.args([&self.tree, &place, &write("script", script)?]);
        for (host, inside) in &self.bound {
            command.args([host.into(), OsString::from(inside)]);
        }
        command.env_clear().env("PATH", PATH).env("HOME", "/root");
        Process::spawn(command, log)
    }
}

/// As in a shell of root's.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The program that enters namespaces; who is not root is root in them.
fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation=private", "--pid", "--fork"]);
    command.arg("--kill-child");
    if !geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command
}

fn has_namespaces() -> Result<bool> {
    let tried = unshare()
        .arg("true")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let status = tried.map_err(Error::io("run", Path::new("unshare")))?;
    Ok(status.success())
}
