//! The installed program is replaced under real workers.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use vfu::client::Client as Vmm;
use vgpud::api::{EventKind, InstanceState, Outcome};

use crate::cli_support::{run, text, told};
use crate::support::{Daemon, Process, lives, read, uuid, wait_for, worker_program};

/// What a program says that cannot go on from another one's journal.
const NO_JOURNAL: &str = "there is no journal that this program understands";

/// What is installed as `vgpu-worker`.
struct Installed(tempfile::TempDir);

impl Installed {
    /// The one of this build; and one beside it, to be installed later, whose journals have another
    /// length, since they have room for fewer mappings.
    fn new() -> Self {
        let installed = Self(tempfile::tempdir().unwrap());
        let real = worker_program().canonicalize().unwrap();
        let other = installed.other();
        let script = format!(
            "#!/bin/sh\nexec '{}' --max-dma-maps 100 \"$@\"\n",
            real.display()
        );
        fs::write(&other, script).unwrap();
        fs::set_permissions(&other, fs::Permissions::from_mode(0o755)).unwrap();
        installed.install(&real);
        installed
    }

    fn place(&self) -> PathBuf {
        self.0.path().join("vgpu-worker")
    }

    fn other(&self) -> PathBuf {
        self.0.path().join("other")
    }

    /// Replaces it at one stroke, as a package manager does.
    fn install(&self, program: &Path) {
        let new = self.0.path().join("new");
        symlink(program, &new).unwrap();
        fs::rename(&new, self.place()).unwrap();
    }
}

/// A daemon whose vGPU serves a client, and what is installed.
fn serving() -> (Daemon, Installed, Vmm) {
    let installed = Installed::new();
    let daemon = Daemon::start_with_worker("", installed.place());
    let instance = daemon.create(uuid(1), "edu-1");
    let mut vmm = Vmm::connect(instance.socket.as_ref()).unwrap();
    lives(&mut vmm, 1);
    (daemon, installed, vmm)
}

#[test]
fn a_program_with_another_journal_refuses_and_the_worker_that_serves_goes_on() {
    let (daemon, installed, mut vmm) = serving();
    let before = daemon.client.instance(uuid(1)).unwrap();
    installed.install(&installed.other());
    for value in 2..4 {
        let refused = daemon.client.upgrade(uuid(1)).unwrap_err();
        let problem = refused.problem().unwrap();
        assert_eq!((problem.errno.as_str(), problem.status), ("EPROTO", 502));
        assert!(problem.detail.contains(NO_JOURNAL), "{}", problem.detail);
        // What the device held is there, and it goes on.
        assert_eq!(read(&mut vmm, 0, 4), (!(value - 1_u32)).to_le_bytes());
        lives(&mut vmm, value);
    }
    let (code, words) = told(run(&daemon, &format!("upgrade {}", uuid(1))));
    assert_eq!(code, Some(1));
    assert!(words.contains(NO_JOURNAL), "{words}");
    assert!(words.contains("remedy: nothing is lost"), "{words}");
    assert_eq!(daemon.client.instance(uuid(1)).unwrap(), before);
    let shown = text(&daemon, &format!("show {}", uuid(1)));
    let process = format!("process     {}", before.pid.unwrap());
    for line in [
        "state       running",
        "crashes     0",
        "upgrades    0",
        &process,
        "client      connected",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    let status = daemon.client.status(uuid(1)).unwrap();
    assert_eq!((Some(status.pid), status.connected), (before.pid, true));

    installed.install(&worker_program().canonicalize().unwrap());
    let upgrade = daemon.client.upgrade(uuid(1)).unwrap();
    assert!(upgrade.exact && upgrade.connected);
    assert_eq!(read(&mut vmm, 0, 4), (!3_u32).to_le_bytes());
    lives(&mut vmm, 4);
    let after = daemon.client.instance(uuid(1)).unwrap();
    assert_eq!((after.pid, after.upgrades), (Some(upgrade.pid), 1));
    assert_eq!((after.state, after.crashes), (InstanceState::Running, 0));
}

#[test]
fn what_a_program_said_that_refused_are_not_the_last_words_of_the_worker_that_went_on() {
    let installed = Installed::new();
    let config = "[workers]\nrestart = \"never\"";
    let daemon = Daemon::start_with_worker(config, installed.place());
    let instance = daemon.create(uuid(1), "edu-1");
    installed.install(&installed.other());
    daemon.client.upgrade(uuid(1)).unwrap_err();
    Process::open(instance.pid.unwrap()).kill();
    let failed = daemon.wait_state(uuid(1), InstanceState::Failed);
    let exit = failed.last_exit.unwrap();
    assert_eq!((exit.signal, exit.last_words), (Some(9), None));
}

#[test]
fn a_crash_while_a_program_with_another_journal_is_installed_is_given_up_until_the_next_start() {
    let (daemon, installed, vmm) = serving();
    installed.install(&installed.other());
    let old = daemon.client.instance(uuid(1)).unwrap();
    Process::open(old.pid.unwrap()).kill();
    let failed = daemon.wait_state(uuid(1), InstanceState::Failed);
    // Two that could not take over count as well.
    assert_eq!((failed.crashes, failed.recoveries), (3, 0));
    let recovery = failed.last_recovery.unwrap();
    assert_eq!(recovery.outcome, Outcome::GivenUp);
    assert!(recovery.detail.contains(NO_JOURNAL), "{}", recovery.detail);
    assert_eq!(daemon.event(EventKind::GaveUp).detail, recovery.detail);
    drop(vmm);
    let again = daemon.client.start(uuid(1)).unwrap();
    let mut vmm = Vmm::connect(again.socket.as_ref()).unwrap();
    lives(&mut vmm, 1);
    // From here on it is the other program that is upgraded, and recovered.
    let upgrade = daemon.client.upgrade(uuid(1)).unwrap();
    assert!(upgrade.exact);
    Process::open(upgrade.pid).kill();
    lives(&mut vmm, 2);
    wait_for("a recovery", || {
        let instance = daemon.client.instance(uuid(1)).unwrap();
        (instance.recoveries == 1).then_some(())
    });
}
