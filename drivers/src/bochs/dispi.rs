//! The VBE DISPI registers: they set a mode, and where in video memory the picture lies.
//!
//! The names are those of the Bochs VBE display API (`VBE_DISPI_INDEX_*`, `VBE_DISPI_ID5`); what
//! each does is QEMU's `docs/specs/standard-vga.rst`. Registers are 16 bits, little-endian.

use std::ops::RangeInclusive;

use mdev::scanout::{Geometry, PixelFormat};
use mdev::state::{Fields, StateError};

use super::model::PIXEL_BYTES;

/// The registers, by `VBE_DISPI_INDEX_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Index {
    Id = 0,
    Xres = 1,
    Yres = 2,
    Bpp = 3,
    Enable = 4,
    VirtWidth = 6,
    XOffset = 8,
    YOffset = 9,
    VideoMemory64K = 10,
}

/// Registers there are. `BANK` (5) and `VIRT_HEIGHT` (7) only store what is written.
const COUNT: usize = 11;

/// Bytes that all registers take.
pub(super) const LEN: u64 = 2 * COUNT as u64;

/// `VBE_DISPI_ID5`: the newest version of the interface.
const ID5: u16 = 0xb0c5;

/// `VBE_DISPI_ENABLED`, of `ENABLE`. Its other bits ask for what is always so, or left out.
const ENABLED: u16 = 1 << 0;

/// The only depth, as Linux asks for it.
const BITS_PER_PIXEL: u16 = 32;

/// What a mode may be: the least of `mbochs`, the most of Bochs (`VBE_DISPI_MAX_XRES`, `_YRES`).
const WIDTHS: RangeInclusive<u16> = 64..=16_000;
const HEIGHTS: RangeInclusive<u16> = 64..=12_000;

/// Unit of the read-only register that tells the memory's size.
const MEMORY_UNIT: u32 = 64 << 10;

/// The registers of one device.
#[derive(Clone, Debug)]
pub(super) struct Dispi {
    registers: [u16; COUNT],
    vram: u32,
}

impl Dispi {
    /// The registers of a device with `vram` bytes of video memory, all 0 where writable.
    pub(super) fn new(vram: u32) -> Self {
        let mut registers = [0; COUNT];
        registers[Index::Id as usize] = ID5;
        let units = u16::try_from(vram / MEMORY_UNIT).unwrap_or(u16::MAX);
        registers[Index::VideoMemory64K as usize] = units;
        Self { registers, vram }
    }

    pub(super) fn reset(&mut self) {
        *self = Self::new(self.vram);
    }

    /// The byte at `at`; 0 past the last register.
    pub(super) fn read(&self, at: usize) -> u8 {
        let register = self.registers.get(at / 2).copied().unwrap_or(0);
        register.to_le_bytes()[at % 2]
    }

    /// Changes one byte of a register. Nothing happens until [`Self::picture`] is asked for, so
    /// the halves of a register may come one by one.
    pub(super) fn write(&mut self, at: usize, byte: u8) {
        let index = at / 2;
        if index == Index::Id as usize || index == Index::VideoMemory64K as usize {
            return;
        }
        if let Some(register) = self.registers.get_mut(index) {
            let mut bytes = register.to_le_bytes();
            bytes[at % 2] = byte;
            *register = u16::from_le_bytes(bytes);
        }
    }

    /// The picture that the registers describe, or `None` while they describe none: it is
    /// disabled, no mode of this device, or does not lie inside video memory.
    pub(super) fn picture(&self, format: PixelFormat) -> Option<Geometry> {
        let (width, height) = (self.get(Index::Xres), self.get(Index::Yres));
        let is_mode = self.get(Index::Enable) & ENABLED != 0
            && self.get(Index::Bpp) == BITS_PER_PIXEL
            && WIDTHS.contains(&width)
            && HEIGHTS.contains(&height);
        if !is_mode {
            return None;
        }
        // 16-bit values: at most 2^32 pixels from the start, so nothing here wraps.
        let stride = u32::from(self.get(Index::VirtWidth).max(width)) * PIXEL_BYTES;
        let x = u64::from(self.get(Index::XOffset)) * u64::from(PIXEL_BYTES);
        let y = u64::from(self.get(Index::YOffset)) * u64::from(stride);
        let geometry = Geometry {
            width: width.into(),
            height: height.into(),
            stride,
            offset: x + y,
            format,
        };
        (geometry.end()? <= u64::from(self.vram)).then_some(geometry)
    }

    /// Appends every register.
    pub(super) fn save(&self, out: &mut Vec<u8>) {
        out.extend(self.registers.iter().flat_map(|it| it.to_le_bytes()));
    }

    /// Takes every register that a guest can write.
    pub(super) fn restore(&mut self, saved: &mut Fields<'_>) -> Result<(), StateError> {
        let bytes = saved.array::<{ LEN as usize }>()?;
        for (at, byte) in bytes.into_iter().enumerate() {
            self.write(at, byte);
        }
        Ok(())
    }

    fn get(&self, index: Index) -> u16 {
        self.registers[index as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VRAM: u32 = 4 << 20;

    fn dispi(width: u16, height: u16) -> Dispi {
        let mut dispi = Dispi::new(VRAM);
        for (index, value) in [
            (Index::Bpp, BITS_PER_PIXEL),
            (Index::Xres, width),
            (Index::Yres, height),
            (Index::Enable, ENABLED),
        ] {
            set(&mut dispi, index, value);
        }
        dispi
    }

    fn set(dispi: &mut Dispi, index: Index, value: u16) {
        for (at, byte) in value.to_le_bytes().into_iter().enumerate() {
            dispi.write(2 * index as usize + at, byte);
        }
    }

    #[test]
    fn a_mode_is_shown_only_if_this_device_has_it() {
        for (width, height, shown) in [
            (64, 64, true),
            (63, 64, false),
            (64, 63, false),
            (1024, 1024, true),
            (1024, 1025, false),
            (16_000, 65, true),
            (16_001, 65, false),
            (87, 12_000, true),
            (80, 12_001, false),
            (u16::MAX, u16::MAX, false),
            (0, 0, false),
        ] {
            let picture = dispi(width, height).picture(PixelFormat::Xrgb8888);
            assert_eq!(picture.is_some(), shown, "{width}x{height}");
        }
    }

    #[test]
    fn one_wrong_register_blanks() {
        for (index, value, shown) in [
            (Index::Enable, 0, false),
            (Index::Enable, 0x40, false),
            (Index::Enable, 0x41, true),
            (Index::Bpp, 24, false),
            (Index::Bpp, 16, false),
            (Index::Bpp, 0, false),
            (Index::VirtWidth, 65_535, false),
            (Index::YOffset, 65_535, false),
            (Index::XOffset, 65_535, true),
            (Index::YOffset, 424, true),
            (Index::YOffset, 425, false),
        ] {
            let mut dispi = dispi(1024, 600);
            set(&mut dispi, index, value);
            let picture = dispi.picture(PixelFormat::Xrgb8888);
            assert_eq!(picture.is_some(), shown, "{index:?} = {value}");
        }
    }

    #[test]
    fn the_last_line_may_end_with_the_memory() {
        let mut dispi = dispi(1000, 1024);
        set(&mut dispi, Index::VirtWidth, 1024);
        for (x, shown) in [(0, true), (24, true), (25, false)] {
            set(&mut dispi, Index::XOffset, x);
            let picture = dispi.picture(PixelFormat::Xrgb8888);
            assert_eq!(picture.is_some(), shown, "{x}");
        }
    }

    #[test]
    fn identity_and_memory_size_are_read_only() {
        for (vram, units) in [(4 << 20, 64), (16 << 20, 256), (64 << 20, 1024)] {
            let mut dispi = Dispi::new(vram);
            for (index, value) in [(Index::Id, ID5), (Index::VideoMemory64K, units)] {
                set(&mut dispi, index, 0x1234);
                assert_eq!(dispi.get(index), value, "{index:?}");
            }
        }
    }
}
