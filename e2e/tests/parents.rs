//! The daemon in a guest that has physical devices of its own: vGPUs that share them, through the
//! deaths of their worker and of the daemon.

use std::time::Duration;

use e2e::{Error, Machine, Programs, Result, Vm};
use serde_json::Value;

const EDU: &str = "1234:11e8";
const BOCHS: &str = "1234:1111";

/// Two vGPUs on each device.
const EDUS: [&str; 2] = [
    "e0000000-0000-4000-8000-000000000001",
    "e0000000-0000-4000-8000-000000000002",
];
const SLICES: [&str; 2] = [
    "b0000000-0000-4000-8000-000000000001",
    "b0000000-0000-4000-8000-000000000002",
];

/// How long the daemon may take: the guest's processor is emulated.
const LIMIT: Duration = Duration::from_secs(120);

/// Workers are started without an environment, and what they are linked with lies where no loader
/// of theirs may look.
const WORKER: &str = "#!/bin/sh\nexec env LD_LIBRARY_PATH=/lib /bin/vgpu-worker \"$@\"\n";

/// A guest with both devices, a daemon, and what it is configured as, with EDU for that device's address.
fn boot(programs: &Programs, config: &str) -> Result<Outer> {
    let mut vm = Machine::new(programs)
        .memory_mib(1536)
        .module("vfio-pci")
        .module("vfio_iommu_type1")
        .guest_program("vmms")
        .guest_program("physical")
        .kernel_arg("intel_iommu=on no_timer_check")
        .device("intel-iommu,intremap=on,caching-mode=on")
        .device("edu,dma_mask=0xffffffff")
        .device("bochs-display")
        .our_program("vgpu")?
        .our_program("vgpud")?
        .our_program("vgpu-worker")?
        .file("bin/worker", WORKER)
        .file("etc/vgpud.toml", config)
        .boot()?;
    let edu = vm.guest.pci_functions(EDU)?.concat();
    let display = vm.guest.pci_functions(BOCHS)?.concat();
    vm.guest
        .sh(&format!("sed -i s/EDU/{edu}/ /etc/vgpud.toml"))?;
    let mut outer = Outer { vm, edu, display };
    outer.start_daemon()?;
    Ok(outer)
}

struct Outer {
    vm: Vm,
    edu: String,
    display: String,
}

impl Outer {
    fn start_daemon(&mut self) -> Result<()> {
        self.vm.guest.sh(
            "LD_LIBRARY_PATH=/lib vgpud --config /etc/vgpud.toml --worker /bin/worker \
             </dev/null >>/vgpud.log 2>&1 & echo $! >/vgpud.pid",
        )?;
        self.vm
            .guest
            .wait_for("LD_LIBRARY_PATH=/lib vgpu list >/dev/null 2>&1")
    }

    /// What a command prints, which has to end well.
    fn vgpu(&mut self, command: &str) -> Result<String> {
        let line = format!("LD_LIBRARY_PATH=/lib vgpu {command}");
        let output = self.vm.guest.run_within(&line, LIMIT)?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        println!("vgpu {command}: {said}{words}");
        if output.status == 0 {
            return Ok(said);
        }
        let log = self.vm.guest.sh("cat /vgpud.log /run/vgpud/*.log")?;
        Err(Error::Guest(format!("vgpu {command}: {words}\n{log}")))
    }

    /// What a command says, which has to be a refusal.
    fn refused(&mut self, command: &str) -> Result<String> {
        let line = format!("LD_LIBRARY_PATH=/lib vgpu {command}");
        let output = self.vm.guest.run_within(&line, LIMIT)?;
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        println!("vgpu {command}: {words}");
        match output.status {
            1 => Ok(words),
            status => Err(Error::Guest(format!("{command}: {status}: {words}"))),
        }
    }

    /// Clients of vGPUs: what the programs `vmms` and `physical` try.
    fn clients(&mut self, what: &str, vgpus: &[&str]) -> Result<()> {
        let sockets = vgpus.iter().map(|uuid| format!(" /run/vgpud/{uuid}.sock"));
        let line = format!("{what}{}", sockets.collect::<String>());
        let output = self.vm.guest.run_within(&line, LIMIT)?;
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        println!("{line}: {words}");
        if output.status == 0 {
            return Ok(());
        }
        let log = self.vm.guest.sh("cat /vgpud.log /run/vgpud/*.log")?;
        Err(Error::Guest(format!("{line}: {words}\n{log}")))
    }

    /// All that is told of vGPUs, in their order.
    fn told(&mut self, vgpus: &[&str]) -> Result<Vec<Value>> {
        let line = "LD_LIBRARY_PATH=/lib vgpu list --json";
        let output = self.vm.guest.run_within(line, LIMIT)?;
        let all: Vec<Value> = serde_json::from_slice(&output.stdout)
            .map_err(|error| Error::Malformed(error.to_string()))?;
        let of = |uuid: &&str| all.iter().find(|told| told["uuid"] == **uuid).cloned();
        let told: Option<Vec<_>> = vgpus.iter().map(of).collect();
        told.ok_or_else(|| Error::Guest(format!("some of {vgpus:?} are missing: {all:?}")))
    }

    /// The process that serves vGPUs, which is the same for all of them, once they run.
    fn worker(&mut self, vgpus: &[&str]) -> Result<String> {
        let running = format!(
            "test $(LD_LIBRARY_PATH=/lib vgpu list | grep -c running) = {}",
            EDUS.len() + SLICES.len()
        );
        self.vm.guest.wait_for(&running)?;
        let mut pids: Vec<_> = self
            .told(vgpus)?
            .iter()
            .map(|told| told["pid"].to_string())
            .collect();
        pids.dedup();
        match &pids[..] {
            [one] => Ok(one.clone()),
            several => Err(Error::Guest(format!("several workers: {several:?}"))),
        }
    }

    /// Which vGPUs are kept as those that are shown.
    fn shown(&mut self) -> Result<Vec<bool>> {
        let on = |told: &Value| {
            let attributes = told["attributes"].as_array().cloned().unwrap_or_default();
            let mut given = attributes.iter();
            given.any(|it| it["name"] == "foreground" && it["value"] == "on")
        };
        Ok(self.told(&SLICES)?.iter().map(on).collect())
    }

    fn bind_all(&mut self) -> Result<()> {
        let (edu, display) = (self.edu.clone(), self.display.clone());
        self.vgpu(&format!("bind {edu} {display}")).map(drop)
    }

    fn start_all(&mut self) -> Result<()> {
        let (edu, display) = (self.edu.clone(), self.display.clone());
        for uuid in EDUS {
            self.vgpu(&format!("start {uuid} -p {edu} -t edu-shared"))?;
        }
        for uuid in SLICES {
            self.vgpu(&format!("start {uuid} -p {display} -t bochs-slice-4m"))?;
        }
        Ok(())
    }
}

fn check_words(said: &str, expected: &[&str]) {
    for words in expected {
        assert!(said.contains(words), "{words}: {said}");
    }
}

/// Devices are parents once they are given, and no longer.
fn check_catalogue(outer: &mut Outer) -> Result<()> {
    let before = outer.vgpu("types")?;
    assert!(!before.contains(&outer.edu), "{before}");
    outer.bind_all()?;
    let after = outer.vgpu("types")?;
    check_words(
        &after,
        &[
            &outer.edu.clone(),
            "edu-shared",
            &outer.display.clone(),
            "bochs-slice-4m",
        ],
    );
    Ok(())
}

/// All vGPUs of a device go on, their clients connected, when their worker is killed.
fn check_worker_killed(outer: &mut Outer, vgpus: &[&str]) -> Result<()> {
    let before = outer.worker(vgpus)?;
    outer.clients(&format!("vmms outlive {before}"), vgpus)?;
    assert_ne!(outer.worker(vgpus)?, before);
    Ok(())
}

/// It is killed in the middle of transfers, and these are done after it.
fn check_killed_in_transfers(outer: &mut Outer) -> Result<()> {
    let worker = outer.worker(&EDUS)?;
    outer.clients(&format!("physical killed {worker}"), &EDUS)
}

/// A vGPU whose worker hangs is stopped by force, and the other one goes on in another worker.
fn check_hung(outer: &mut Outer) -> Result<()> {
    let worker = outer.worker(&EDUS)?;
    outer.vm.guest.sh(&format!("kill -STOP {worker}"))?;
    outer.vgpu(&format!("stop {} --keep --force", EDUS[0]))?;
    outer.clients("vmms serve", &EDUS[1..])?;
    outer.vgpu(&format!("start {}", EDUS[0]))?;
    assert_ne!(outer.worker(&EDUS)?, worker);
    outer.clients("vmms serve", &EDUS)
}

/// One is shown at most, whichever was turned to last.
fn check_foreground(outer: &mut Outer) -> Result<()> {
    assert_eq!(outer.shown()?, [false, false]);
    for (uuid, expected) in SLICES.iter().zip([[true, false], [false, true]]) {
        outer.vgpu(&format!("set {uuid} foreground=on"))?;
        assert_eq!(outer.shown()?, expected);
    }
    Ok(())
}

/// A device is kept while vGPUs stand on it, and given back with the last one.
fn check_given_back(outer: &mut Outer) -> Result<()> {
    let (edu, display) = (outer.edu.clone(), outer.display.clone());
    let said = outer.refused(&format!("unbind {edu}"))?;
    check_words(&said, &["has vGPUs", EDUS[0], "remedy: "]);
    // Where no daemon is asked, the kernel tells.
    let said = outer.refused(&format!("unbind {edu} --api /nowhere"))?;
    check_words(&said, &["in use", "/dev/vfio/"]);
    for uuid in EDUS.iter().chain(&SLICES) {
        outer.vgpu(&format!("stop {uuid}"))?;
    }
    outer.vgpu(&format!("unbind {edu} {display}"))?;
    let after = outer.vgpu("types")?;
    assert!(!after.contains("edu-shared"), "{after}");
    Ok(())
}

#[test]
fn vgpus_share_physical_devices_and_outlive_their_worker_and_the_daemon() {
    let programs = Programs::from_env().unwrap();
    let mut outer = boot(&programs, "").unwrap();
    check_catalogue(&mut outer).unwrap();
    outer.start_all().unwrap();
    outer
        .clients("vmms serve", &[EDUS, SLICES].concat())
        .unwrap();
    assert_ne!(outer.worker(&EDUS).unwrap(), outer.worker(&SLICES).unwrap());
    let said = outer.refused(&format!("upgrade {}", EDUS[0])).unwrap();
    check_words(&said, &["shares the worker of its parent", "remedy: "]);
    check_worker_killed(&mut outer, &EDUS).unwrap();
    check_foreground(&mut outer).unwrap();
    check_worker_killed(&mut outer, &SLICES).unwrap();

    let before = outer.worker(&EDUS).unwrap();
    outer.vm.guest.sh("kill -KILL $(cat /vgpud.pid)").unwrap();
    outer
        .clients("vmms serve", &[EDUS, SLICES].concat())
        .unwrap();
    outer.start_daemon().unwrap();
    assert_eq!(outer.worker(&EDUS).unwrap(), before);
    check_killed_in_transfers(&mut outer).unwrap();
    check_worker_killed(&mut outer, &SLICES).unwrap();
    check_hung(&mut outer).unwrap();
    assert_eq!(outer.shown().unwrap(), [false, true]);
    check_given_back(&mut outer).unwrap();
    println!("{}", outer.vm.guest.sh("cat /vgpud.log").unwrap());
}

#[test]
fn a_device_for_which_too_little_can_be_locked_says_what_to_raise() {
    let programs = Programs::from_env().unwrap();
    let config = "[parents.\"EDU\"]\nlock-limit = 1\n";
    let mut outer = boot(&programs, config).unwrap();
    outer.bind_all().unwrap();
    let edu = outer.edu.clone();
    let said = outer.refused(&format!("start {} -p {edu} -t edu-shared", EDUS[0]));
    let expected = [
        "no more memory can be locked for the device (ENOMEM)",
        &format!("remedy: raise parents.\"{edu}\".lock-limit"),
    ];
    check_words(&said.unwrap(), &expected);
    // Nothing of it is left, and the device is free.
    outer.vgpu(&format!("unbind {edu}")).unwrap();
}
