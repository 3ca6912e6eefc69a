//! `vgpu bind`, `vgpu unbind` and what the doctor says of them, on a guest's own devices: a display
//! that the kernel drives, a device that nobody drives, and two that the IOMMU cannot tell apart.

use e2e::{Error, Machine, Programs, Result, Vm};

const EDU: &str = "1234:11e8";
const BOCHS: &str = "1234:1111";
const NVME: &str = "1b36:0010";

fn machine(programs: &Programs) -> Result<Machine<'_>> {
    Machine::new(programs)
        .memory_mib(1024)
        .module("vfio-pci")
        .module("vfio_iommu_type1")
        .module("bochs")
        .guest_program("physical")
        .kernel_arg("intel_iommu=on no_timer_check")
        .device("bochs-display")
        .device("edu,dma_mask=0xffffffff")
        .our_program("vgpu")
}

/// With an IOMMU, and two devices behind one bridge.
fn boot(programs: &Programs) -> Result<Vm> {
    machine(programs)?
        .device("intel-iommu,intremap=on,caching-mode=on")
        .device("pcie-pci-bridge,id=bridge")
        .device("edu,bus=bridge,addr=1")
        .device("edu,bus=bridge,addr=2")
        .boot()
}

/// What a command prints, which has to end well.
fn vgpu(vm: &mut Vm, command: &str) -> Result<String> {
    let said = vm
        .guest
        .sh(&format!("LD_LIBRARY_PATH=/lib vgpu {command}"))?;
    println!("vgpu {command}: {said}");
    Ok(said)
}

/// What a command says while a file is open, which has to be a refusal.
fn refused(vm: &mut Vm, held: &str, command: &str) -> Result<String> {
    let line = format!("exec 3<>{held}; LD_LIBRARY_PATH=/lib vgpu {command}");
    let output = vm.guest.run(&line)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    println!("vgpu {command}: {said}");
    match output.status {
        1 => Ok(said),
        status => Err(Error::Guest(format!(
            "`{line}` ended with {status}: {said}"
        ))),
    }
}

fn check_words(said: &str, expected: &[&str]) {
    for words in expected {
        assert!(said.contains(words), "{words}: {said}");
    }
}

fn driver(vm: &mut Vm, function: &str) -> Result<String> {
    let link = format!("/sys/bus/pci/devices/{function}/driver");
    vm.guest.sh(&format!("basename $(readlink {link})"))
}

/// A display is taken from the kernel while nothing shows on it, and given back.
fn check_display(vm: &mut Vm) -> Result<()> {
    let display = vm.guest.pci_functions(BOCHS)?.concat();
    let card = format!("/dev/dri/{}", vm.guest.card_of(&display)?);
    let said = refused(vm, &card, &format!("bind {display}"))?;
    check_words(
        &said,
        &["in use: process ", &card, "remedy: end what uses it"],
    );
    assert!(!said.contains("process self"), "{said}");
    assert!(driver(vm, &display)?.starts_with("bochs"));

    let said = vgpu(vm, &format!("bind {display}"))?;
    let group = said.rsplit(' ').next().unwrap_or_default().to_owned();
    assert_eq!(said, format!("{display}: vfio-pci has it, {group}"));
    assert_eq!(vgpu(vm, &format!("bind {display}"))?, said);
    let told = vm.guest.sh(&format!("physical notices {display}"))?;
    assert_eq!(told, "Error\nRequest");

    // Whoever has the device would keep the kernel waiting, and us.
    let said = refused(vm, &group, &format!("unbind {display}"))?;
    check_words(&said, &["in use", &group, "remedy"]);
    let said = vgpu(vm, &format!("unbind {display}"))?;
    check_words(&said, &[&display, "bochs", "has it"]);
    let card = vm.guest.card_of(&display)?;
    assert!(!vm.guest.modes(&card)?.is_empty());
    let said = refused(vm, "/dev/null", &format!("unbind {display}"))?;
    check_words(&said, &["belongs to bochs", "remedy"]);
    Ok(())
}

/// Devices of one group are given together.
fn check_group(vm: &mut Vm, first: &str, second: &str) -> Result<()> {
    let said = refused(vm, "/dev/null", &format!("bind {first}"))?;
    let remedy = format!("vgpu bind {first} {second}");
    check_words(&said, &["has other devices", second, &remedy]);
    vgpu(vm, &format!("bind {first} {second}"))?;
    for function in [first, second] {
        let said = vm.guest.sh(&format!("physical registers {function}"))?;
        assert_eq!(said, "registers right");
    }
    let said = vgpu(vm, &format!("unbind {first} {second}"))?;
    assert_eq!(said.matches("no driver has it").count(), 2, "{said}");
    Ok(())
}

#[test]
fn devices_are_given_to_user_space_and_back() {
    let programs = Programs::from_env().unwrap();
    let mut vm = boot(&programs).unwrap();
    let edus = vm.guest.pci_functions(EDU).unwrap();
    let [lone, first, second] = &edus[..] else {
        panic!("{edus:?}");
    };
    let doctor = "LD_LIBRARY_PATH=/lib vgpu doctor || true";
    let said = vm.guest.sh(doctor).unwrap();
    check_words(&said, &["groups of devices", "has no device"]);
    check_display(&mut vm).unwrap();
    check_group(&mut vm, first, second).unwrap();

    // By the address that lspci prints.
    let short = lone.strip_prefix("0000:").unwrap();
    vgpu(&mut vm, &format!("bind {short}")).unwrap();
    let said = vm.guest.sh(doctor).unwrap();
    check_words(&said, &[&format!("has {lone}")]);
    let said = vm.guest.sh(&format!("physical transfers {lone} 32"));
    assert_eq!(said.unwrap(), "transfers right");
    let bridge = vm
        .guest
        .sh("dirname $(readlink -f /sys/bus/pci/devices/*:01:01.0)");
    let bridge = bridge.unwrap();
    let bridge = bridge.rsplit('/').next().unwrap();
    let said = refused(&mut vm, "/dev/null", &format!("bind {bridge}")).unwrap();
    check_words(&said, &["is a bridge", "remedy"]);
}

/// The kernel has the disk apart from the controller, which is only one way to it.
#[test]
fn a_controller_is_given_once_nothing_uses_the_disk_behind_it() {
    let programs = Programs::from_env().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    std::fs::write(&disk, vec![0; 4 << 20]).unwrap();
    let drive = format!("if=none,id=disk,format=raw,file={}", disk.display());
    let mut vm = machine(&programs)
        .unwrap()
        .module("nvme")
        .device("intel-iommu,intremap=on,caching-mode=on")
        .device("pcie-root-port,id=socket,chassis=1")
        .device("nvme-subsys,id=subsystem")
        .arg("-drive")
        .arg(drive)
        .device("nvme,id=controller,bus=socket,subsys=subsystem,serial=4711")
        .device("nvme-ns,bus=controller,drive=disk,shared=on")
        .boot()
        .unwrap();
    let function = vm.guest.pci_functions(NVME).unwrap().concat();
    vm.guest.wait_for("test -b /dev/nvme0n1").unwrap();
    let apart = "readlink -f /sys/class/block/nvme0n1 | grep -q /virtual/";
    vm.guest.sh(apart).unwrap();
    let bind = format!("bind {function}");
    let said = refused(&mut vm, "/dev/nvme0n1", &bind).unwrap();
    check_words(&said, &["process ", "has /dev/nvme0n1 open"]);
    let said = refused(&mut vm, "/dev/ng0n1", &bind).unwrap();
    check_words(&said, &["process ", "has /dev/ng0n1 open"]);
    vm.guest
        .sh("mkswap /dev/nvme0n1 && swapon /dev/nvme0n1")
        .unwrap();
    let said = refused(&mut vm, "/dev/null", &bind).unwrap();
    check_words(&said, &["swaps to nvme0n1", "remedy"]);
    vm.guest.sh("swapoff /dev/nvme0n1").unwrap();
    assert_eq!(driver(&mut vm, &function).unwrap(), "nvme");

    let said = vgpu(&mut vm, &bind).unwrap();
    check_words(&said, &["vfio-pci has it"]);
    let said = vgpu(&mut vm, &format!("unbind {function}")).unwrap();
    check_words(&said, &["nvme has it"]);
}

#[test]
fn without_an_iommu_no_device_is_given() {
    let programs = Programs::from_env().unwrap();
    let mut vm = machine(&programs).unwrap().boot().unwrap();
    let function = vm.guest.pci_functions(EDU).unwrap().concat();
    let said = refused(&mut vm, "/dev/null", &format!("bind {function}")).unwrap();
    check_words(&said, &["behind no IOMMU", "remedy: turn on VT-d"]);
    let doctor = "LD_LIBRARY_PATH=/lib vgpu doctor || true";
    let said = vm.guest.sh(doctor).unwrap();
    check_words(&said, &["no groups of devices", "intel_iommu=on"]);
}
