//! A guest's heads, whose GPU is the daemon's: what becomes of driver, guest, worker and daemon costs
//! them nothing, and what is changed while they run reaches the guest.

#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]

use e2e::daemon::{Instance, kill};
use e2e::guest::Guest;
use e2e::{Daemon, Machine, Programs, Vm};
use rustix::process::Signal;
use serde_json::json;

const DRIVER: &str = "virtio-pci";
const ID: &str = "1af4:1050";

/// Where the cursor is.
const CURSOR: Option<(i32, i32)> = Some((300, 200));

/// Draws on the first two heads, and has `between` happen.
fn draw_and(
    daemon: &Daemon,
    instance: &Instance,
    guest: &mut Guest,
    seed: u32,
    between: impl FnOnce(),
) {
    let function = guest.pci_functions(ID).unwrap().concat();
    let card = guest.card_of(&function).unwrap();
    let sizes = [(800, 600), (640, 480)];
    let picture = guest.draw_heads(&card, &sizes, seed, CURSOR).unwrap();
    let check = || {
        daemon.wait_head(instance, 0, seed, None).unwrap();
        daemon.wait_head(instance, 1, seed + 1, CURSOR).unwrap();
    };
    check();
    between();
    check();
    guest.release(picture).unwrap();
}

fn worker(daemon: &Daemon) -> u32 {
    let listed = daemon.list().unwrap();
    u32::try_from(listed[0]["pid"].as_u64().unwrap()).unwrap()
}

/// The driver lets go and binds again; the guest reboots; the machine is reset.
fn start_anew(daemon: &Daemon, instance: &Instance, vm: &mut Vm) {
    let function = vm.guest.pci_functions(ID).unwrap().concat();
    vm.guest.unbind(DRIVER, &function).unwrap();
    vm.guest.bind(DRIVER, &function).unwrap();
    draw_and(daemon, instance, &mut vm.guest, 50, || ());
    vm.guest.reboot().unwrap();
    draw_and(daemon, instance, &mut vm.guest, 60, || ());
    vm.qmp.system_reset().unwrap();
    vm.wait_boot().unwrap();
    draw_and(daemon, instance, &mut vm.guest, 70, || ());
}

#[test]
fn heads_and_cursor_outlast_workers_and_daemons_and_change_while_the_guest_runs() {
    let programs = Programs::from_env().unwrap();
    let mut daemon = Daemon::run(&programs).unwrap();
    let attributes = ["heads=2", "mode=800x600,640x480"];
    let instance = daemon.start("gpu-2d-hd", &attributes).unwrap();
    let mut vm = Machine::new(&programs)
        .module("virtio-pci")
        .module("virtio-gpu")
        .vfio_user(&instance.socket, &json!({}))
        .boot()
        .unwrap();
    let guest = &mut vm.guest;
    draw_and(&daemon, &instance, guest, 10, || {
        kill(worker(&daemon), Signal::KILL).unwrap();
    });
    draw_and(&daemon, &instance, guest, 20, || {
        let before = worker(&daemon);
        daemon.vgpu("upgrade", &[&instance.uuid]).unwrap();
        assert_ne!(worker(&daemon), before);
    });
    draw_and(&daemon, &instance, guest, 30, || ());
    daemon.kill_and_restart().unwrap();

    let modify = [
        "-u",
        &instance.uuid,
        "--live",
        "--addattr",
        "heads",
        "--value",
    ];
    let function = guest.pci_functions(ID).unwrap().concat();
    let card = guest.card_of(&function).unwrap();
    for heads in ["4", "2"] {
        daemon
            .vgpu("modify", &[&modify[..], &[heads]].concat())
            .unwrap();
        let modes = format!("test $(guest heads /dev/dri/{card} | wc -l) = {heads}");
        guest.wait_for(&modes).unwrap();
    }
    draw_and(&daemon, &instance, guest, 40, || ());
    start_anew(&daemon, &instance, &mut vm);
    drop(vm);
    let status = daemon.vgpu("status", &["--json", &instance.uuid]).unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["counters"]["faults"], 0, "{status:#}");
    assert_eq!(status["counters"]["refused_requests"], 0, "{status:#}");
}
