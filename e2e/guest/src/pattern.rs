//! The test picture, as a function of place and seed.
//!
//! Red and green say where a pixel is, so that a person sees a shifted or torn picture at once;
//! blue differs from pixel to pixel and from seed to seed, so that a comparison misses nothing.

/// Returns the colour at (`x`, `y`) as 0x00RRGGBB.
pub fn pixel(seed: u32, x: u32, y: u32) -> u32 {
    let red = x.wrapping_add(seed) & 0xff;
    let green = y.wrapping_sub(seed) & 0xff;
    red << 16 | green << 8 | mix(x ^ y.rotate_left(16) ^ mix(seed)) & 0xff
}

/// Fills one row of XRGB8888 pixels in memory order.
pub fn fill_row(seed: u32, y: u32, row: &mut [u8]) {
    for (x, bytes) in (0..).zip(row.chunks_exact_mut(4)) {
        bytes.copy_from_slice(&pixel(seed, x, y).to_le_bytes());
    }
}

/// Pixels of a side of the test cursor.
pub const CURSOR: u32 = 64;

/// The test cursor at (`x`, `y`), as 0xAARRGGBB, the colours multiplied by the alpha: clear in a corner,
/// opaque on the left, half of it on the right.
pub fn cursor(x: u32, y: u32) -> u32 {
    match (x, y) {
        (0..16, 0..16) => 0,
        (..32, _) => 0xff << 24 | x << 16 | y << 8 | 0x7f,
        _ => 0x80 << 24 | (x & 0x7f) << 16 | y << 8 | 0x10,
    }
}

/// The colour below a pixel of a cursor, with that over it.
pub fn under_cursor(below: u32, cursor: u32) -> u32 {
    let through = 255 - (cursor >> 24);
    (0..3).fold(0, |sum, channel| {
        let byte = |word: u32| word >> (8 * channel) & 0xff;
        sum | (byte(cursor) + byte(below) * through / 255) << (8 * channel)
    })
}

/// Spreads every bit of `value` over the whole word (the finaliser of MurmurHash3).
fn mix(mut value: u32) -> u32 {
    value ^= value >> 16;
    value = value.wrapping_mul(0x85eb_ca6b);
    value ^= value >> 13;
    value = value.wrapping_mul(0xc2b2_ae35);
    value ^ value >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_or_another_seed_changes_the_picture() {
        let row = |seed, x0: u32, y| (0..64).map(move |x| pixel(seed, x0 + x, y));
        for (seed, x0, y) in [
            (1, 1, 5),
            (1, 256, 5),
            (1, 0, 6),
            (1, 0, 5 + 256),
            (2, 0, 5),
        ] {
            assert!(row(1, 0, 5).ne(row(seed, x0, y)), "{seed} {x0} {y}");
        }
    }

    #[test]
    fn a_cursor_is_over_what_is_below_as_far_as_it_is_opaque() {
        for (cursor, seen) in [
            (0, 0x64_c8_ff),
            (0xff_11_22_33, 0x11_22_33),
            (0x80_40_00_80, (0x40 + 49) << 16 | 99 << 8 | (0x80 + 127)),
        ] {
            assert_eq!(under_cursor(0x64_c8_ff, cursor), seen, "{cursor:#x}");
        }
        let colours = |word: u32| (0..3).map(move |channel| word >> (8 * channel) & 0xff);
        for (x, y) in (0..CURSOR).flat_map(|y| (0..CURSOR).map(move |x| (x, y))) {
            let pixel = cursor(x, y);
            assert!(
                colours(pixel).all(|colour| colour <= pixel >> 24),
                "{x} {y}"
            );
        }
    }

    #[test]
    fn a_row_holds_its_pixels_blue_first() {
        let mut row = [0xff; 12];
        fill_row(9, 3, &mut row);
        for x in 0..3 {
            let at = x as usize * 4;
            assert_eq!(row[at..at + 4], pixel(9, x, 3).to_le_bytes());
        }
    }
}
