//! What `vgpu attach` prints, pasted: real VMMs find a vGPU of the daemon's by it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use e2e::daemon::Instance;
use e2e::{Daemon, Process, Programs};
use rustix::process::Signal;
use serde_json::Value;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// For a program to come up or end.
const LIMIT: Duration = Duration::from_secs(30);

/// How often a wait asks again.
const POLL: Duration = Duration::from_millis(50);

/// A daemon with one vGPU.
struct Rig {
    programs: Programs,
    daemon: Daemon,
    vgpu: Instance,
}

impl Rig {
    fn start(type_name: &str) -> Result<Self> {
        let programs = Programs::from_env()?;
        let daemon = Daemon::run(&programs)?;
        Ok(Self {
            vgpu: daemon.start(type_name, &[])?,
            programs,
            daemon,
        })
    }

    fn attach(&self, format: &str) -> Result<String> {
        let arguments = [&self.vgpu.uuid, "--format", format, "--memory", "256M"];
        Ok(self.daemon.vgpu("attach", &arguments)?)
    }

    fn status(&self) -> Result<Value> {
        let text = self.daemon.vgpu("status", &[&self.vgpu.uuid, "--json"])?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Waits until the vGPU is as `is_so` says.
    fn wait_status(&self, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let status = self.status()?;
            if is_so(&status) {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err(format!("it stays so: {status}").into());
            }
            thread::sleep(POLL);
        }
    }
}

/// Whether the worker of a vGPU has mapped the memory that QEMU gave.
fn maps_guest_memory(status: &Value) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", status["pid"]));
    maps.is_ok_and(|maps| maps.contains("/memfd:memory-backend-memfd"))
}

/// QEMU by a shell, its machine not started: it sets up its devices all the same.
fn paste_into_qemu(programs: &Programs, pasted: &str, log: &Path) -> Result<Process> {
    let qemu = programs.qemu.display();
    let mut command = Command::new("sh");
    command.args([
        "-c",
        &format!("exec '{qemu}' {pasted} -S -display none -vga none -nodefaults -no-reboot"),
    ]);
    command.stdin(Stdio::null());
    Ok(Process::spawn(command, log)?)
}

#[test]
fn qemu_finds_its_vgpu_by_what_is_printed_and_shares_its_memory() {
    let rig = Rig::start("edu-1").unwrap();
    let pasted = rig.attach("qemu").unwrap();
    let pasted = pasted.trim_end();
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("qemu.log");
    let mut qemu = paste_into_qemu(&rig.programs, pasted, &log).unwrap();
    let status = rig.wait_status(maps_guest_memory);
    let status = status.unwrap_or_else(|error| panic!("{error}: {}", qemu.log()));
    assert_eq!(status["connected"], true, "{status}");
    assert_eq!(status["counters"]["refused_requests"], 0, "{status}");
    assert!(qemu.ended().unwrap().is_none(), "{}", qemu.log());
    qemu.signal(Signal::TERM).unwrap();
    qemu.wait_exit(LIMIT).unwrap();
    rig.wait_status(|status| status["connected"] == false)
        .unwrap();
}

#[test]
fn cloud_hypervisors_client_finds_its_vgpu_by_what_is_printed() {
    let rig = Rig::start("edu-1").unwrap();
    let printed = rig.attach("cloud-hypervisor").unwrap();
    let words: Vec<_> = printed.split_whitespace().collect();
    let at = words
        .iter()
        .position(|word| *word == "--user-device")
        .unwrap();
    let socket = words[at + 1].strip_prefix("socket=").unwrap();
    assert!(words.contains(&"size=256M,shared=on"), "{printed}");
    let mut client = vfio_user::Client::new(Path::new(socket)).unwrap();
    // The configuration region, as VFIO numbers them: QEMU's vendor, its educational device.
    let mut ids = [0; 4];
    client.region_read(7, 0, &mut ids).unwrap();
    assert_eq!(ids, [0x34, 0x12, 0xe8, 0x11]);
    rig.wait_status(|status| status["connected"] == true)
        .unwrap();
    client.shutdown().unwrap();
}
