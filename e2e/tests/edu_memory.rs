//! Which memory the educational device reaches: ROM, holes, and memory that comes and goes.

use std::fmt;

use e2e::{Error, Machine, Memory, Programs, Result, Vgpu, Vm};
use guest::noise::Noise;
use serde_json::json;

const ID: &str = "1234:11e8";

/// What the device says of a transfer: errno.
const OK: u32 = 0;
const EACCES: u32 = 13;
const EFAULT: u32 = 14;
const ERANGE: u32 = 34;

/// What a guest without memory above 4 GiB finds there: two modules, side by side. Each is a block
/// as the guest's kernel counts them.
const MODULE_MIB: u32 = 128;
const MODULE_LEN: u64 = (MODULE_MIB as u64) << 20;
const FIRST: u64 = 4 << 30;
const SECOND: u64 = FIRST + MODULE_LEN;
const END: u64 = SECOND + MODULE_LEN;

/// Bytes in hexadecimal, of which a failed test shows a few.
#[derive(Clone, PartialEq, Eq)]
struct Bytes(String);

impl Bytes {
    fn new(bytes: impl IntoIterator<Item = u8>) -> Self {
        let digits = bytes.into_iter().map(|byte| format!("{byte:02x}"));
        Self(digits.collect())
    }

    fn noise(seed: u64, len: usize) -> Self {
        Self::new(Noise::new(seed).take(len))
    }

    fn zeroes(len: usize) -> Self {
        Self("00".repeat(len))
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(digits) = self;
        let end = digits.len().saturating_sub(32);
        write!(f, "{:.32}..{}", digits, &digits[end..])
    }
}

/// A guest with a device that reaches all addresses.
struct Rig {
    edu: Vgpu,
    vm: Vm,
    function: String,
    memory: Memory,
}

impl Rig {
    fn boot(memory: Memory) -> Result<Self> {
        let programs = Programs::from_env()?;
        let edu = Vgpu::run(&programs, "edu-1", &["-o", "dma-mask=64"])?;
        let mut vm = Machine::new(&programs)
            .memory(memory)
            .memory_room(2, 1024)
            // The guest does nothing with memory that is plugged in until it is told.
            .kernel_arg("memhp_default_state=offline")
            .vfio_user(&edu.socket(), &json!({}))
            .boot()?;
        let function = vm.guest.pci_functions(ID)?.concat();
        Ok(Self {
            edu,
            vm,
            function,
            memory,
        })
    }

    /// Has the device read `len` bytes; returns the errno, and what it has then.
    fn fetch(&mut self, at: u64, len: usize) -> Result<(u32, Bytes)> {
        let what = format!("fetch {at:#x} {len}");
        let said = self.vm.guest.edu(&self.function, &what)?;
        said.split_once(' ')
            .and_then(|(errno, hex)| Some((errno.parse().ok()?, Bytes(hex.to_owned()))))
            .ok_or(Error::Guest(said))
    }

    /// Has the device write noise; returns the errno.
    fn store(&mut self, at: u64, len: usize, seed: u64) -> Result<u32> {
        let what = format!("store {at:#x} {len} {seed}");
        let said = self.vm.guest.edu(&self.function, &what)?;
        said.parse().map_err(|_| Error::Guest(said))
    }

    /// Has the program make transfers, with all its pages or those from one address to another.
    fn transfer(&mut self, what: &str) -> Result<()> {
        let what = format!("transfers {what}");
        self.vm.guest.edu(&self.function, &what).map(drop)
    }

    /// What the guest's own processor reads. Below 1 MiB, Debian's kernel lets it read all that is
    /// not RAM.
    fn seen_by_guest(&mut self, at: u64, len: usize) -> Result<Bytes> {
        let dd = format!("dd if=/dev/mem bs=1 skip={at} count={len} 2>/dev/null");
        Ok(Bytes::new(self.vm.guest.bytes(&dd)?))
    }

    /// Where the device's registers are.
    fn bar(&mut self) -> Result<u64> {
        let function = &self.function;
        let line = format!("read bar rest </sys/bus/pci/devices/{function}/resource; echo $bar");
        let bar = self.vm.guest.sh(&line)?;
        let digits = bar.strip_prefix("0x").unwrap_or_default();
        u64::from_str_radix(digits, 16).map_err(|_| Error::Guest(bar))
    }

    /// Plugs a module in, and waits until the guest's kernel knows it.
    fn plug(&mut self, id: &str, at: u64) -> Result<()> {
        self.vm.plug_memory(id, self.memory, MODULE_MIB)?;
        let state = state_file(at);
        self.vm.guest.wait_for(&format!("test -e {state}"))
    }

    fn check_no_faults(&self) -> Result<()> {
        assert_eq!(self.edu.counter("faults")?, 0);
        assert_eq!(self.edu.counter("refused_requests")?, 0);
        Ok(())
    }
}

/// Where the guest's kernel says whether it uses a module.
fn state_file(at: u64) -> String {
    let block = at / MODULE_LEN;
    format!("/sys/devices/system/memory/memory{block}/state")
}

/// A store that is not allowed leaves all of memory as it was, also where its first bytes would
/// have been allowed; a fetch leaves the device as it was.
fn check_refusals(memory: Memory) -> Result<()> {
    let mut rig = Rig::boot(memory)?;
    let bar = rig.bar()?;
    for (what, at, len, fetched, stored) in [
        ("a hole", 0x2000_0000, 64, EFAULT, EFAULT),
        ("the end of memory", 0x0fff_ffc0, 128, EFAULT, EFAULT),
        ("the device's own registers", bar, 64, EFAULT, EFAULT),
        ("the last address", u64::MAX - 63, 64, EFAULT, EFAULT),
        ("past the last address", u64::MAX - 63, 65, ERANGE, ERANGE),
        ("ROM, copied to memory", 0xf_0000, 4096, OK, EACCES),
        ("from memory into such ROM", 0xe_ffc0, 128, OK, EACCES),
        ("ROM", 0xffff_0000, 4096, OK, EACCES),
    ] {
        let before = rig.fetch(at, len)?;
        assert_eq!(before.0, fetched, "{what}");
        let is_blank = before.1 == Bytes::zeroes(len);
        assert_eq!(is_blank, fetched != OK, "{what}: {before:?}");
        assert_eq!(rig.store(at, len, 1)?, stored, "{what}");
        assert_eq!(rig.fetch(at, len)?, before, "{what}");
        if fetched == OK && at < 1 << 20 {
            assert_eq!(before.1, rig.seen_by_guest(at, len)?, "{what}");
        }
    }
    let (errno, last) = rig.fetch(0x0fff_ffc0, 64)?;
    assert_eq!(errno, OK);
    assert_ne!(last, Bytes::noise(1, 64));
    rig.transfer("500 1")?;
    rig.check_no_faults()
}

#[test]
fn holes_and_rom_stay_as_they_are_with_shared_memory() {
    check_refusals(Memory::Shared).unwrap();
}

#[test]
fn holes_and_rom_stay_as_they_are_with_memory_without_a_file() {
    check_refusals(Memory::Private).unwrap();
}

#[test]
fn holes_and_rom_stay_as_they_are_with_memory_whose_file_is_not_what_the_guest_sees() {
    check_refusals(Memory::Unshared).unwrap();
}

/// What lies across the border of two modules is in two mappings. While the guest does not use
/// them, nobody minds what the device does there.
fn check_border(rig: &mut Rig) -> Result<()> {
    for (way, before) in [("dma=pin", 1000), ("dma=copy", 2001)] {
        rig.edu.ask("set", &[way])?;
        let at = SECOND - before;
        assert_eq!(rig.store(at, 3000, before)?, OK, "{way}");
        let stored = rig.fetch(at, 3000)?;
        assert_eq!(stored, (OK, Bytes::noise(before, 3000)), "{way}");
        let rest = Noise::new(before).take(3000).skip(before as usize);
        let stored = rig.fetch(SECOND, 3000 - before as usize)?;
        assert_eq!(stored, (OK, Bytes::new(rest)), "{way}");
    }
    assert_eq!(rig.fetch(END - 64, 65)?.0, EFAULT);
    Ok(())
}

/// Takes the second module away while transfers go on in the first.
fn check_unplug_under_load(rig: &mut Rig) -> Result<()> {
    let function = &rig.function;
    rig.vm.guest.sh(&format!(
        "{{ until test -e /tmp/stop; do
            guest edu {function} transfers 500 4 {FIRST:#x} {SECOND:#x} || break
        done; echo ended; }} >/tmp/out 2>&1 &"
    ))?;
    rig.vm.guest.wait_for("test -s /tmp/out")?;
    rig.vm.unplug_memory("second")?;
    rig.vm.guest.sh("touch /tmp/stop")?;
    rig.vm.guest.wait_for("grep ended /tmp/out")?;
    let said = rig.vm.guest.sh("cat /tmp/out")?;
    let runs = said.lines().filter(|line| line.starts_with("500 tran"));
    assert_eq!(runs.count() + 1, said.lines().count(), "{said}");

    for at in [SECOND, SECOND - 1000] {
        assert_eq!(rig.fetch(at, 3000)?.0, EFAULT);
        assert_eq!(rig.store(at, 3000, 5)?, EFAULT);
    }
    assert_eq!(rig.fetch(SECOND - 1000, 1000)?.0, OK);
    Ok(())
}

fn check_hotplug(memory: Memory) -> Result<()> {
    let mut rig = Rig::boot(memory)?;
    for at in [FIRST, SECOND - 1000, END] {
        assert_eq!(rig.fetch(at, 3000)?.0, EFAULT);
    }
    let maps = rig.edu.counter("dma_maps")?;
    rig.plug("first", FIRST)?;
    rig.plug("second", SECOND)?;
    assert_eq!(rig.edu.counter("dma_maps")?, maps + 2);
    check_border(&mut rig)?;

    // From now on the program gets its pages there, and keeps none that are elsewhere.
    let online = format!("echo online_movable >{}", state_file(FIRST));
    rig.vm.guest.sh(&online)?;
    rig.transfer(&format!("1000 3 {FIRST:#x} {SECOND:#x}"))?;
    check_unplug_under_load(&mut rig)?;

    // The program has ended, so nothing keeps the guest from giving the module back.
    rig.vm.unplug_memory("first")?;
    assert_eq!(rig.fetch(FIRST, 64)?.0, EFAULT);
    rig.transfer("500 6")?;

    // Other memory at the same place: nothing of the last is left.
    rig.plug("third", FIRST)?;
    let blank = (OK, Bytes::zeroes(3000));
    assert_eq!(rig.fetch(SECOND - 3000, 3000)?, blank);
    assert_eq!(rig.store(FIRST, 3000, 7)?, OK);
    assert_eq!(rig.fetch(FIRST, 3000)?, (OK, Bytes::noise(7, 3000)));
    rig.check_no_faults()
}

#[test]
fn memory_is_reached_while_it_is_plugged_in_with_shared_memory() {
    check_hotplug(Memory::Shared).unwrap();
}

#[test]
fn memory_is_reached_while_it_is_plugged_in_with_memory_without_a_file() {
    check_hotplug(Memory::Private).unwrap();
}

#[test]
fn memory_is_reached_while_it_is_plugged_in_with_memory_whose_file_is_not_what_the_guest_sees() {
    check_hotplug(Memory::Unshared).unwrap();
}
