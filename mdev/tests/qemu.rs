//! What QEMU 11.1.3 was seen to do; the sections are those of `qemu-11.1.md`.

#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]

mod support;

use std::os::fd::{AsFd, OwnedFd};

use mdev::device::Reset;
use mdev::fake::{Event, FakeDevice, register};
use mdev::instance::Clients;
use mdev::region::RegionIndex;
use support::raw::{Outcome, dma};
use support::{Instance, assign, memfd, new_eventfd, set_irqs, signals};
use vfu::client::Client;
use vfu::wire::Command;
use vfu::wire::dma::{DmaFlags, DmaMap, DmaUnmap};
use vfu::wire::irq::IrqAction;
use vfu::wire::region::RegionFlags;

const INTX: u32 = 0;
const CONFIG: u32 = 7;
const PAGE: u64 = 4096;

fn write(client: &mut Client, register: u64, value: u8) {
    client.region_write(0, register, &[value]).unwrap();
}

fn switch_off(client: &mut Client, index: u32) {
    set_irqs(client, IrqAction::Trigger, index, 0).unwrap();
}

fn map(client: &mut Client, iova: u64, size: u64, fd: Option<&OwnedFd>) {
    let map = DmaMap {
        flags: DmaFlags::READ | DmaFlags::WRITE,
        offset: 0,
        iova,
        size,
    };
    client.dma_map(&map, fd.map(AsFd::as_fd)).unwrap();
}

/// Section 1: memory is mapped before anything is asked, and the two first maps are both sent
/// before an answer is awaited.
#[test]
fn attaching_works_in_the_order_that_qemu_keeps() {
    let instance = Instance::new();
    let mut raw = instance.raw();
    let memory = memfd(0x10_0000);
    let ram = support::raw::message(1, 2, &dma(32, 3, &[0, 0, 0x10_0000]));
    let rom = support::raw::message(2, 2, &dma(32, 1, &[0, 0xfffc_0000, 0x4_0000]));
    raw.send(&ram, &[memory.as_fd()]);
    raw.send(&rom, &[]);
    for id in 1..3 {
        let (header, outcome) = raw.receive();
        assert_eq!(
            (header.unwrap().id, outcome),
            (id, Outcome::Success(vec![]))
        );
    }
    let info = raw.ask(
        Command::DeviceGetInfo as u16,
        &support::raw::words(&[16, 0, 0, 0]),
        &[],
    );
    assert_eq!(info, Outcome::Success(support::raw::words(&[16, 3, 9, 5])));
    // The short form of a sparse region says where its capabilities will be.
    let short = support::raw::words(&[32, 0, 2, 0, 0, 0, 0, 0]);
    let answer = raw.ask(Command::DeviceGetRegionInfo as u16, &short, &[]);
    let expected = support::raw::words(&[32 + 16 + 2 * 16, 0xf, 2, 32, 0x8000, 0, 0, 0]);
    assert_eq!(answer, Outcome::Success(expected));
    // The whole of configuration space in one read, then the size of the ROM.
    let config = raw.ask(9, &support::raw::access(0, CONFIG, 4096, &[]), &[]);
    assert!(matches!(config, Outcome::Success(payload) if payload.len() == 16 + 4096));
    let size_rom = support::raw::access(0x30, CONFIG, 4, &0xffff_f800_u32.to_le_bytes());
    assert!(matches!(raw.ask(10, &size_rom, &[]), Outcome::Success(_)));
    let read_back = raw.ask(9, &support::raw::access(0x30, CONFIG, 4, &[]), &[]);
    let sized = support::raw::access(0x30, CONFIG, 4, &0xffff_f000_u32.to_le_bytes());
    assert_eq!(read_back, Outcome::Success(sized));
}

/// Section 4.
#[test]
fn every_region_is_described_and_what_is_mapped_comes_with_its_file() {
    let instance = Instance::new();
    let mut client = instance.client();
    let both = RegionFlags::READ | RegionFlags::WRITE;
    let mapped = both | RegionFlags::MMAP;
    for (index, size, flags, files) in [
        (0, 32, both, 0),
        (1, 0x1_0000, mapped, 1),
        (2, 0x8000, mapped | RegionFlags::CAPS, 1),
        (3, 0, RegionFlags::empty(), 0),
        (4, 0x1000, both, 0),
        (5, 0, RegionFlags::empty(), 0),
        (6, 0x1000, RegionFlags::READ, 0),
        (7, 4096, both, 0),
        (8, 0, RegionFlags::empty(), 0),
    ] {
        let (info, fds) = client.region_info(index).unwrap();
        assert_eq!((info.size, info.flags), (size, flags), "{index}");
        assert_eq!(fds.len(), files, "{index}");
        let areas = if index == 2 {
            &FakeDevice::AREAS[..]
        } else {
            &[]
        };
        assert_eq!(info.sparse, areas, "{index}");
    }
}

/// Sections 4 and 7: a BAR that is mapped can be reached by message too, and both see the same.
#[test]
fn messages_and_the_mapping_show_the_same_memory() {
    let instance = Instance::new();
    let mut client = instance.client();
    for (region, offset) in [(1, 0), (1, 0xfff8), (2, 0x1000), (2, 0x7ff8)] {
        let (_, fds) = client.region_info(region).unwrap();
        client.region_write(region, offset, b"by words").unwrap();
        let mut seen = [0; 8];
        rustix::io::pread(&fds[0], &mut seen, offset).unwrap();
        assert_eq!(&seen, b"by words");
        rustix::io::pwrite(&fds[0], b"by sight", offset).unwrap();
        client.region_read(region, offset, &mut seen).unwrap();
        assert_eq!(&seen, b"by sight");
    }
}

/// Section 4: the pieces of a mapped BAR are announced as memory, without a file.
#[test]
fn a_bar_of_our_own_is_taken_as_memory_without_a_file() {
    let instance = Instance::new();
    let mut client = instance.client();
    for round in 0..3 {
        let at = 0xfe00_0000 + round * 0x10_0000;
        map(&mut client, at, 0x1_0000, None);
        let piece = DmaUnmap::One {
            iova: at,
            size: 0x1_0000,
        };
        client.dma_unmap(&piece).unwrap();
    }
    let memory = memfd(4 * PAGE);
    map(&mut client, 0, 4 * PAGE, Some(&memory));
    map(&mut client, 4 * PAGE, PAGE, None);
    client.dma_unmap(&DmaUnmap::All).unwrap();
    map(&mut client, 0, 8 * PAGE, None);
}

/// Section 8: around a reset INTx goes off and on, and six BARs are written, also absent ones.
#[test]
fn a_reset_during_anything_leaves_memory_mapped_and_the_device_as_new() {
    let instance = Instance::new();
    let mut client = instance.client();
    let (memory, old, new) = (memfd(PAGE), new_eventfd(), new_eventfd());
    map(&mut client, 0, PAGE, Some(&memory));
    assign(&mut client, INTX, 0, &[old.try_clone().unwrap()]).unwrap();
    write(&mut client, register::MEMORY, 7);
    write(&mut client, register::LEVEL, 1);
    assert_eq!(signals(&old), 1);
    switch_off(&mut client, INTX);
    client.region_write(CONFIG, 4, &[0, 4]).unwrap();
    client.reset().unwrap();
    assign(&mut client, INTX, 0, &[new.try_clone().unwrap()]).unwrap();
    for bar in 0..6 {
        client
            .region_write(CONFIG, 0x10 + 4 * bar, &[0; 4])
            .unwrap();
    }
    assert_eq!(
        instance.log.take().last(),
        Some(&Event::Reset(Reset::Device))
    );
    let mut memory_now = [0xff; 2];
    client
        .region_read(0, register::MEMORY, &mut memory_now)
        .unwrap();
    assert_eq!(memory_now, [0; 2]);
    assert_eq!(signals(&new), 0);
    // The reset has cleared INTx Disable as well, and the session has seen it.
    write(&mut client, register::LEVEL, 1);
    assert_eq!((signals(&old), signals(&new)), (0, 1));
    let mapped = DmaUnmap::One {
        iova: 0,
        size: PAGE,
    };
    client.dma_unmap(&mapped).unwrap();
}

#[test]
fn a_function_level_reset_in_configuration_space_resets_the_device() {
    let instance = Instance::new();
    let mut client = instance.client();
    let mut config = [0; 256];
    client.region_read(CONFIG, 0, &mut config).unwrap();
    let mut at = usize::from(config[0x34]);
    while config[at] != 0x10 {
        at = config[at + 1].into();
    }
    write(&mut client, register::MEMORY, 7);
    client.region_write(CONFIG, 4, &[6, 4]).unwrap();
    // Device Control, with Initiate Function Level Reset.
    let control = at as u64 + 8;
    client.region_write(CONFIG, control, &[0x10, 0xa8]).unwrap();
    assert_eq!(
        instance.log.take().last(),
        Some(&Event::Reset(Reset::Function))
    );
    let mut command = [0xff; 2];
    client.region_read(CONFIG, 4, &mut command).unwrap();
    assert_eq!(command, [0, 0]);
    let mut memory = [0xff];
    client
        .region_read(0, register::MEMORY, &mut memory)
        .unwrap();
    assert_eq!(memory, [0]);
}

/// Section 11: the ROM is read in one piece. A write to it does not reach the device, as on a
/// real bus.
#[test]
fn the_rom_is_read_whole_and_never_written() {
    let instance = Instance::new();
    let mut client = instance.client();
    let mut rom = vec![0; FakeDevice::ROM as usize];
    client.region_write(6, 0, &[1; 8]).unwrap();
    client.region_read(6, 0, &mut rom).unwrap();
    assert!(rom.iter().all(|byte| *byte == FakeDevice::ROM_BYTE));
    assert_eq!(instance.log.take(), []);
}

/// An access that the device cannot serve is no error: Cloud Hypervisor would wait for ever.
#[test]
fn a_fault_reads_ones_and_is_counted() {
    let instance = Instance::new();
    let mut client = instance.client();
    let mut data = [0; 2];
    client.region_read(0, register::BROKEN, &mut data).unwrap();
    assert_eq!(data, [0xff; 2]);
    write(&mut client, register::BROKEN, 1);
    assert_eq!(instance.metrics.faults.value(), 2);
}

#[test]
fn an_access_of_no_bytes_succeeds_and_does_not_reach_the_device() {
    let instance = Instance::new();
    let mut client = instance.client();
    for offset in [0, register::BROKEN, u64::from(FakeDevice::REGISTERS)] {
        client.region_read(0, offset, &mut []).unwrap();
        client.region_write(0, offset, &[]).unwrap();
    }
    assert_eq!(instance.log.take(), []);
}

/// Section 3: QEMU gathers posted writes where nothing is mapped, and not elsewhere.
#[test]
fn many_writes_in_one_message_are_offered_whatever_is_mapped() {
    for (instance, has_mapped) in [
        (Instance::new(), true),
        (Instance::all_trapped(Clients::Any), false),
    ] {
        let mut client = instance.client();
        assert_eq!(client.agreed().capabilities.write_multiple, Some(true));
        for bar in [1, 2] {
            let (info, fds) = client.region_info(bar).unwrap();
            assert_eq!(info.flags.contains(RegionFlags::MMAP), has_mapped, "{bar}");
            assert_eq!(fds.len(), usize::from(has_mapped), "{bar}");
        }
    }
}

#[test]
fn posted_writes_are_done_in_order_before_the_next_read() {
    let instance = Instance::all_trapped(Clients::Any);
    let mut client = instance.client();
    for value in 0..100_u8 {
        let access = support::raw::access(8, 0, 1, &[value]);
        client
            .post(Command::RegionWrite, &[], |out| out.extend(access))
            .unwrap();
    }
    let mut last = [0];
    client.region_read(0, 8, &mut last).unwrap();
    assert_eq!(last, [99]);
    let writes = instance.log.take();
    let expected = (0..100).map(|value| Event::Write(RegionIndex::Bar0, 8, vec![value]));
    assert_eq!(writes, expected.collect::<Vec<_>>());
}
