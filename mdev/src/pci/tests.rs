//! What the space is to a guest, and to QEMU.

use std::panic::catch_unwind;

use proptest::prelude::*;

use super::{Bar, Capability, Class, ConfigEvents, ConfigSpace};
use super::{ExpressKind, Identity, Pin, Status};
use crate::irq::IrqCounts;
use crate::region::RegionIndex;

pub(super) const IDENTITY: Identity = Identity {
    vendor: 0x1b36,
    device: 0xfeed,
    subsystem_vendor: 0x1b36,
    subsystem: 1,
    revision: 1,
    class: Class {
        base: 0xff,
        sub: 0,
        interface: 0,
    },
};

pub(super) fn u16_at(space: &ConfigSpace, offset: u64) -> u16 {
    let mut data = [0; 2];
    space.read(offset, &mut data);
    u16::from_le_bytes(data)
}

pub(super) fn u32_at(space: &ConfigSpace, offset: u64) -> u32 {
    let mut data = [0; 4];
    space.read(offset, &mut data);
    u32::from_le_bytes(data)
}

pub(super) fn image(space: &ConfigSpace) -> Vec<u8> {
    let mut data = vec![0; usize::try_from(space.size()).unwrap()];
    space.read(0, &mut data);
    data
}

/// The device of the attach that was recorded from QEMU 11.1.3.
fn recorded() -> ConfigSpace {
    let memory = |size, prefetchable| Bar::Memory32 { size, prefetchable };
    ConfigSpace::new(IDENTITY)
        .with_bar(RegionIndex::Bar0, memory(0x1000, false))
        .with_bar(RegionIndex::Bar1, memory(0x10000, true))
        .with_bar(RegionIndex::Bar2, memory(0x10000, false))
        .with_bar(RegionIndex::Bar3, Bar::Io { size: 0x40 })
        .with_bar(RegionIndex::Bar4, memory(0x2000, false))
        .with_interrupt_pin(Pin::A)
        .with_capability(Capability::Msix {
            vectors: 4,
            table: (RegionIndex::Bar4, 0),
            pba: (RegionIndex::Bar4, 0x1000),
        })
}

/// A device with one of everything. Its capabilities lie at 0x40, 0x48, 0x58, 0x64 and 0xa0.
fn complete() -> ConfigSpace {
    let size = 1 << 33;
    let prefetchable = true;
    ConfigSpace::new(IDENTITY)
        .with_bar(RegionIndex::Bar0, Bar::Memory64 { size, prefetchable })
        .with_bar(RegionIndex::Bar2, Bar::Io { size: 8 })
        .with_bar(
            RegionIndex::Bar4,
            Bar::Memory32 {
                size: 0x2000,
                prefetchable: false,
            },
        )
        .with_rom(0x10000)
        .with_interrupt_pin(Pin::A)
        .with_capability(Capability::PowerManagement)
        .with_capability(Capability::Msi { vectors: 8 })
        .with_capability(Capability::Msix {
            vectors: 65,
            table: (RegionIndex::Bar4, 0),
            pba: (RegionIndex::Bar4, 0x1000),
        })
        .with_capability(Capability::Express {
            kind: ExpressKind::Endpoint,
        })
        .with_capability(Capability::Vendor(vec![1, 2, 3]))
}

/// What a guest may change in [`complete`]: offset and bits of each double word, from the
/// specifications, not from our masks.
const WRITABLE: [(usize, u32); 16] = [
    (0x04, 0x0000_0547),
    (0x0c, 0x0000_ffff),
    (0x14, 0xffff_fffe),
    (0x18, 0xffff_fff8),
    (0x20, 0xffff_e000),
    (0x30, 0xffff_0001),
    (0x3c, 0x0000_00ff),
    (0x44, 0x0000_0003),
    (0x48, 0x0071_0000),
    (0x4c, 0xffff_fffc),
    (0x50, 0xffff_ffff),
    (0x54, 0x0000_ffff),
    (0x58, 0xc000_0000),
    (0x6c, 0x0000_781f),
    (0x74, 0x0000_00cb),
    (0x8c, 0x0000_0010),
];

#[test]
fn qemu_sees_what_it_saw_in_the_recorded_attach() {
    let mut expected = vec![0; 256];
    for (offset, bytes) in [
        (0x00, [0x36, 0x1b, 0xed, 0xfe, 0, 0, 0x10, 0, 1, 0, 0, 0xff]),
        (0x10, [0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0]),
        (0x1c, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (0x2c, [0x36, 0x1b, 1, 0, 0, 0, 0, 0, 0x40, 0, 0, 0]),
        (0x38, [0, 0, 0, 0, 0, 1, 0, 0, 0x11, 0, 3, 0]),
        (0x44, [4, 0, 0, 0, 4, 0x10, 0, 0, 0, 0, 0, 0]),
    ] {
        expected[offset..offset + 12].copy_from_slice(&bytes);
    }
    let mut space = recorded();
    assert_eq!(image(&space), expected, "message 28");

    for (message, offset, reply) in [
        (30, 0x30, &[0, 0, 0, 0][..]),
        (38, 0x10, &[0, 0, 0, 0]),
        (40, 0x14, &[8, 0, 0, 0]),
        (42, 0x18, &[0, 0, 0, 0]),
        (44, 0x1c, &[1, 0, 0, 0]),
        (46, 0x20, &[0, 0, 0, 0]),
        (48, 0x42, &[3, 0]),
        (50, 0x44, &[4, 0, 0, 0]),
        (52, 0x48, &[4, 0x10, 0, 0]),
        (56, 0x3d, &[1]),
        (66, 0x04, &[0, 0]),
    ] {
        let mut data = vec![0x55; reply.len()];
        space.read(offset, &mut data);
        assert_eq!(data, reply, "message {message}");
    }
    for (message, offset, data) in [
        (31, 0x30, &[0, 0xf8, 0xff, 0xff][..]),
        (35, 0x30, &[0, 0, 0, 0]),
        (67, 0x04, &[0, 0]),
        (75, 0x10, &[0, 0, 0, 0]),
        (77, 0x14, &[0, 0, 0, 0]),
        (79, 0x18, &[0, 0, 0, 0]),
        (81, 0x1c, &[0, 0, 0, 0]),
        (83, 0x20, &[0, 0, 0, 0]),
        (85, 0x24, &[0, 0, 0, 0]),
    ] {
        assert!(space.write(offset, data).is_empty(), "message {message}");
        assert_eq!(image(&space), expected, "message {message}");
    }
}

#[test]
fn a_guest_writes_what_the_specifications_let_it_write() {
    let mut expected = image(&complete());
    let mut space = complete();
    for (offset, mask) in WRITABLE {
        for (at, mask) in (offset..).zip(mask.to_le_bytes()) {
            expected[at] |= mask;
        }
    }
    // Eight vectors are all there are; an enable of more is cut.
    expected[0x4a] = 0xb7;
    let _ = space.write(0, &vec![0xff; 4096]);
    assert_eq!(image(&space), expected);
    let _ = space.write(0, &vec![0; 4096]);
    for (offset, mask) in WRITABLE {
        assert_eq!(u32_at(&space, offset as u64) & mask, 0, "{offset:#x}");
    }
}

#[test]
fn the_list_of_capabilities_ends_and_holds_each_once() {
    let bare = ConfigSpace::new(IDENTITY);
    for (space, expected) in [
        (bare, &[][..]),
        (recorded(), &[(0x40, 0x11)]),
        (
            complete(),
            &[
                (0x40, 0x01),
                (0x48, 0x05),
                (0x58, 0x11),
                (0x64, 0x10),
                (0xa0, 0x09),
            ],
        ),
    ] {
        let bytes = image(&space);
        let mut found = Vec::new();
        let mut at = bytes[0x34];
        while at != 0 && found.len() < 48 {
            found.push((at, bytes[usize::from(at)]));
            at = bytes[usize::from(at) + 1];
        }
        assert_eq!(found, expected);
        let listed = space.status().contains(Status::CAPABILITIES);
        assert_eq!(listed, !expected.is_empty());
    }
}

#[test]
fn vectors_are_counted_from_what_is_announced() {
    for (space, intx, msi, msix) in [
        (ConfigSpace::new(IDENTITY), 0, 0, 0),
        (recorded(), 1, 0, 4),
        (complete(), 1, 8, 65),
    ] {
        assert_eq!(space.irqs(), IrqCounts { intx, msi, msix });
    }
}

#[test]
fn only_a_pci_express_space_is_extended() {
    assert_eq!(recorded().size(), 256);
    assert_eq!(u32_at(&recorded(), 256), 0xffff_ffff);
    assert_eq!(complete().region_size(RegionIndex::Config), 4096);
    assert!(image(&complete())[256..].iter().all(|byte| *byte == 0));
    assert_eq!(u32_at(&complete(), 4094), 0xffff_0000);
}

#[test]
fn a_device_that_cannot_exist_is_refused() {
    let twice = || complete().with_capability(Capability::PowerManagement);
    let full = || complete().with_capability(Capability::Vendor(vec![0; 100]));
    let long = || complete().with_capability(Capability::Vendor(vec![0; 300]));
    for build in [twice as fn() -> ConfigSpace, full, long] {
        assert!(catch_unwind(build).is_err());
    }
}

/// Accesses of a guest: where, and what it writes there.
fn accesses() -> impl Strategy<Value = Vec<(u64, Vec<u8>)>> {
    let offset = prop_oneof![8 => 0..0x120_u64, 1 => 4000..4200_u64, 1 => any::<u64>()];
    prop::collection::vec((offset, prop::collection::vec(any::<u8>(), 0..20)), 0..40)
}

proptest! {
    #[test]
    fn whatever_a_guest_does_nothing_panics_and_read_only_bits_stay(writes in accesses()) {
        for pristine in [recorded(), complete()] {
            let mut space = pristine.clone();
            for (offset, data) in &writes {
                let _ = space.write(*offset, data);
                space.read(*offset, &mut vec![0; data.len()]);
            }
            space.reset();
            prop_assert_eq!(image(&space), image(&pristine));
        }

        let mut space = complete();
        for (offset, data) in &writes {
            let _ = space.write(*offset, data);
        }
        let (mut before, mut after) = (image(&complete()), image(&space));
        for (offset, mask) in WRITABLE {
            for (at, mask) in (offset..).zip(mask.to_le_bytes()) {
                before[at] &= !mask;
                after[at] &= !mask;
            }
        }
        prop_assert_eq!(before, after);
    }

    #[test]
    fn an_access_is_the_same_as_its_bytes_one_by_one(writes in accesses()) {
        let (mut whole, mut split) = (complete(), complete());
        for (offset, data) in &writes {
            let events = whole.write(*offset, data);
            let mut union = ConfigEvents::empty();
            let mut read = vec![0; data.len()];
            whole.read(*offset, &mut read);
            for (at, byte) in data.iter().enumerate() {
                // Past the top of the address space there is nothing to write.
                let Some(at) = offset.checked_add(at as u64) else { break };
                union |= split.write(at, &[*byte]);
            }
            prop_assert_eq!(events, union);
            for (at, byte) in read.iter().enumerate() {
                let mut one = [0];
                split.read(offset.saturating_add(at as u64), &mut one);
                prop_assert_eq!(one[0], *byte);
            }
        }
        prop_assert_eq!(image(&whole), image(&split));
    }
}
