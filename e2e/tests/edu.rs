//! The educational device, driven by a program in the guest with pages that it owns.
//!
//! Each transfer is one to the device of noise that nobody has seen before, or one back of that
//! noise and its neighbours, of 1 to 4096 bytes to any place; the program knows every byte that has
//! to be in its pages and in the device. Ten thousand each way take 2 s in shared memory, and 8 s
//! where they go by message.

use std::{fs, io};

use e2e::{Error, Machine, Memory, Programs, Result, Vgpu, Vm};
use serde_json::json;

const ID: &str = "1234:11e8";

/// How many transfers are made each way.
const MANY: usize = 10_000;

/// What a worker says of files that are not the guest's memory.
const LIE: &str = "the client's files are not the guest's memory";

/// A guest with an educational device, and its address there.
fn boot(programs: &Programs, edu: &Vgpu, memory: Memory) -> Result<(Vm, String)> {
    let mut vm = Machine::new(programs)
        .memory(memory)
        .module("uio_pci_generic")
        .vfio_user(&edu.socket(), &json!({}))
        .boot()?;
    let function = vm.guest.pci_functions(ID)?.concat();
    Ok((vm, function))
}

fn check_transfers(vm: &mut Vm, function: &str, count: usize, seed: u64) -> Result<()> {
    let said = vm
        .guest
        .edu(function, &format!("transfers {count} {seed}"))?;
    println!("{said}");
    if said.starts_with(&format!("{count} transfers each way")) {
        Ok(())
    } else {
        Err(Error::Guest(said))
    }
}

/// Lets whoever is not root see what a worker has mapped.
const DEBUGGABLE: &str = "--debuggable";

/// Whether a process has mapped a file of memory. It must be [`DEBUGGABLE`].
fn has_mapped_memory(edu: &mut Vgpu) -> io::Result<bool> {
    let maps = fs::read_to_string(format!("/proc/{}/maps", edu.process().pid()))?;
    Ok(maps.contains("/memfd:"))
}

fn check_no_faults(edu: &Vgpu) -> Result<()> {
    assert_eq!(edu.counter("faults")?, 0);
    assert_eq!(edu.counter("refused_requests")?, 0);
    Ok(())
}

#[test]
fn transfers_are_right_in_shared_memory_pinned_or_copied() {
    let programs = Programs::from_env().unwrap();
    let mut edu = Vgpu::run(&programs, "edu-1", &["-o", "dma=pin", DEBUGGABLE]).unwrap();
    let (mut vm, function) = boot(&programs, &edu, Memory::Shared).unwrap();
    check_transfers(&mut vm, &function, MANY, 1).unwrap();
    edu.ask("set", &["dma=copy"]).unwrap();
    check_transfers(&mut vm, &function, MANY, 2).unwrap();

    vm.guest.reboot().unwrap();
    check_transfers(&mut vm, &function, 500, 3).unwrap();
    edu.ask("set", &["dma=pin"]).unwrap();
    check_transfers(&mut vm, &function, 500, 4).unwrap();
    assert!(has_mapped_memory(&mut edu).unwrap());
    assert!(!edu.process().log().contains(LIE));
    check_no_faults(&edu).unwrap();
}

#[test]
fn transfers_are_right_in_memory_without_a_file() {
    let programs = Programs::from_env().unwrap();
    let mut edu = Vgpu::run(&programs, "edu-1", &[DEBUGGABLE]).unwrap();
    let (mut vm, function) = boot(&programs, &edu, Memory::Private).unwrap();
    check_transfers(&mut vm, &function, MANY, 5).unwrap();
    assert!(!has_mapped_memory(&mut edu).unwrap());
    assert!(!edu.process().log().contains(LIE));
    check_no_faults(&edu).unwrap();
}

#[test]
fn transfers_are_right_in_memory_whose_file_is_not_what_the_guest_sees() {
    let programs = Programs::from_env().unwrap();
    let mut edu = Vgpu::run(&programs, "edu-2", &[DEBUGGABLE]).unwrap();
    let (mut vm, function) = boot(&programs, &edu, Memory::Unshared).unwrap();
    check_transfers(&mut vm, &function, MANY, 6).unwrap();
    assert!(has_mapped_memory(&mut edu).unwrap());
    assert_eq!(edu.process().log().matches(LIE).count(), 1);
    check_no_faults(&edu).unwrap();
}

/// The reasons take turns: a number written, a transfer, a factorial. Every other one comes while
/// the guest has the pin switched off.
#[test]
fn interrupts_come_once_for_each_reason() {
    let programs = Programs::from_env().unwrap();
    let edu = Vgpu::run(&programs, "edu-1", &[]).unwrap();
    let (mut vm, function) = boot(&programs, &edu, Memory::Shared).unwrap();
    for _ in 0..2 {
        let id = ID.replace(':', " ");
        let driver = "/sys/bus/pci/drivers/uio_pci_generic";
        vm.guest.sh(&format!("echo {id} >{driver}/new_id")).unwrap();
        let before = edu.counter("interrupts").unwrap();
        let said = vm.guest.edu(&function, "interrupts 600").unwrap();
        assert_eq!(said, "600 interrupts");
        assert!(edu.counter("interrupts").unwrap() >= before + 600);
        // With the driver there, transfers are as good.
        check_transfers(&mut vm, &function, 500, 7).unwrap();
        vm.guest.reboot().unwrap();
    }
    check_no_faults(&edu).unwrap();
}
