//! A physical device, in a guest that has one: `mdev::host` on the kernel's VFIO, behind an IOMMU
//! that QEMU emulates. QEMU's educational device is the physical one.
//!
//! What is tried stands in the program `physical`, which runs in the guest. It looks at the data
//! each time: what a device may not reach has to be as it was, and what it may has to have changed.

use std::time::Duration;

use e2e::{Machine, Programs, Result, Vm};
use serde_json::json;

const EDU: &str = "1234:11e8";
const BOCHS: &str = "1234:1111";
const NVME: &str = "1b36:0010";

/// How long the tries of one kind may take: a transfer takes a tenth of a second.
const LIMIT: Duration = Duration::from_secs(180);

/// An IOMMU of QEMU's, and what the guest's kernel is told of it.
struct Iommu {
    device: &'static str,
    kernel: &'static str,
}

const INTEL: Iommu = Iommu {
    device: "intel-iommu,intremap=on,caching-mode=on",
    kernel: "intel_iommu=on",
};

/// By default it translates nothing, and a device reaches all memory: only tries that look whether
/// data has come would tell.
const AMD: Iommu = Iommu {
    device: "amd-iommu,intremap=on,dma-remap=on",
    kernel: "",
};

/// A guest with an educational device that `vfio-pci` has, and its address there.
fn boot(programs: &Programs, iommu: &Iommu) -> Result<(Vm, String)> {
    let mut vm = Machine::new(programs)
        .module("vfio-pci")
        .module("vfio_iommu_type1")
        .guest_program("physical")
        .kernel_arg(iommu.kernel)
        // With interrupts remapped, the kernel panics where its timer is late, as on a busy machine.
        .kernel_arg("no_timer_check")
        .device(iommu.device)
        .device("edu,dma_mask=0xffffffff")
        .device("bochs-display")
        .boot()?;
    let function = vm.guest.give(EDU)?;
    Ok((vm, function))
}

/// Everything but the registers is tried on both IOMMUs.
fn check_memory(vm: &mut Vm, function: &str) -> Result<()> {
    for (command, expected) in [
        ("transfers ADDRESS 32", "transfers right"),
        ("pins ADDRESS 32", "pins right"),
        ("guests ADDRESS 32", "guests apart"),
        ("interrupts ADDRESS 200", "200 interrupts of each kind"),
    ] {
        let command = command.replace("ADDRESS", function);
        assert_eq!(vm.guest.physical(&command, LIMIT)?, expected);
    }
    Ok(())
}

#[test]
fn a_device_is_driven_and_reaches_the_memory_it_is_given_and_no_other() {
    let programs = Programs::from_env().unwrap();
    let (mut vm, function) = boot(&programs, &INTEL).unwrap();
    let shown = vm
        .guest
        .physical(&format!("show {function}"), LIMIT)
        .unwrap();
    for line in [
        "region 0: 0x100000 bytes, mappable [(0, 100000)]",
        "region 7: 0x100 bytes, mappable []",
        "Intx: 1",
        "Msi: 1",
        "Msix: 0",
        "Request: 1",
        "can be reset: false",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    let said = vm
        .guest
        .physical(&format!("registers {function}"), LIMIT)
        .unwrap();
    assert_eq!(said, "registers right");
    check_memory(&mut vm, &function).unwrap();

    // Conventional PCI has no errors to tell of.
    let said = vm
        .guest
        .physical(&format!("notices {function}"), LIMIT)
        .unwrap();
    assert_eq!(said, "Request");
    let display = vm.guest.give(BOCHS).unwrap();
    let said = vm
        .guest
        .physical(&format!("notices {display}"), LIMIT)
        .unwrap();
    assert_eq!(said, "Error\nRequest");
}

/// With MSI-X, whose table is in the region that is mapped, and with a reset.
#[test]
fn a_controller_of_a_disk_reads_into_a_guests_memory_is_reset_fails_and_is_taken_away() {
    let programs = Programs::from_env().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    let mut content = vec![0; 1 << 20];
    content[..15].copy_from_slice(b"the first block");
    std::fs::write(&disk, content).unwrap();
    let mut vm = Machine::new(&programs)
        .module("vfio-pci")
        .module("vfio_iommu_type1")
        .guest_program("physical")
        .kernel_arg("intel_iommu=on no_timer_check")
        .device(INTEL.device)
        .device("pcie-root-port,id=socket,chassis=1")
        .arg("-drive")
        .arg(format!(
            "if=none,id=disk,format=raw,file={}",
            disk.display()
        ))
        .device("nvme,bus=socket,drive=disk,serial=4711")
        .boot()
        .unwrap();
    let function = vm.guest.give(NVME).unwrap();
    let shown = vm
        .guest
        .physical(&format!("show {function}"), LIMIT)
        .unwrap();
    for line in [
        "region 0: 0x4000 bytes, mappable [(0, 4000)]",
        "Msix: 65",
        "can be reset: true",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    let said = vm
        .guest
        .physical(&format!("nvme {function}"), LIMIT)
        .unwrap();
    assert_eq!(said, ["4711: the first block"; 2].join("\n"));
    assert_eq!(fail_port(&mut vm, &function).unwrap(), "waits\nError\nover");
    assert_eq!(
        take_away(&mut vm, &function).unwrap(),
        "waits\nRequest\nover"
    );
}

/// Has a program that has a device wait for what the kernel says of it, and something be done
/// meanwhile; returns what the program says.
fn told(
    vm: &mut Vm,
    command: &str,
    meanwhile: impl FnOnce(&mut Vm) -> Result<()>,
) -> Result<String> {
    vm.guest.sh(&format!(
        "{{ physical {command}; echo over; }} >/told 2>&1 & echo"
    ))?;
    vm.guest.wait_for("grep -q waits /told")?;
    meanwhile(vm)?;
    vm.guest.wait_for("grep -q over /told")?;
    vm.guest.sh("cat /told")
}

/// The port that a device is behind has an error, which the kernel recovers from: it tells whoever has
/// the devices behind it.
fn fail_port(vm: &mut Vm, function: &str) -> Result<String> {
    const COMPLETION_TIMEOUT: u32 = 1 << 14;
    told(vm, &format!("lost {function}"), |vm| {
        let line = format!("pcie_aer_inject_error socket {COMPLETION_TIMEOUT:#x}");
        let arguments = json!({ "command-line": line });
        let said = vm.qmp.execute("human-monitor-command", &arguments)?;
        println!("{line}: {said}");
        Ok(())
    })
}

/// Takes a device away from a program that has it. The kernel waits until that lets go of it.
fn take_away(vm: &mut Vm, function: &str) -> Result<String> {
    told(vm, &format!("wanted {function}"), |vm| {
        let unbind = format!("echo {function} >/sys/bus/pci/drivers/vfio-pci/unbind");
        vm.guest.sh(&unbind).map(drop)
    })
}

#[test]
fn a_device_that_cannot_be_had_is_refused_with_the_reason() {
    let programs = Programs::from_env().unwrap();
    let (mut vm, function) = boot(&programs, &INTEL).unwrap();
    let display = vm.guest.pci_functions(BOCHS).unwrap().concat();
    let group = format!("/sys/bus/pci/devices/{function}/iommu_group");
    let hold = format!("exec 3<>/dev/vfio/$(basename $(readlink {group}))");
    for (command, reason) in [
        (format!("{hold}; physical show {function}"), "in use"),
        (format!("physical show {display}"), "vfio-pci"),
        ("physical show 0000:00:1e.0".to_owned(), "no PCI device"),
        ("physical show nonsense".to_owned(), "not the address"),
    ] {
        let refused = vm.guest.run(&command).unwrap();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            refused.status != 0 && said.contains(reason),
            "{command}: {said}"
        );
    }
}

#[test]
fn limits_of_the_kernel_are_met_with_an_error_and_nothing_is_left_behind() {
    let programs = Programs::from_env().unwrap();
    let (mut vm, function) = boot(&programs, &INTEL).unwrap();
    let said = vm
        .guest
        .physical(&format!("addresses {function}"), LIMIT)
        .unwrap();
    assert_eq!(said, "15 pages have addresses");

    let said = vm
        .guest
        .physical(&format!("truncated {function}"), LIMIT)
        .unwrap();
    assert_eq!(said, "what is left is pinned");

    // The worker of a vGPU is a user who has been given the group's file, and nothing else.
    let group = format!("/sys/bus/pci/devices/{function}/iommu_group");
    let group = vm
        .guest
        .sh(&format!("basename $(readlink {group})"))
        .unwrap();
    let said = vm
        .guest
        .physical(&format!("locked {function} 40"), LIMIT)
        .unwrap();
    assert!(said.contains(&format!("/dev/vfio/{group}: Permission denied")));
    let open_up = format!("chown 1000 /dev/vfio/{group}");
    vm.guest.sh(&open_up).unwrap();
    let said = vm
        .guest
        .physical(&format!("locked {function} 40"), LIMIT)
        .unwrap();
    assert_eq!(said, "40 pages can be locked");

    let parameters = "/sys/module/vfio_iommu_type1/parameters";
    let limit = format!("echo 33 >{parameters}/dma_entry_limit");
    vm.guest.sh(&limit).unwrap();
    let said = vm
        .guest
        .physical(&format!("entries {function} 33"), LIMIT)
        .unwrap();
    assert_eq!(said, "33 mappings are allowed");
}

#[test]
fn a_device_behind_another_kind_of_iommu_does_the_same() {
    let programs = Programs::from_env().unwrap();
    let (mut vm, function) = boot(&programs, &AMD).unwrap();
    check_memory(&mut vm, &function).unwrap();
}
