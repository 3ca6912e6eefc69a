//! QEMU's extended registers: the byte order of pixels.
//!
//! `docs/specs/standard-vga.rst` of QEMU, "QEMU extended regs". A guest looks for them if the
//! PCI revision is at least 2.

use mdev::scanout::PixelFormat;
use mdev::state::{Fields, StateError};

/// Bytes that the registers take, as the first of them tells.
pub(super) const LEN: u64 = 8;

/// Where the register that selects the byte order lies; before it is the size.
pub(super) const ENDIANNESS: usize = 4;

const LITTLE: [u8; 4] = [0x1e; 4];
const BIG: [u8; 4] = [0xbe; 4];

/// The registers of one device.
#[derive(Clone, Debug)]
pub(super) struct Extended {
    format: PixelFormat,
    /// Bytes written since, which take effect when together they name a byte order.
    written: [u8; 4],
}

impl Default for Extended {
    fn default() -> Self {
        Self {
            format: PixelFormat::Xrgb8888,
            written: LITTLE,
        }
    }
}

impl Extended {
    /// How the guest stores a pixel.
    pub(super) fn format(&self) -> PixelFormat {
        self.format
    }

    /// Appends the state.
    pub(super) fn save(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.format == PixelFormat::Bgrx8888));
        out.extend(self.written);
    }

    /// Takes a saved state.
    pub(super) fn restore(&mut self, saved: &mut Fields<'_>) -> Result<(), StateError> {
        self.format = if saved.bool()? {
            PixelFormat::Bgrx8888
        } else {
            PixelFormat::Xrgb8888
        };
        self.written = saved.array()?;
        Ok(())
    }

    /// The byte at `at`; 0 past the last.
    pub(super) fn read(&self, at: usize) -> u8 {
        let [size, ..] = LEN.to_le_bytes();
        let endianness = match self.format {
            PixelFormat::Bgrx8888 => BIG,
            _ => LITTLE,
        };
        let [b0, b1, b2, b3] = endianness;
        let bytes = [size, 0, 0, 0, b0, b1, b2, b3];
        bytes.get(at).copied().unwrap_or(0)
    }

    /// Changes one byte. All but the two byte orders are ignored.
    pub(super) fn write(&mut self, at: usize, byte: u8) {
        let place = at
            .checked_sub(ENDIANNESS)
            .and_then(|at| self.written.get_mut(at));
        let Some(place) = place else {
            return;
        };
        *place = byte;
        match self.written {
            LITTLE => self.format = PixelFormat::Xrgb8888,
            BIG => self.format = PixelFormat::Bgrx8888,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_byte_orders_are_taken() {
        let mut extended = Extended::default();
        for (written, read) in [
            (0xbebe_bebe_u32, 0xbebe_bebe_u32),
            (0x1e1e_be1e, 0xbebe_bebe),
            (0x1e1e_1e1e, 0x1e1e_1e1e),
            (0, 0x1e1e_1e1e),
            (0xbebe_bebe, 0xbebe_bebe),
        ] {
            for (at, byte) in written.to_le_bytes().into_iter().enumerate() {
                extended.write(ENDIANNESS + at, byte);
            }
            let bytes = [4, 5, 6, 7].map(|at| extended.read(at));
            assert_eq!(u32::from_le_bytes(bytes), read, "{written:#x}");
        }
    }

    #[test]
    fn the_size_is_read_only() {
        let mut extended = Extended::default();
        extended.write(0, 0xff);
        assert_eq!([0, 1, 2, 3].map(|at| extended.read(at)), [8, 0, 0, 0]);
    }
}
