//! Base address registers, and the ROM's.
//!
//! Software learns a size by writing all-ones: the bits that stay 0 are the address bits inside
//! the region, so every size is a power of two.

use super::header::offset;
use super::registers::Registers;
use crate::region::RegionIndex;

/// One base address register (PCI Local Bus 3.0, section 6.2.5.1, "Address Maps").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bar {
    /// I/O ports, anywhere in 32 bits.
    Io {
        /// Bytes: a power of two, at least 4.
        size: u32,
    },
    /// Memory below 4 GiB.
    Memory32 {
        /// Bytes: a power of two, at least 16.
        size: u32,
        /// Reads have no side effects, and writes may be merged.
        prefetchable: bool,
    },
    /// Memory anywhere. Takes the next register too.
    Memory64 {
        /// Bytes: a power of two, at least 16.
        size: u64,
        /// Reads have no side effects, and writes may be merged.
        prefetchable: bool,
    },
}

/// Bit 0: I/O space.
const IO: u32 = 1;
/// Bits 2 and 1: the address has 64 bits.
const MEMORY_64: u32 = 0b10 << 1;
/// Bit 3.
const PREFETCHABLE: u32 = 1 << 3;
/// Bit 0 of the ROM's register: the ROM answers.
const ROM_ENABLE: u32 = 1;
/// Bits 31 to 11 of the ROM's register are its address.
const ROM_MIN_SIZE: u32 = 1 << 11;

impl Bar {
    /// Bytes of the region behind it.
    pub fn size(self) -> u64 {
        match self {
            Self::Io { size } | Self::Memory32 { size, .. } => u64::from(size),
            Self::Memory64 { size, .. } => size,
        }
    }

    /// How many of the six registers it takes.
    fn width(self) -> usize {
        match self {
            Self::Io { .. } | Self::Memory32 { .. } => 1,
            Self::Memory64 { .. } => 2,
        }
    }

    fn min_size(self) -> u64 {
        match self {
            Self::Io { .. } => 4,
            Self::Memory32 { .. } | Self::Memory64 { .. } => 16,
        }
    }

    /// Defines its registers. Panics if the size is not one it can have, or `index` is not free.
    pub(super) fn define(self, index: RegionIndex, registers: &mut Registers) {
        let first = index as usize;
        assert!(
            first + self.width() <= RegionIndex::Rom as usize,
            "{self:?} does not fit at {index:?}"
        );
        assert!(
            self.size().is_power_of_two() && self.size() >= self.min_size(),
            "{self:?} has a size that cannot be announced"
        );
        for slot in first..first + self.width() {
            assert!(registers.is_free(register(slot)), "{index:?} is taken");
        }
        let at = register(first);
        let flag = |prefetchable| if prefetchable { PREFETCHABLE } else { 0 };
        match self {
            Self::Io { size } => registers.define_u32(at, IO, !(size - 1)),
            Self::Memory32 { size, prefetchable } => {
                registers.define_u32(at, flag(prefetchable), !(size - 1));
            }
            Self::Memory64 { size, prefetchable } => {
                let bits = u64::from(MEMORY_64 | flag(prefetchable));
                registers.define_u64(at, bits, !(size - 1));
            }
        }
    }
}

/// Defines the ROM's register (PCI Local Bus 3.0, section 6.2.5.2, "Expansion ROM Base Address
/// Register"). Panics if the size is not one it can have.
pub(super) fn define_rom(size: u32, registers: &mut Registers) {
    assert!(
        size.is_power_of_two() && size >= ROM_MIN_SIZE,
        "a ROM of {size} bytes cannot be announced"
    );
    registers.define_u32(offset::ROM_ADDRESS, 0, !(size - 1) | ROM_ENABLE);
}

/// Where a base address register lies.
fn register(index: usize) -> usize {
    offset::BASE_ADDRESS_0 + 4 * index
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::super::ConfigSpace;
    use super::super::tests::{IDENTITY, u32_at};
    use super::Bar;
    use crate::region::RegionIndex;

    #[test]
    fn all_ones_bring_back_the_size_and_the_kind() {
        let memory32 = |size, prefetchable| Bar::Memory32 { size, prefetchable };
        let memory64 = |size, prefetchable| Bar::Memory64 { size, prefetchable };
        for (bar, low, high) in [
            (Bar::Io { size: 4 }, 0xffff_fffd, 0),
            (Bar::Io { size: 256 }, 0xffff_ff01, 0),
            (memory32(16, false), 0xffff_fff0, 0),
            (memory32(1 << 24, true), 0xff00_0008, 0),
            (memory32(1 << 31, false), 0x8000_0000, 0),
            (memory64(16, false), 0xffff_fff4, 0xffff_ffff),
            (memory64(1 << 32, true), 0x0000_000c, 0xffff_ffff),
            (memory64(1 << 36, true), 0x0000_000c, 0xffff_fff0),
            (memory64(1 << 63, false), 0x0000_0004, 0x8000_0000),
        ] {
            let mut space = ConfigSpace::new(IDENTITY).with_bar(RegionIndex::Bar4, bar);
            let kind = u32_at(&space, 0x20);
            let _ = space.write(0x20, &[0xff; 8]);
            assert_eq!(u32_at(&space, 0x20), low, "{bar:?}");
            assert_eq!(u32_at(&space, 0x24), high, "{bar:?}");
            let _ = space.write(0x20, &[0; 8]);
            assert_eq!(u32_at(&space, 0x20), kind, "{bar:?}");
            assert_eq!(space.region_size(RegionIndex::Bar4), bar.size(), "{bar:?}");
            assert_eq!(space.region_size(RegionIndex::Bar5), 0, "{bar:?}");
        }
    }

    #[test]
    fn an_address_is_written_in_parts() {
        let size = 0x1000;
        let prefetchable = false;
        let mut space = ConfigSpace::new(IDENTITY)
            .with_bar(RegionIndex::Bar0, Bar::Memory32 { size, prefetchable })
            .with_bar(RegionIndex::Bar1, Bar::Io { size: 16 });
        for (offset, data, bar0, bar1) in [
            (0x12, &[0x34, 0xfe][..], 0xfe34_0000, 0x01),
            (0x11, &[0x56], 0xfe34_5000, 0x01),
            (0x13, &[0xfd, 0x7f, 0xc0], 0xfd34_5000, 0xc071),
            (0x0f, &[0xff, 0xff], 0xfd34_5000, 0xc071),
        ] {
            let _ = space.write(offset, data);
            assert_eq!(u32_at(&space, 0x10), bar0, "{offset:#x}");
            assert_eq!(u32_at(&space, 0x14), bar1, "{offset:#x}");
        }
    }

    #[test]
    fn a_rom_announces_its_size_and_an_absent_one_nothing() {
        let absent = ConfigSpace::new(IDENTITY);
        for (mut space, written, read) in [
            (absent.clone(), 0xffff_f800_u32, 0),
            (absent.clone(), 0xffff_ffff, 0),
            (absent.clone().with_rom(2048), 0xffff_f800, 0xffff_f800),
            (absent.clone().with_rom(65536), 0xffff_f800, 0xffff_0000),
            (absent.clone().with_rom(65536), 0xfeb0_0001, 0xfeb0_0001),
        ] {
            let _ = space.write(0x30, &written.to_le_bytes());
            assert_eq!(u32_at(&space, 0x30), read, "{written:#x}");
        }
        assert_eq!(absent.region_size(RegionIndex::Rom), 0);
        assert_eq!(absent.with_rom(2048).region_size(RegionIndex::Rom), 2048);
    }

    #[test]
    fn a_bar_that_cannot_be_announced_is_refused() {
        let memory32 = |size| Bar::Memory32 {
            size,
            prefetchable: false,
        };
        let memory64 = |size| Bar::Memory64 {
            size,
            prefetchable: false,
        };
        for (index, bar) in [
            (RegionIndex::Bar0, Bar::Io { size: 2 }),
            (RegionIndex::Bar0, Bar::Io { size: 12 }),
            (RegionIndex::Bar0, memory32(8)),
            (RegionIndex::Bar0, memory32(0)),
            (RegionIndex::Bar0, memory64(0x3000)),
            (RegionIndex::Bar1, memory64(0x1000)),
            (RegionIndex::Bar2, memory32(0x1000)),
            (RegionIndex::Bar3, memory32(0x1000)),
            (RegionIndex::Bar5, memory64(0x1000)),
            (RegionIndex::Rom, memory32(0x1000)),
            (RegionIndex::Config, memory32(0x1000)),
        ] {
            let space = ConfigSpace::new(IDENTITY).with_bar(RegionIndex::Bar2, memory64(16));
            let built = catch_unwind(|| space.with_bar(index, bar));
            assert!(built.is_err(), "{bar:?} at {index:?}");
        }
        for size in [0, 1024, 3000] {
            let space = ConfigSpace::new(IDENTITY);
            assert!(catch_unwind(|| space.with_rom(size)).is_err(), "{size}");
        }
    }
}
