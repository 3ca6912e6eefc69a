//! A worker without a device, which hands over and takes over as the real one does: this test program
//! itself, started again by a script that the daemon takes for `vgpu-worker`.
//!
//! Its client sends bytes. 'i' is answered with the inode of the journal, 'p' with the number of the
//! process (eight bytes each), 'n' with nothing at all; 'a' aborts it; any other comes back. What is
//! in the file `behaviour`, beside the control socket, has it misbehave.

mod process;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use vgpud::api::{Instance, InstanceState};

use crate::support::{Daemon, wait_for};

/// What the script passes the arguments in.
const ARGUMENTS: &str = "FAKE_WORKER";

/// The test that becomes a worker.
const TEST: &str = "fake::the_worker";

#[test]
#[ignore = "it is the worker of the other tests"]
fn the_worker() {
    process::run();
}

/// The script that starts it, made in `folder`.
fn program(folder: &Path) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let script = folder.join("vgpu-worker");
    let text = format!(
        "#!/bin/sh\n{ARGUMENTS}=\"$*\" exec '{}' --ignored --exact {TEST} --nocapture\n",
        own.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script
}

/// A daemon whose workers are fakes, and the folder with their program.
pub(crate) fn daemon_with(config: &str) -> (Daemon, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let program = program(folder.path());
    (Daemon::start_with_worker(config, program), folder)
}

pub(crate) fn pid_of(instance: &Instance) -> u64 {
    instance.pid.unwrap().into()
}

/// Waits until another process serves.
pub(crate) fn wait_other(daemon: &Daemon, old: &Instance) -> Instance {
    wait_for("another worker", || {
        let instance = daemon.client.instance(old.uuid).unwrap();
        let is_other = instance.pid.is_some() && instance.pid != old.pid;
        (is_other && instance.state == InstanceState::Running).then_some(instance)
    })
}

/// Has workers that are started from now on misbehave; "" for not.
pub(crate) fn behave(daemon: &Daemon, how: &str) {
    fs::write(daemon.path("run/vgpud/behaviour"), how).unwrap();
}

/// A client of a fake.
pub(crate) struct Vmm(pub(crate) UnixStream);

impl Vmm {
    pub(crate) fn connect(path: &str) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        Self(stream)
    }

    pub(crate) fn ask(&mut self, what: u8) -> u64 {
        self.0.write_all(&[what]).unwrap();
        let mut answer = [0; 8];
        self.0.read_exact(&mut answer).unwrap();
        u64::from_le_bytes(answer)
    }

    pub(crate) fn echo(&mut self, byte: u8) {
        self.0.write_all(&[byte]).unwrap();
        let mut back = [0];
        self.0.read_exact(&mut back).unwrap();
        assert_eq!(back, [byte]);
    }
}
