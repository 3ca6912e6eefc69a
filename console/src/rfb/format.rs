//! How a viewer wants its pixels (RFC 6143, 7.4).

use super::Malformed;

/// A pixel format, of true colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelFormat {
    /// Of a pixel: 8, 16 or 32.
    pub bits: u8,
    /// Of those, useful ones.
    pub depth: u8,
    /// Which byte of a pixel comes first.
    pub is_big_endian: bool,
    /// The largest red, green and blue.
    pub max: [u16; 3],
    /// How far to the left each of them stands.
    pub shift: [u8; 3],
}

/// Bytes of a pixel format.
pub const LEN: usize = 16;

impl PixelFormat {
    /// What is offered: four bytes, blue, green, red, unused.
    pub const OFFERED: Self = Self {
        bits: 32,
        depth: 24,
        is_big_endian: false,
        max: [255; 3],
        shift: [16, 8, 0],
    };

    /// Reads a format. A map of colours, which needs true colour to be off, is not served.
    pub fn parse(bytes: &[u8; LEN]) -> Result<Self, Malformed> {
        let &[
            bits,
            depth,
            big,
            is_true,
            r1,
            r0,
            g1,
            g0,
            b1,
            b0,
            red,
            green,
            blue,
            _,
            _,
            _,
        ] = bytes;
        let format = Self {
            bits,
            depth,
            is_big_endian: big != 0,
            max: [[r1, r0], [g1, g0], [b1, b0]].map(u16::from_be_bytes),
            shift: [red, green, blue],
        };
        if is_true == 0 {
            return Err(Malformed::Format("a map of colours"));
        }
        if !matches!(bits, 8 | 16 | 32) {
            return Err(Malformed::Format("a size that is not 8, 16 or 32 bits"));
        }
        let fits =
            |(&max, &shift): (&u16, &u8)| shift < bits && u64::from(max) << shift < 1_u64 << bits;
        if !format.max.iter().zip(&format.shift).all(fits) {
            return Err(Malformed::Format("colours that do not fit in"));
        }
        Ok(format)
    }

    /// The format as it travels.
    pub fn emit(&self) -> [u8; LEN] {
        let [[r1, r0], [g1, g0], [b1, b0]] = self.max.map(u16::to_be_bytes);
        let [red, green, blue] = self.shift;
        let big = u8::from(self.is_big_endian);
        [
            self.bits, self.depth, big, 1, r1, r0, g1, g0, b1, b0, red, green, blue, 0, 0, 0,
        ]
    }

    /// A colour in this format.
    fn pixel(&self, rgb: u32) -> u32 {
        let [_, red, green, blue] = rgb.to_be_bytes();
        let mut pixel = 0;
        for (channel, (max, shift)) in [red, green, blue]
            .into_iter()
            .zip(self.max.into_iter().zip(self.shift))
        {
            let scaled = (u32::from(channel) * u32::from(max) + 127) / 255;
            pixel |= scaled << shift;
        }
        pixel
    }

    /// The bits that hold colours.
    fn mask(&self) -> u32 {
        let both = self.max.into_iter().zip(self.shift);
        both.fold(0, |mask, (max, shift)| mask | u32::from(max) << shift)
    }

    /// Writes whole pixels.
    pub fn packer(&self) -> Packer {
        let len = usize::from(self.bits / 8);
        Packer {
            format: *self,
            // Of the four bytes of a number, the last ones are the low ones if the first comes first.
            first: if self.is_big_endian { 4 - len } else { 0 },
            len,
        }
    }

    /// Writes pixels as ZRLE has them (RFC 6143, 7.7.5): three bytes, if all colours are in them.
    pub fn compact_packer(&self) -> Packer {
        let whole = self.packer();
        if self.bits != 32 || self.depth > 24 {
            return whole;
        }
        let first = match self.mask() {
            mask if mask < 1 << 24 => usize::from(self.is_big_endian),
            mask if mask & 0xff == 0 => usize::from(!self.is_big_endian),
            _ => return whole,
        };
        Packer {
            first,
            len: 3,
            ..whole
        }
    }
}

/// Writes pixels, each `0x00RRGGBB`, as a viewer wants them.
#[derive(Clone, Copy, Debug)]
pub struct Packer {
    format: PixelFormat,
    /// Of a pixel's four bytes, the first that is sent.
    first: usize,
    /// How many are sent.
    len: usize,
}

impl Packer {
    /// Bytes of one pixel.
    pub fn len_of_one(&self) -> usize {
        self.len
    }

    /// Writes one pixel.
    pub fn put(&self, rgb: u32, out: &mut Vec<u8>) {
        let pixel = if self.format.max == [255; 3] && self.format.shift == [16, 8, 0] {
            rgb
        } else {
            self.format.pixel(rgb)
        };
        let bytes = if self.format.is_big_endian {
            pixel.to_be_bytes()
        } else {
            pixel.to_le_bytes()
        };
        out.extend(bytes.iter().skip(self.first).take(self.len));
    }

    /// Writes pixels one after the other: the raw encoding (RFC 6143, 7.7.1).
    pub fn put_all(&self, pixels: &[u32], out: &mut Vec<u8>) {
        out.reserve(pixels.len().saturating_mul(self.len));
        for &pixel in pixels {
            self.put(pixel, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packed(packer: Packer, rgb: u32) -> Vec<u8> {
        let mut out = Vec::new();
        packer.put_all(&[rgb], &mut out);
        assert_eq!(out.len(), packer.len_of_one());
        out
    }

    #[test]
    fn pixels_are_as_the_viewer_wants_them() {
        let offered = PixelFormat::OFFERED;
        let big = PixelFormat {
            is_big_endian: true,
            ..offered
        };
        let high = PixelFormat {
            shift: [8, 16, 24],
            ..offered
        };
        let high_big = PixelFormat {
            is_big_endian: true,
            ..high
        };
        let deep = PixelFormat {
            depth: 32,
            ..offered
        };
        let small = PixelFormat {
            bits: 16,
            depth: 16,
            max: [31, 63, 31],
            shift: [11, 5, 0],
            ..offered
        };
        let tiny = PixelFormat {
            bits: 8,
            depth: 8,
            max: [7, 7, 3],
            shift: [0, 3, 6],
            ..offered
        };
        let rgb = 0x11_22_33;
        for (format, whole, compact) in [
            (offered, vec![0x33, 0x22, 0x11, 0], vec![0x33, 0x22, 0x11]),
            (big, vec![0, 0x11, 0x22, 0x33], vec![0x11, 0x22, 0x33]),
            (high, vec![0, 0x11, 0x22, 0x33], vec![0x11, 0x22, 0x33]),
            (high_big, vec![0x33, 0x22, 0x11, 0], vec![0x33, 0x22, 0x11]),
            (deep, vec![0x33, 0x22, 0x11, 0], vec![0x33, 0x22, 0x11, 0]),
        ] {
            assert_eq!(packed(format.packer(), rgb), whole, "{format:?}");
            assert_eq!(packed(format.compact_packer(), rgb), compact, "{format:?}");
        }
        for (format, white) in [(small, vec![0xff, 0xff]), (tiny, vec![0xff])] {
            assert_eq!(packed(format.packer(), 0xff_ff_ff), white);
            assert_eq!(packed(format.compact_packer(), 0xff_ff_ff), white);
            assert_eq!(packed(format.packer(), 0), vec![0; white.len()]);
        }
        assert_eq!(packed(small.packer(), 0xff_00_00), [0x00, 0xf8]);
    }

    #[test]
    fn formats_that_cannot_be_are_refused() {
        let good = PixelFormat::OFFERED.emit();
        assert_eq!(PixelFormat::parse(&good), Ok(PixelFormat::OFFERED));
        // Bits, true colour, a shift out of the pixel, a colour that does not fit in.
        for (at, value) in [
            (0, 24),
            (0, 0),
            (0, 64),
            (3, 0),
            (10, 32),
            (10, 255),
            (10, 25),
        ] {
            let mut bytes = good;
            bytes[at] = value;
            assert!(PixelFormat::parse(&bytes).is_err(), "{at} {value}");
        }
    }

    proptest! {
        #[test]
        fn a_format_that_is_accepted_packs_any_colour_into_its_bits(bytes: [u8; LEN], rgb in 0_u32..1 << 24) {
            if let Ok(format) = PixelFormat::parse(&bytes) {
                prop_assert_eq!(PixelFormat::parse(&format.emit()), Ok(format));
                prop_assert!(u64::from(format.pixel(rgb)) < 1 << format.bits);
                prop_assert_eq!(packed(format.packer(), rgb).len(), usize::from(format.bits / 8));
                prop_assert!(!packed(format.compact_packer(), rgb).is_empty());
            }
        }
    }
}
