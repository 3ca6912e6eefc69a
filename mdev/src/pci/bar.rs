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
