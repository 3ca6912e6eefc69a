//! The worker of a physical device, which is an ordinary user, in a guest that has such a device. What is
//! tried stands in the program `physical`, which does there what the daemon does.
//!
//! Our own programs run in a guest by [`Machine::our_program`], with `LD_LIBRARY_PATH=/lib`.

use std::time::Duration;

use e2e::{Machine, Programs, Result, Vm};

const EDU: &str = "1234:11e8";

/// How long the tries of one kind may take: a transfer takes a tenth of a second.
const LIMIT: Duration = Duration::from_secs(180);

/// A guest with an educational device that `vfio-pci` has, and its address there.
fn boot(programs: &Programs) -> Result<(Vm, String)> {
    let mut vm = Machine::new(programs)
        .memory_mib(768)
        .module("vfio-pci")
        .module("vfio_iommu_type1")
        .guest_program("physical")
        // With interrupts remapped, the kernel panics where its timer is late, as on a busy machine.
        .kernel_arg("intel_iommu=on no_timer_check")
        .device("intel-iommu,intremap=on,caching-mode=on")
        .device("edu")
        // A transfer takes no time in which the guest has nothing to do.
        .arg("-icount")
        .arg("shift=auto,sleep=off")
        .our_program("vgpu-worker")?
        .boot()?;
    let function = vm.guest.give(EDU)?;
    Ok((vm, function))
}

/// What the program says, and the workers that it starts.
fn physical(vm: &mut Vm, command: &str) -> Result<String> {
    let command = format!("LD_LIBRARY_PATH=/lib physical {command} vgpu-worker 2>/tmp/log");
    let output = vm.guest.run_within(&command, LIMIT)?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let log = vm.guest.sh("cat /tmp/log")?;
    println!("{command}: {said}\n{log}");
    assert_eq!(output.status, 0, "{log}");
    Ok(said)
}

#[test]
fn workers_that_are_killed_leave_the_device_quiet_and_others_go_on() {
    let programs = Programs::from_env().unwrap();
    let (mut vm, function) = boot(&programs).unwrap();
    let said = physical(&mut vm, &format!("kills {function}")).unwrap();
    let again = said.strip_prefix("8 workers killed, ").unwrap();
    let again: u32 = again.split(' ').next().unwrap().parse().unwrap();
    assert!(again > 0, "the device was at nothing: {said}");

    let said = physical(&mut vm, &format!("held {function}")).unwrap();
    let refused = said
        .lines()
        .filter(|line| line.ends_with("no more memory can be locked for the device"));
    assert_eq!(refused.count(), 2, "{said}");

    // Who opens the device has to be let.
    let group = format!("/sys/bus/pci/devices/{function}/iommu_group");
    let chown = format!("chown 1000 /dev/vfio/$(basename $(readlink {group}))");
    vm.guest.sh(&chown).unwrap();
    let said = physical(&mut vm, &format!("alone {function}")).unwrap();
    assert_eq!(said, "a transfer each way");
}
