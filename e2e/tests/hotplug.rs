//! Devices that come and go while the guest runs, and servers that do.

use e2e::guest::{COMMAND_LIMIT, Guest};
use e2e::machine::vfio_user;
use e2e::{Error, Machine, Programs, Result, Vgpu, Vm};
use serde_json::json;

const BOCHS: &str = "1234:1111";
const SERIAL: &str = "4348:3253";

/// Two root ports. Firmware keeps no more than 2 MiB below one unless it is asked to.
fn ports(machine: Machine<'_>) -> Machine<'_> {
    machine
        .module("bochs")
        .device("pcie-root-port,id=rp0,chassis=1,pref32-reserve=32M")
        .device("pcie-root-port,id=rp1,chassis=2")
}

fn plug(vm: &mut Vm, device: &Vgpu, id: &str, bus: &str) -> Result<()> {
    let place = json!({ "id": id, "bus": bus });
    vm.qmp.device_add(&vfio_user(&device.socket(), &place))
}

/// Waits until a driver has the only function of a kind, and returns its address.
fn bound(guest: &mut Guest, id: &str) -> Result<String> {
    let (vendor, device) = id.split_once(':').unwrap_or_default();
    guest.wait_for(&format!(
        "cd /sys/bus/pci/devices && for function in *; do
            test -e $function/driver && grep -q {vendor} $function/vendor &&
                grep -q {device} $function/device && exit
        done; false"
    ))?;
    Ok(guest.pci_functions(id)?.concat())
}

fn check_serial(guest: &mut Guest, seed: u64) -> Result<()> {
    let function = bound(guest, SERIAL)?;
    guest.wait_for(&format!("ls /sys/bus/pci/devices/{function}/*/*/tty"))?;
    let ttys = guest.ttys_of(&function)?;
    assert_eq!(ttys.len(), 2, "{ttys:?}");
    for tty in ttys {
        guest.loopback(&tty, 512, seed)?;
    }
    Ok(())
}

fn check_display(guest: &mut Guest, display: &Vgpu, seed: u32) -> Result<()> {
    let function = bound(guest, BOCHS)?;
    let card = format!("test -e /dev/dri/$(ls /sys/bus/pci/devices/{function}/drm | grep card)");
    guest.wait_for(&card)?;
    display.check_drawing(guest, &function, (800, 600), seed)
}

#[test]
fn devices_work_after_each_of_several_replugs() {
    let programs = Programs::from_env().unwrap();
    let display = Vgpu::run(&programs, "bochs-4m", &[]).unwrap();
    let serial = Vgpu::run(&programs, "serial-2", &[]).unwrap();
    let mut vm = ports(Machine::new(&programs)).boot().unwrap();
    plug(&mut vm, &display, "display", "rp0").unwrap();
    plug(&mut vm, &serial, "serial", "rp1").unwrap();
    check_display(&mut vm.guest, &display, 0).unwrap();
    check_serial(&mut vm.guest, 0).unwrap();
    for round in 1..4 {
        // The next connection comes at once, while the server may still see the last one. Two
        // ports at once would be too much for a guest's ACPI: told of one port while it empties
        // the other, it may empty that a second time, whatever is in it by then.
        vm.qmp.device_del("display", COMMAND_LIMIT).unwrap();
        plug(&mut vm, &display, "display", "rp0").unwrap();
        check_display(&mut vm.guest, &display, round).unwrap();
        vm.qmp.device_del("serial", COMMAND_LIMIT).unwrap();
        plug(&mut vm, &serial, "serial", "rp1").unwrap();
        check_serial(&mut vm.guest, round.into()).unwrap();
    }
    for device in [&display, &serial] {
        assert_eq!(device.counter("sessions").unwrap(), 4);
        assert_eq!(device.counter("refused_clients").unwrap(), 0);
        assert_eq!(device.counter("refused_requests").unwrap(), 0);
    }
}

#[test]
fn a_second_client_is_refused_and_harms_nobody() {
    let programs = Programs::from_env().unwrap();
    let serial = Vgpu::run(&programs, "serial-2", &[]).unwrap();
    let mut vm = ports(Machine::new(&programs)).boot().unwrap();
    plug(&mut vm, &serial, "serial", "rp1").unwrap();
    check_serial(&mut vm.guest, 1).unwrap();
    for refused in 1..4 {
        // Words of a reply: a server that says nothing would be one of "timed out".
        let error = plug(&mut vm, &serial, "second", "rp0").unwrap_err();
        let Error::Qmp { answer, .. } = &error else {
            panic!("{error:?}")
        };
        assert!(answer.contains("Device or resource busy"), "{answer}");
        assert_eq!(serial.counter("refused_clients").unwrap(), refused);
        check_serial(&mut vm.guest, refused).unwrap();
    }
    vm.qmp.device_del("serial", COMMAND_LIMIT).unwrap();
    plug(&mut vm, &serial, "second", "rp0").unwrap();
    check_serial(&mut vm.guest, 5).unwrap();
}

/// What a guest has of a device whose server died: reads of all ones, and no terminal that could
/// be opened. QEMU 11.1 never connects again by itself, and aborts if the guest reboots; plugging
/// the device anew mends it.
///
/// The device is idle. Killed with a request unread, a server takes QEMU along: the kernel resets
/// the connection, and QEMU aborts on that. Nothing in the server can help it.
#[test]
fn a_guest_goes_on_when_an_idle_server_is_killed_and_has_the_next_one_by_replug() {
    let programs = Programs::from_env().unwrap();
    let mut serial = Vgpu::run(&programs, "serial-2", &[]).unwrap();
    let mut vm = ports(Machine::new(&programs)).boot().unwrap();
    plug(&mut vm, &serial, "serial", "rp1").unwrap();
    check_serial(&mut vm.guest, 1).unwrap();

    serial.kill_and_run_again().unwrap();
    let function = vm.guest.pci_functions(SERIAL).unwrap().concat();
    let ids = format!("hexdump -v -n 4 -e '1/1 \"%02x\"' /sys/bus/pci/devices/{function}/config");
    assert_eq!(vm.guest.sh(&ids).unwrap(), "ffffffff");
    let tty = vm.guest.ttys_of(&function).unwrap().remove(0);
    let error = vm.guest.loopback(&tty, 1, 1).unwrap_err();
    assert!(error.to_string().contains("Input/output error"), "{error}");
    let status = vm.qmp.execute("query-status", &json!({})).unwrap();
    assert_eq!(status["status"], "running");
    assert_eq!(serial.counter("sessions").unwrap(), 0);

    vm.qmp.device_del("serial", COMMAND_LIMIT).unwrap();
    plug(&mut vm, &serial, "serial", "rp1").unwrap();
    check_serial(&mut vm.guest, 2).unwrap();
}

/// The guest's processor is always in the middle of an access, so a request is always under way.
#[test]
fn a_guest_goes_on_when_a_server_is_stopped_under_load() {
    let programs = Programs::from_env().unwrap();
    let mut cards = Vec::new();
    let mut machine = ports(Machine::new(&programs)).kernel_arg("8250.nr_uarts=12");
    for _ in 0..4 {
        let card = Vgpu::run(&programs, "serial-2", &[]).unwrap();
        machine = machine.vfio_user(&card.socket(), &json!({}));
        cards.push(card);
    }
    let mut vm = machine.boot().unwrap();
    let functions = vm.guest.pci_functions(SERIAL).unwrap();
    assert_eq!(functions.len(), cards.len());
    for (mut card, function) in cards.into_iter().zip(functions) {
        let tty = vm.guest.ttys_of(&function).unwrap().remove(0);
        let busy = format!("while guest loopback /dev/{tty} 4096 1; do :; done >/dev/null 2>&1 &");
        vm.guest.sh(&busy).unwrap();
        vm.guest.sh("sleep 0.2").unwrap();
        card.ask("stop", &[]).unwrap();
        let status = card.process().wait_exit(COMMAND_LIMIT).unwrap();
        assert!(status.success(), "{status}");
        let status = vm.qmp.execute("query-status", &json!({})).unwrap();
        assert_eq!(status["status"], "running");
        assert_eq!(vm.guest.sh("echo on").unwrap(), "on");
    }
}
