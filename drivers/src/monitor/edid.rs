//! The monitor that the guest finds: one EDID block.
//!
//! VESA Enhanced EDID 1.4; numbers of sections and tables below are its own. One block is enough:
//! the largest mode of all types fits a detailed timing.

use super::mode::Mode;
use super::timing::{Blanking, Timing};

/// Bytes of a block.
pub(crate) const LEN: usize = 128;

const HEADER: [u8; 8] = [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0];
const VERSION: [u8; 2] = [1, 4];

const MANUFACTURER: [u8; 3] = *b"VGP";
const PRODUCT: u16 = 1;
const NO_SERIAL: u32 = 0;
const NO_WEEK: u8 = 0;
/// The year of the model, counted from 1990.
const YEAR: u8 = (2026 - 1990) as u8;

/// Table 3.11: digital, 8 bits a colour, interface not told.
const VIDEO_INPUT: u8 = 0x80 | 0x20;
/// Table 3.14: sRGB, the first detailed timing is the native one, any frequency in range.
const FEATURES: u8 = 0x04 | 0x02 | 0x01;
/// Gamma times 100, less 100: 2.2, as sRGB has it.
const GAMMA: u8 = 120;
/// Table 3.16 for sRGB's primaries and white point.
const SRGB: [u8; 10] = [0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54];

/// Desktops do not scale at this density.
const DOTS_PER_INCH: u32 = 96;
const TENTH_MM_PER_INCH: u32 = 254;

/// Table 3.18: the modes that have a bit each, as `(mode, byte, bit)`. All are 60 Hz.
const ESTABLISHED: [(Mode, usize, u8); 3] = [
    (Mode::new(640, 480), 0, 5),
    (Mode::new(800, 600), 0, 0),
    (Mode::new(1024, 768), 1, 3),
];

/// Common modes that are not [`ESTABLISHED`], largest first.
const STANDARD: [Mode; 9] = [
    Mode::new(1920, 1200),
    Mode::new(1920, 1080),
    Mode::new(1600, 1200),
    Mode::new(1680, 1050),
    Mode::new(1600, 900),
    Mode::new(1280, 1024),
    Mode::new(1440, 900),
    Mode::new(1280, 800),
    Mode::new(1280, 720),
];
const STANDARD_SLOTS: usize = 8;
const UNUSED_SLOT: [u8; 2] = [1, 1];

/// Table 3.19: the shapes that a standard timing can have, `(width, height, code)`; all 60 Hz.
const SHAPES: [(u32, u32, u8); 4] = [(16, 10, 0), (4, 3, 1), (5, 4, 2), (16, 9, 3)];

const DESCRIPTOR_LEN: usize = 18;
const DESCRIPTORS: usize = 4;
/// Table 3.23: the kinds of descriptors that are no timing.
const TAG_NAME: u8 = 0xfc;
const TAG_RANGE_LIMITS: u8 = 0xfd;
const TAG_DUMMY: u8 = 0x10;

/// Table 3.26: vertical Hz and horizontal kHz, least and most, then the most of the pixel clock in
/// 10 MHz, then "range limits only" and its padding. There is no beam, so they are as wide as
/// whatever a guest can time.
const RANGE_LIMITS: [u8; 13] = [
    50, 75, 1, 255, 66, 0x01, b'\n', b' ', b' ', b' ', b' ', b' ', b' ',
];
const NAME: [u8; 13] = *b"vgpud\n       ";

const NO_BORDER: u8 = 0;
/// Table 3.22: not interlaced, no stereo, separate digital sync; up horizontally and down
/// vertically, by which reduced blanking is known.
const SYNC: u8 = 0x18 | 0x02;

/// The block of a monitor that prefers one mode and can also show the others up to `largest`.
pub(crate) fn block(preferred: Mode, largest: Mode) -> Vec<u8> {
    numbered_block(preferred, largest, NO_SERIAL)
}

/// The same of one of several monitors, each with another serial number, which is none if it is 0.
pub(crate) fn numbered_block(preferred: Mode, largest: Mode, serial: u32) -> Vec<u8> {
    let mut block = Vec::with_capacity(LEN);
    block.extend(HEADER);
    block.extend(manufacturer().to_be_bytes());
    block.extend(PRODUCT.to_le_bytes());
    block.extend(serial.to_le_bytes());
    block.extend([NO_WEEK, YEAR]);
    block.extend(VERSION);
    block.push(VIDEO_INPUT);
    block.extend(size_mm(preferred).map(centimetres));
    block.extend([GAMMA, FEATURES]);
    block.extend(SRGB);
    block.extend(established(largest));
    block.extend(standard(largest));
    block.extend(descriptors(preferred, largest));
    block.push(0); // no block follows
    block.push(checksum(&block));
    block
}

/// The byte that makes the sum of a whole block 0.
fn checksum(block: &[u8]) -> u8 {
    block
        .iter()
        .fold(0_u8, |sum, byte| sum.wrapping_add(*byte))
        .wrapping_neg()
}

/// Three letters of 5 bits, `A` being 1; section 3.4.1.
fn manufacturer() -> u16 {
    MANUFACTURER
        .iter()
        .fold(0, |id, letter| id << 5 | u16::from(letter - b'A' + 1))
}

/// The size of a screen whose native mode this is.
fn size_mm(native: Mode) -> [u16; 2] {
    [native.width, native.height].map(|pixels| {
        let tenths = u32::from(pixels) * TENTH_MM_PER_INCH / DOTS_PER_INCH;
        u16::try_from((tenths + 5) / 10).unwrap_or(u16::MAX)
    })
}

fn centimetres(millimetres: u16) -> u8 {
    u8::try_from((millimetres + 5) / 10).unwrap_or(u8::MAX)
}

fn established(largest: Mode) -> [u8; 3] {
    let mut bits = [0; 3];
    for (mode, byte, bit) in ESTABLISHED {
        if mode.pixels() <= largest.pixels() {
            bits[byte] |= 1 << bit;
        }
    }
    bits
}

fn standard(largest: Mode) -> impl Iterator<Item = u8> {
    STANDARD
        .into_iter()
        .filter(move |mode| mode.pixels() <= largest.pixels())
        .filter_map(standard_timing)
        .chain(std::iter::repeat(UNUSED_SLOT))
        .take(STANDARD_SLOTS)
        .flatten()
}

/// Section 3.9: an eighth of the width, less 31; the shape; the refresh rate less 60.
fn standard_timing(mode: Mode) -> Option<[u8; 2]> {
    let (width, height) = (u32::from(mode.width), u32::from(mode.height));
    let (_, _, shape) = SHAPES.iter().find(|(x, y, _)| width * y == height * x)?;
    Some([u8::try_from(width / 8 - 31).ok()?, shape << 6])
}

/// Timings come first, as section 3.10 demands.
fn descriptors(preferred: Mode, largest: Mode) -> impl Iterator<Item = u8> {
    let size = size_mm(preferred);
    let second = (preferred != largest).then(|| detailed_timing(largest, size));
    [detailed_timing(preferred, size)]
        .into_iter()
        .chain(second)
        .chain([
            descriptor(TAG_RANGE_LIMITS, RANGE_LIMITS),
            descriptor(TAG_NAME, NAME),
            descriptor(TAG_DUMMY, [0; 13]),
        ])
        .take(DESCRIPTORS)
        .flatten()
}

fn descriptor(tag: u8, data: [u8; 13]) -> [u8; DESCRIPTOR_LEN] {
    let mut bytes = [0; DESCRIPTOR_LEN];
    bytes[3] = tag;
    bytes[5..].copy_from_slice(&data);
    bytes
}

/// Tables 3.21 and 3.22; `size` is that of the screen, in millimetres.
fn detailed_timing(mode: Mode, size: [u16; 2]) -> [u8; DESCRIPTOR_LEN] {
    let timing = Timing::reduced_blanking(mode);
    let [clock_low, clock_high] = timing.clock.to_le_bytes();
    let [x0, x1, x2] = low_low_high(mode.width, timing.horizontal.total);
    let [y0, y1, y2] = low_low_high(mode.height, timing.vertical.total);
    let [sync0, sync1, sync2, sync3] = sync(timing.horizontal, timing.vertical);
    let [size0, size1, size2] = low_low_high(size[0], size[1]);
    [
        clock_low, clock_high, x0, x1, x2, y0, y1, y2, sync0, sync1, sync2, sync3, size0, size1,
        size2, NO_BORDER, NO_BORDER, SYNC,
    ]
}

/// Two numbers of 12 bits: the low bytes of each, then four high bits of each.
fn low_low_high(first: u16, second: u16) -> [u8; 3] {
    let [first_low, first_high] = first.to_le_bytes();
    let [second_low, second_high] = second.to_le_bytes();
    [first_low, second_low, first_high << 4 | second_high & 0xf]
}

/// Front porch and sync: 10 bits horizontally and 6 vertically, the low bits first.
fn sync(horizontal: Blanking, vertical: Blanking) -> [u8; 4] {
    let [front, front_high] = horizontal.front.to_le_bytes();
    let [sync, sync_high] = horizontal.sync.to_le_bytes();
    let [vertical_front, _] = vertical.front.to_le_bytes();
    let [vertical_sync, _] = vertical.sync.to_le_bytes();
    let low = vertical_front << 4 | vertical_sync & 0xf;
    let high = front_high << 6
        | (sync_high & 3) << 4
        | (vertical_front >> 4 & 3) << 2
        | vertical_sync >> 4 & 3;
    [front, sync, low, high]
}

#[cfg(test)]
mod tests {

    use super::*;

    const LARGEST: [Mode; 3] = [
        Mode::new(800, 600),
        Mode::new(1920, 1080),
        Mode::new(3840, 2160),
    ];

    /// The visible and total size, and the clock in 10 kHz, of descriptor `index`.
    fn parse_timing(block: &[u8], index: usize) -> ([u16; 4], u16) {
        let bytes = &block[54 + DESCRIPTOR_LEN * index..][..DESCRIPTOR_LEN];
        let number = |low: usize, high: usize, shift: u8| {
            u16::from(bytes[low]) | u16::from(bytes[high] >> shift & 0xf) << 8
        };
        let (x, x_blank) = (number(2, 4, 4), number(3, 4, 0));
        let (y, y_blank) = (number(5, 7, 4), number(6, 7, 0));
        let clock = u16::from_le_bytes([bytes[0], bytes[1]]);
        ([x, x + x_blank, y, y + y_blank], clock)
    }

    fn modes() -> impl Iterator<Item = (Mode, Mode)> {
        LARGEST.into_iter().flat_map(|largest| {
            [largest, Mode::new(640, 480), Mode::new(64, 64)].map(|preferred| (preferred, largest))
        })
    }

    #[test]
    fn a_block_is_whole_and_named() {
        for (preferred, largest) in modes() {
            let block = block(preferred, largest);
            assert_eq!(block.len(), LEN);
            assert_eq!(block[..8], HEADER);
            let sum = block.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
            assert_eq!(sum, 0, "{preferred} {largest}");
            assert_eq!(block[126], 0, "no block follows");
            let named = descriptor(TAG_NAME, NAME);
            assert!(block[54..126].chunks(DESCRIPTOR_LEN).any(|it| it == named));
        }
    }

    #[test]
    fn timings_read_back() {
        for (width, height, numbers, clock) in [
            (800, 600, [800, 960, 600, 618], 3550),
            (1920, 1080, [1920, 2080, 1080, 1111], 13850),
            (3840, 2160, [3840, 4000, 2160, 2222], 53325),
        ] {
            let mode = Mode::new(width, height);
            let whole = block(mode, mode);
            assert_eq!(parse_timing(&whole, 0), (numbers, clock), "{mode}");
            let second = block(Mode::new(640, 480), mode);
            assert_eq!(parse_timing(&second, 0).0[0], 640);
            assert_eq!(parse_timing(&second, 1), (numbers, clock), "{mode}");
        }
    }

    #[test]
    fn sync_reads_back() {
        let whole = block(Mode::new(1920, 1080), Mode::new(1920, 1080));
        let [front, sync, low, high] = whole[54 + 8..54 + 12] else {
            panic!("a block is longer");
        };
        assert_eq!((front, sync, low >> 4, low & 0xf, high), (48, 32, 3, 5, 0));
    }

    #[test]
    fn no_mode_on_offer_is_larger_than_the_largest() {
        for (largest, established, standard) in [
            (Mode::new(640, 400), [0, 0, 0], 0),
            (Mode::new(800, 600), [0x21, 0, 0], 0),
            (Mode::new(1024, 768), [0x21, 0x08, 0], 0),
            (Mode::new(1920, 1080), [0x21, 0x08, 0], 8),
            (Mode::new(3840, 2160), [0x21, 0x08, 0], 8),
        ] {
            let block = block(largest, largest);
            assert_eq!(block[35..38], established, "{largest}");
            let slots: Vec<_> = block[38..54]
                .chunks(2)
                .filter(|slot| *slot != UNUSED_SLOT)
                .collect();
            assert_eq!(slots.len(), standard, "{largest}");
            for slot in slots {
                let width = u32::from(slot[0]) * 8 + 248;
                let (x, y, _) = SHAPES[usize::from(slot[1] >> 6)];
                assert!(width * width * y / x <= largest.pixels(), "{width} {x}:{y}");
            }
        }
    }
}
