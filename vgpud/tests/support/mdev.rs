//! `vgpu-mdev`, which mounts the tree of a daemon; and the tree without it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Instant;

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};
use uuid::Uuid;

use super::{Daemon, LIMIT, POLL, Process, wait_for};

/// Where the parent is, in the tree.
pub const SOFT0: &str = "sys/devices/virtual/vgpud/soft0";

/// A type of the parent's, in the tree.
pub fn type_path(name: &str) -> String {
    format!("{SOFT0}/mdev_supported_types/{name}")
}

/// A device's file, in the tree.
pub fn device_path(uuid: Uuid, file: &str) -> String {
    format!("{SOFT0}/{uuid}/{file}")
}

/// A mounted tree. Dropping it ends its program, and detaches what is left of it.
pub struct Mounted {
    child: Child,
    pub at: PathBuf,
    log: PathBuf,
}

impl Mounted {
    /// The tree of a daemon, if this host lets us mount.
    pub fn start(daemon: &Daemon) -> Option<Self> {
        if let Some(why) = obstacle() {
            eprintln!("NOT RUN: the mdev tree is not mounted: {why}");
            return None;
        }
        let mut mounted = Self {
            child: spawn(&daemon.path(""), &daemon.path("mdev.log")),
            at: daemon.path("run/vgpud/mdev"),
            log: daemon.path("mdev.log"),
        };
        mounted.wait_ready();
        Some(mounted)
    }

    /// Starts it anew where it has ended.
    pub fn start_again(&mut self, daemon: &Daemon) {
        self.child = spawn(&daemon.path(""), &self.log);
        self.wait_ready();
    }

    fn wait_ready(&mut self) {
        // Whoever waits for a file system that hangs cannot be ended, but by its end.
        let process = Process::open(self.pid());
        thread::spawn(move || {
            if !process.has_ended(LIMIT * 10) {
                process.kill();
            }
        });
        let fixed = self.path("sys/class/mdev_bus");
        wait_for("tree", || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", self.log());
            fixed.is_dir().then_some(())
        });
    }

    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.at.join(path)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it as systemd does.
    pub fn terminate(&mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            thread::sleep(POLL);
        }
    }

    pub fn read(&self, path: impl AsRef<Path>) -> io::Result<String> {
        fs::read_to_string(self.path(path))
    }

    /// Writes as mdevctl does: with `O_CREAT` and `O_TRUNC`, in one piece.
    pub fn write(&self, path: impl AsRef<Path>, data: impl AsRef<[u8]>) -> io::Result<()> {
        let data = data.as_ref();
        let written = File::create(self.path(path))?.write(data)?;
        assert_eq!(written, data.len());
        Ok(())
    }

    /// The errno of opening a file with these flags; 0 if it may be.
    pub fn open(&self, path: impl AsRef<Path>, flags: i32) -> i32 {
        let mut options = File::options();
        let (reads, writes) = (flags & 0o3 != 1, flags & 0o3 != 0);
        options.read(reads).write(writes).custom_flags(flags & !0o3);
        errno(options.open(self.path(path)))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if unmount(&self.at, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_err()
            && !rustix::process::geteuid().is_root()
        {
            let mut helper = Command::new("fusermount3");
            let _ = helper.args(["-u", "-z"]).arg(&self.at).output();
        }
    }
}

/// The program, on this root.
pub fn spawn(root: &Path, log: &Path) -> Child {
    let log = File::options().create(true).append(true).open(log).unwrap();
    Command::new(env!("CARGO_BIN_EXE_vgpu-mdev"))
        .arg("--root")
        .arg(root)
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Why nothing can be mounted here, if so.
fn obstacle() -> Option<String> {
    let mut options = File::options();
    if let Err(error) = options.read(true).write(true).open("/dev/fuse") {
        return Some(format!("/dev/fuse: {error}"));
    }
    if rustix::process::geteuid().is_root() {
        return None;
    }
    let helper = Command::new("fusermount3").arg("--version").output();
    helper
        .err()
        .map(|error| format!("not root, and fusermount3: {error}"))
}

/// The number of an error; 0 if there is none.
pub fn errno<T>(done: io::Result<T>) -> i32 {
    match done {
        Ok(_) => 0,
        Err(error) => error.raw_os_error().unwrap_or(-1),
    }
}
