//! Transfers: what arrives, and what becomes of those that cannot be done.

use rustix::io::Errno;
use vfu::wire::dma::{DmaFlags, DmaMap};

use super::guest::{BUS_MASTER, Instance, PAGE, Ram, pattern};
use crate::edu::registers::{Register, command};
use crate::edu::transfer::BUFFER;

const WAYS: [&str; 2] = ["pin", "copy"];

#[test]
fn bytes_go_to_the_buffer_and_back_by_either_way() {
    for way in WAYS {
        let instance = Instance::new(&[("dma", way)]);
        let mut guest = instance.guest();
        let ram = Ram::new(4 * PAGE);
        guest.map_rw(&ram, 0x10_0000, 4 * PAGE);
        for (from, to, len) in [
            (0, 2 * PAGE, PAGE),
            (1, 2 * PAGE + 3, PAGE - 1),
            (PAGE - 7, 3 * PAGE - 1, 100),
            (5, 9000, 1),
        ] {
            let bytes = pattern(len as u8, len);
            ram.write(0, &vec![0; 4 * PAGE as usize]);
            ram.write(from, &bytes);
            assert_eq!(guest.load(0x10_0000 + from, len), None, "{way} {len}");
            assert_eq!(guest.store(0x10_0000 + to, len), None, "{way} {len}");
            assert_eq!(ram.read(to, len), bytes, "{way} {len}");
            assert_eq!(ram.read(to - 1, 1), [0], "{way} {len}");
            assert_eq!(ram.read(to + len, 1), [0], "{way} {len}");
        }
    }
}

#[test]
fn a_transfer_may_lie_anywhere_in_the_buffer() {
    let instance = Instance::new(&[]);
    let mut guest = instance.guest();
    let ram = Ram::new(2 * PAGE);
    guest.map_rw(&ram, 0, 2 * PAGE);
    let bytes = pattern(1, PAGE);
    ram.write(0, &bytes);
    assert_eq!(guest.load(0, PAGE), None);
    let (start, to_ram) = (command::START, command::START | command::TO_RAM);
    guest.start(16, BUFFER + PAGE - 4, 4, start);
    assert_eq!(guest.finish(), None);
    guest.start(BUFFER + PAGE - 8, PAGE, 8, to_ram);
    assert_eq!(guest.finish(), None);
    let expected = [&bytes[PAGE as usize - 8..][..4], &bytes[16..20]].concat();
    assert_eq!(ram.read(PAGE, 8), expected);
}

#[test]
fn a_transfer_may_cross_mappings_and_files() {
    for way in WAYS {
        let instance = Instance::new(&[("dma", way)]);
        let mut guest = instance.guest();
        let (low, high) = (Ram::new(2 * PAGE), Ram::new(2 * PAGE));
        let second_page = DmaMap {
            flags: DmaFlags::all(),
            offset: PAGE,
            iova: 0x8000,
            size: PAGE,
        };
        guest.map(&low, &second_page);
        guest.map_rw(&high, 0x9000, PAGE);
        let bytes = pattern(2, 1000);
        low.write(2 * PAGE - 600, &bytes[..600]);
        high.write(0, &bytes[600..]);
        assert_eq!(guest.load(0x9000 - 600, 1000), None, "{way}");
        assert_eq!(guest.store(0x9000 - 300, 1000), None, "{way}");
        assert_eq!(low.read(2 * PAGE - 300, 300), bytes[..300], "{way}");
        assert_eq!(high.read(0, 700), bytes[300..], "{way}");
    }
}

#[test]
fn a_transfer_that_cannot_be_done_does_nothing_and_says_why() {
    let read_only = DmaMap {
        flags: DmaFlags::READ,
        offset: 0,
        iova: 0x6000,
        size: PAGE,
    };
    for way in WAYS {
        let instance = Instance::new(&[("dma", way), ("dma-mask", "16")]);
        let mut guest = instance.guest();
        let ram = Ram::new(PAGE);
        guest.map_rw(&ram, 0x4000, PAGE);
        guest.map(&ram, &read_only);
        guest.map_rw(&ram, 0x1_0000, PAGE);
        let bytes = pattern(3, PAGE);
        ram.write(0, &bytes);
        assert_eq!(guest.load(0x4000, PAGE), None);
        ram.write(0, &vec![0; PAGE as usize]);
        let (start, to_ram) = (command::START, command::START | command::TO_RAM);
        for (source, destination, count, command, errno) in [
            (0x5000, BUFFER, 1, start, Errno::FAULT),
            (0x4001, BUFFER, PAGE, start, Errno::FAULT),
            (BUFFER, 0x3fff, 2, to_ram, Errno::FAULT),
            (BUFFER, 0x4001, PAGE, to_ram, Errno::FAULT),
            (BUFFER, 0x6000, 1, to_ram, Errno::ACCESS),
            (0x4000, BUFFER + 1, PAGE, start, Errno::INVAL),
            (BUFFER - 1, 0x4000, 1, to_ram, Errno::INVAL),
            (0x4000, 0x4000, 1, start, Errno::INVAL),
            (0x1_0000, BUFFER, 1, start, Errno::RANGE),
            (BUFFER, 0xffff, 2, to_ram, Errno::RANGE),
            (u64::MAX, BUFFER, 2, start, Errno::RANGE),
        ] {
            let failures = guest.read(Register::DmaFailures);
            guest.start(source, destination, count, command);
            let case = format!("{way}: {count} from {source:#x} to {destination:#x}");
            assert_eq!(guest.finish(), Some(errno), "{case}");
            assert_eq!(guest.read(Register::DmaFailures), failures + 1, "{case}");
        }
        assert_eq!(ram.read(0, PAGE), vec![0; PAGE as usize]);
        assert_eq!(guest.store(0x4000, PAGE), None);
        assert_eq!(ram.read(0, PAGE), bytes, "the buffer is as it was");
        assert_eq!(guest.read(Register::DmaError), 0);
    }
}

#[test]
fn without_bus_mastering_nothing_is_transferred() {
    for way in WAYS {
        let instance = Instance::new(&[("dma", way)]);
        let mut guest = instance.guest();
        let ram = Ram::new(PAGE);
        guest.map_rw(&ram, 0, PAGE);
        for (allowed, errno) in [(0b010, Some(Errno::PERM)), (BUS_MASTER, None)] {
            guest.set_command(allowed);
            assert_eq!(guest.load(0, 8), errno, "{way}");
            assert_eq!(guest.store(0, 8), errno, "{way}");
        }
    }
}

#[test]
fn a_wide_mask_reaches_the_top_of_the_address_space() {
    let instance = Instance::new(&[("dma-mask", "64")]);
    let mut guest = instance.guest();
    let ram = Ram::new(PAGE);
    let iova = u64::MAX - 2 * PAGE + 1;
    guest.map_rw(&ram, iova, PAGE);
    let bytes = pattern(4, PAGE);
    ram.write(0, &bytes);
    assert_eq!(guest.load(iova, PAGE), None);
    ram.write(0, &[0; 8]);
    assert_eq!(guest.store(iova, PAGE), None);
    assert_eq!(ram.read(0, PAGE), bytes);
}

#[test]
fn a_reset_empties_the_buffer_and_forgets_errors() {
    let instance = Instance::new(&[]);
    let mut guest = instance.guest();
    let ram = Ram::new(PAGE);
    guest.map_rw(&ram, 0, PAGE);
    ram.write(0, &pattern(5, PAGE));
    assert_eq!(guest.load(0, PAGE), None);
    assert_eq!(guest.load(0x5000, 1), Some(Errno::FAULT));
    guest.client.reset().unwrap();
    for register in [
        Register::DmaError,
        Register::DmaFailures,
        Register::DmaCount,
    ] {
        assert_eq!(guest.read(register), 0, "{register:?}");
    }
    assert_eq!(guest.store(0, 1), Some(Errno::PERM), "config space too");
    guest.set_command(BUS_MASTER);
    assert_eq!(guest.store(0, PAGE), None);
    assert_eq!(ram.read(0, PAGE), vec![0; PAGE as usize]);
}
