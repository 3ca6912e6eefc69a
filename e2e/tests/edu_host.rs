//! A physical educational device that two vGPUs share, in a guest that has one: two clients at once,
//! served and driven by the program `physical`, which knows every byte that has to be in each client's
//! memory.
//!
//! A transfer of QEMU's device takes 100 ms of the guest's time, which passes at once while the guest
//! has nothing to do: `-icount` with `sleep=off`.

use std::time::Duration;

use e2e::{Machine, Programs, Result, Vm};

const EDU: &str = "1234:11e8";

/// Where nothing else runs, a thousand transfers of each client take half a minute.
const LIMIT: Duration = Duration::from_secs(600);

/// How many transfers each of the two clients makes.
fn transfers() -> usize {
    match std::env::var_os("VGPUD_TEST_ALL") {
        None => 1_000,
        Some(_) => 5_000,
    }
}

/// A guest with an IOMMU of that kind, an educational device that `vfio-pci` has, and its address.
fn boot(programs: &Programs, iommu: &str) -> Result<(Vm, String)> {
    let mut vm = Machine::new(programs)
        .module("vfio-pci")
        .module("vfio_iommu_type1")
        .guest_program("physical")
        // With interrupts remapped, the kernel panics where its timer is late, as on a busy machine.
        .kernel_arg("intel_iommu=on no_timer_check")
        .device(iommu)
        // With as many bits of addresses as by default.
        .device("edu")
        .arg("-icount")
        .arg("shift=auto,sleep=off")
        .boot()?;
    let function = vm.guest.pci_functions(EDU)?.concat();
    vm.guest.sh(&format!(
        "cd /sys/bus/pci && echo vfio-pci >devices/{function}/driver_override &&
         echo {function} >drivers_probe"
    ))?;
    Ok((vm, function))
}

fn physical(vm: &mut Vm, command: &str) -> Result<String> {
    let command = format!("physical {command}");
    let output = vm.guest.run_within(&command, LIMIT)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    println!("{command}: {said}");
    Ok(said.trim().to_owned())
}

/// What the hardware was kept from: an IOMMU stops what is not mapped, and the kernel says so.
fn check_no_faults(vm: &mut Vm) -> Result<()> {
    let log = vm.guest.sh("dmesg")?;
    let is_fault = |line: &&str| line.contains("DMAR: [DMA") || line.contains("IO_PAGE_FAULT");
    let faults: Vec<_> = log.lines().filter(is_fault).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    Ok(())
}

fn check_traffic(vm: &mut Vm, function: &str, count: usize) -> Result<()> {
    let said = physical(vm, &format!("seats {function} {count}"))?;
    let each = format!("{count} transfers, {} refused", count / 10);
    assert_eq!(said, format!("client 1: {each}\nclient 2: {each}"));
    check_no_faults(vm)
}

#[test]
fn two_clients_at_once_have_every_byte_and_every_interrupt_of_theirs() {
    let programs = Programs::from_env().unwrap();
    let iommu = "intel-iommu,intremap=on,caching-mode=on";
    let (mut vm, function) = boot(&programs, iommu).unwrap();
    check_traffic(&mut vm, &function, transfers()).unwrap();
    let said = physical(&mut vm, &format!("unmaps {function} 40")).unwrap();
    let rounds = said.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let whole: u32 = words.nth(2)?.parse().ok()?;
        let refused: u32 = words.nth(1)?.parse().ok()?;
        Some((whole, refused))
    });
    let rounds: Vec<_> = rounds.collect();
    let is_whole = |&(whole, refused): &(u32, u32)| whole + refused == 40 && whole > 0;
    assert!(rounds.len() == 2 && rounds.iter().all(is_whole), "{said}");
    check_no_faults(&mut vm).unwrap();
}

/// By default it translates nothing, and a device reaches all memory.
#[test]
fn two_clients_at_once_have_their_bytes_behind_another_kind_of_iommu() {
    let programs = Programs::from_env().unwrap();
    let iommu = "amd-iommu,intremap=on,dma-remap=on";
    let (mut vm, function) = boot(&programs, iommu).unwrap();
    check_traffic(&mut vm, &function, 100).unwrap();
}
