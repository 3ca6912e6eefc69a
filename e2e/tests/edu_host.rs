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
    boot_with(Machine::new(programs), iommu)
}

fn boot_with(machine: Machine<'_>, iommu: &str) -> Result<(Vm, String)> {
    let mut vm = machine
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
    let function = vm.guest.give(EDU)?;
    Ok((vm, function))
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
    let said = vm
        .guest
        .physical(&format!("seats {function} {count}"), LIMIT)?;
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
    let said = vm
        .guest
        .physical(&format!("unmaps {function} 40"), LIMIT)
        .unwrap();
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

/// What the suite of the protocol asks of a device that does DMA: in the client's file, by messages, and
/// with errors in them.
const RULES: [&str; 3] = ["the_file", "waits_for_dma", "dma_reply"];

#[test]
fn a_vgpu_on_hardware_keeps_the_rules_of_the_protocol_that_are_about_dma() {
    let programs = Programs::from_env().unwrap();
    let mut machine = Machine::new(&programs).memory_mib(2048);
    for program in ["vgpu", "vgpu-worker", "vfu-conformance"] {
        machine = machine.our_program(program).unwrap();
    }
    let iommu = "intel-iommu,intremap=on,caching-mode=on";
    let (mut vm, function) = boot_with(machine, iommu).unwrap();
    let serve = format!(
        "export LD_LIBRARY_PATH=/lib
         vgpu run --type edu-shared --parent {function} --socket-path /tmp/edu.sock >/tmp/log 2>&1 &
         for n in $(seq 600); do [ -S /tmp/edu.sock ] && break; sleep 0.1; done"
    );
    vm.guest.sh(&serve).unwrap();
    for rules in RULES {
        let command = format!(
            "LD_LIBRARY_PATH=/lib vfu-conformance --timeout 30 --socket /tmp/edu.sock {rules}"
        );
        let output = vm.guest.run_within(&command, LIMIT).unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let last = said.lines().last().unwrap_or_default();
        let is_checked = !last.starts_with("0 ") && last.ends_with(" passed, 0 failed, 0 skipped");
        assert!(output.status == 0 && is_checked, "{rules}: {said}");
    }
    check_no_faults(&mut vm).unwrap();
}
