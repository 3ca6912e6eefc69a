//! The real daemon with the real worker, in a folder of its own.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each test program uses a part of it, and none outlives a surprise"
)]

pub mod group;
pub mod host;
pub mod http;
pub mod mdev;
pub mod seen;

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tempfile::TempDir;
use uuid::Uuid;
use vgpud::api::{CreateRequest, Event, EventKind, Instance, InstanceState};
use vgpud::client::Client;
use worker::control::Control;

/// How long anything may take before a test fails. Nothing is timed: this only ends a hang.
const LIMIT: Duration = Duration::from_secs(60);

/// How often a wait asks again.
const POLL: Duration = Duration::from_millis(20);

/// A daemon. Dropping it ends it, and every worker that is left.
pub struct Daemon {
    child: Option<Child>,
    worker: PathBuf,
    /// What starts it, if it is not started as it is.
    starter: &'static [&'static str],
    root: TempDir,
    pub client: Client,
}

impl Daemon {
    /// A daemon with no configuration.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// A daemon with a configuration.
    pub fn start_with(config: &str) -> Self {
        Self::start_with_worker(config, worker_program())
    }

    /// A daemon with a configuration, and another program as its workers'.
    pub fn start_with_worker(config: &str, worker: PathBuf) -> Self {
        Self::start_by(&[], config, worker)
    }

    fn start_by(starter: &'static [&'static str], config: &str, worker: PathBuf) -> Self {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("etc/vgpud");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("vgpud.toml"), config).unwrap();
        let client = Client::new(&root.path().join("run/vgpud/api.sock")).unwrap();
        let mut daemon = Self {
            child: None,
            worker,
            starter,
            root,
            client,
        };
        daemon.start_again();
        daemon
    }

    /// Starts it where an earlier one was.
    pub fn start_again(&mut self) {
        self.start_from(host::command(self.starter, env!("CARGO_BIN_EXE_vgpud")));
    }

    /// Starts it there by a command that passes its arguments on to `vgpud`.
    pub fn start_from(&mut self, mut command: Command) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("vgpud.log"))
            .unwrap();
        let child = command
            // From where it is: workers, which are elsewhere, find their files all the same.
            .current_dir(self.root.path())
            .args(["--root", "."])
            .arg("--worker")
            .arg(&self.worker)
            // What a daemon's environment says must not reach a worker.
            .env("GALLIUM_DRIVER", "virpipe")
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        wait_for("the API", || match self.client.parents() {
            Ok(_) => Some(()),
            Err(error) => {
                let child = self.child.as_mut().unwrap();
                let ended = child.try_wait().unwrap();
                assert!(ended.is_none(), "{error}: {}", self.log());
                None
            }
        });
    }

    /// A path under the daemon's root.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.path().join(path)
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("vgpud.log")).unwrap_or_default()
    }

    /// Ends the daemon as a power loss does. Workers are left.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Ends the daemon as systemd does. Workers are left.
    pub fn terminate(&mut self) {
        let mut child = self.child.take().unwrap();
        let pid = Pid::from_child(&child);
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
        assert!(child.wait().unwrap().success(), "{}", self.log());
    }

    /// Creates an instance that runs.
    pub fn create(&self, uuid: Uuid, type_name: &str) -> Instance {
        let created = self.client.create(uuid, &request(type_name));
        created.unwrap_or_else(|error| panic!("{error}: {}", self.log()))
    }

    /// Waits until an instance is in a state.
    pub fn wait_state(&self, uuid: Uuid, state: InstanceState) -> Instance {
        wait_for("instance in that state", || {
            let instance = self.client.instance(uuid).unwrap();
            (instance.state == state).then_some(instance)
        })
    }

    /// The first event of a kind, when it has come.
    pub fn event(&self, kind: EventKind) -> Event {
        let mut found = None;
        let see = |event: Event| {
            let is_it = event.kind == kind;
            found = is_it.then_some(event);
            !is_it
        };
        self.client.events(Some(0), see).unwrap();
        found.unwrap()
    }

    /// Kills workers of an instance until it is given up.
    pub fn fail(&self, uuid: Uuid) -> Instance {
        let mut killed = None;
        wait_for("an end of recoveries", || {
            let instance = self.client.instance(uuid).unwrap();
            if instance.state == InstanceState::Failed {
                return Some(instance);
            }
            if let Some(pid) = instance.pid
                && instance.state == InstanceState::Running
                && killed != Some(pid)
            {
                Process::open(pid).kill();
                killed = Some(pid);
            }
            None
        })
    }

    /// Names in the run folder, but for the daemon's own.
    pub fn run_files(&self) -> Vec<String> {
        let own = ["api.sock", "lock", ".new", "mdev", "mdev.lock"];
        names(&self.path("run/vgpud"))
            .into_iter()
            .filter(|name| !own.contains(&name.as_str()))
            .chain(names(&self.path("run/vgpud/.new")))
            .collect()
    }

    /// Names of records.
    pub fn records(&self) -> Vec<String> {
        names(&self.path("var/lib/vgpud/instances"))
    }

    /// How many more of a type can be created.
    pub fn available(&self, type_name: &str) -> u64 {
        let types = self.client.types().unwrap();
        let found = types.iter().find(|offered| offered.name == type_name);
        found.unwrap().available_instances
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        for name in names(&self.path("run/vgpud")) {
            if !name.ends_with(".control") {
                continue;
            }
            let control = Control::connect(&self.path("run/vgpud").join(name));
            if let Ok(status) = control.and_then(|control| control.status()) {
                Process::open(status.pid).kill();
            }
        }
    }
}

/// A process that is not our child, or not only.
pub struct Process(OwnedFd);

impl Process {
    pub fn open(pid: u32) -> Self {
        let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
        Self(pidfd_open(pid, PidfdFlags::empty()).unwrap())
    }

    pub fn signal(&self, signal: Signal) {
        pidfd_send_signal(&self.0, signal).unwrap();
    }

    /// Kills it, and waits until it is gone.
    pub fn kill(&self) {
        let _ = pidfd_send_signal(&self.0, Signal::KILL);
        assert!(self.has_ended(LIMIT));
    }

    pub fn has_ended(&self, within: Duration) -> bool {
        let timeout = Timespec::try_from(within).unwrap();
        poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout)).unwrap() > 0
    }
}

/// Four bytes of a region, as a VMM reads them.
pub fn read(vmm: &mut vfu::client::Client, region: u32, offset: u64) -> [u8; 4] {
    let mut bytes = [0; 4];
    vmm.region_read(region, offset, &mut bytes).unwrap();
    bytes
}

/// `edu` serves: its liveness register answers with the complement.
pub fn lives(vmm: &mut vfu::client::Client, value: u32) {
    vmm.region_write(0, 4, &value.to_le_bytes()).unwrap();
    assert_eq!(read(vmm, 0, 4), (!value).to_le_bytes());
}

pub fn uuid(number: u128) -> Uuid {
    Uuid::from_u128(0x1000_0000_0000_4000_8000_0000_0000_0000 + number)
}

pub fn request(type_name: &str) -> CreateRequest {
    let json = format!(r#"{{"parent":"soft0","type":"{type_name}"}}"#);
    serde_json::from_str(&json).unwrap()
}

/// Asks again until there is something.
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(Instant::now() < deadline, "no {what}");
        thread::sleep(POLL);
    }
}

pub fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// The worker of the same build, or of the one that `VGPUD_BIN` names.
pub fn worker_program() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_vgpud")).with_file_name("vgpu-worker");
    if beside.exists() {
        return beside;
    }
    let folder = std::env::var_os("VGPUD_BIN").expect("no vgpu-worker: cargo build -p worker");
    PathBuf::from(folder).join("vgpu-worker")
}
