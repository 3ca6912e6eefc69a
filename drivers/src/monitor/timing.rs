//! The timing of a mode, by VESA's formula for screens without a beam.

use super::mode::Mode;

/// A mode with its blanking, as a detailed timing describes it. Horizontal numbers are pixels,
/// vertical ones are lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timing {
    pub(crate) mode: Mode,
    /// In units of 10 kHz.
    pub(crate) clock: u16,
    pub(crate) horizontal: Blanking,
    pub(crate) vertical: Blanking,
}

/// What comes after the visible part: `front`, then `sync`, then the rest of `total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blanking {
    pub(crate) total: u16,
    pub(crate) front: u16,
    pub(crate) sync: u16,
}

/// Horizontal blanking of "CVT reduced blanking"; VESA CVT 1.1, section 3.4.2, as all that
/// follows. It is the same for every mode.
const HORIZONTAL: Blanking = Blanking {
    total: 160,
    front: 48,
    sync: 32,
};

const VERTICAL_FRONT: u16 = 3;
const MIN_VERTICAL_BACK: u16 = 6;

/// The least vertical blanking, in microseconds.
const MIN_VERTICAL_BLANK_US: u32 = 460;

/// Lines of vertical sync tell the shape of the picture: `(width, height, lines)`.
const SYNC_LINES: [(u32, u32, u16); 5] =
    [(4, 3, 4), (16, 9, 5), (16, 10, 6), (5, 4, 7), (15, 9, 7)];
const SYNC_LINES_OF_OTHERS: u16 = 10;

const REFRESH_HZ: u32 = 60;
const US_PER_S: u32 = 1_000_000;

/// Pixel clocks are multiples of 250 kHz, rounded down.
const CLOCK_STEP_HZ: u32 = 250_000;
const CLOCK_STEP_10KHZ: u32 = CLOCK_STEP_HZ / 10_000;

impl Timing {
    /// The timing of `mode` at 60 Hz, or as much less as a clock of 655.35 MHz demands.
    pub(crate) fn reduced_blanking(mode: Mode) -> Self {
        let sync = sync_lines(mode);
        let blank = min_blank_lines(mode.height).max(VERTICAL_FRONT + sync + MIN_VERTICAL_BACK);
        let pixels = u32::from(mode.width + HORIZONTAL.total) * u32::from(mode.height + blank);
        let clock = pixels * REFRESH_HZ / CLOCK_STEP_HZ * CLOCK_STEP_10KHZ;
        Self {
            mode,
            clock: u16::try_from(clock).unwrap_or(u16::MAX),
            horizontal: HORIZONTAL,
            vertical: Blanking {
                total: blank,
                front: VERTICAL_FRONT,
                sync,
            },
        }
    }
}

fn sync_lines(mode: Mode) -> u16 {
    let (width, height) = (u32::from(mode.width), u32::from(mode.height));
    SYNC_LINES
        .iter()
        .find(|(x, y, _)| width * y == height * x)
        .map_or(SYNC_LINES_OF_OTHERS, |(_, _, lines)| *lines)
}

/// The first number of lines that last longer than [`MIN_VERTICAL_BLANK_US`], if `height` lines
/// take the rest of the frame.
fn min_blank_lines(height: u16) -> u16 {
    // Both sides of the division are times REFRESH_HZ, so that the frame's length is whole.
    let blank = MIN_VERTICAL_BLANK_US * REFRESH_HZ;
    let lines = u32::from(height) * blank / (US_PER_S - blank) + 1;
    u16::try_from(lines).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {

    use super::*;

    /// Of the largest type, `bochs-64m`, which holds two pictures.
    const MOST_PIXELS: u32 = 8 << 20;

    /// Modelines as `edid-decode --cvt w=W,h=H,fps=60,rb=1` prints them.
    #[test]
    fn timings_are_those_of_the_standard() {
        for (width, height, clock, horizontal, vertical) in [
            (800, 600, 3550, [848, 880, 960], [603, 607, 618]),
            (1280, 1024, 9100, [1328, 1360, 1440], [1027, 1034, 1054]),
            (1920, 1080, 13850, [1968, 2000, 2080], [1083, 1088, 1111]),
            (1920, 1200, 15400, [1968, 2000, 2080], [1203, 1209, 1235]),
            (3840, 2160, 53325, [3888, 3920, 4000], [2163, 2168, 2222]),
        ] {
            let timing = Timing::reduced_blanking(Mode::new(width, height));
            assert_eq!(timing.clock, clock, "{width}x{height}");
            assert_eq!(
                edges(width, timing.horizontal),
                horizontal,
                "{width}x{height}"
            );
            assert_eq!(edges(height, timing.vertical), vertical, "{width}x{height}");
        }
    }

    /// Sync start, sync end and total, as a modeline counts them.
    fn edges(visible: u16, blanking: Blanking) -> [u16; 3] {
        let sync = visible + blanking.front;
        [sync, sync + blanking.sync, visible + blanking.total]
    }

    #[test]
    fn every_mode_that_a_type_offers_runs_at_60_hz_within_the_fields_of_an_edid() {
        let sides = (Mode::MIN..=Mode::MAX).step_by(13).chain([Mode::MAX]);
        for width in sides.clone() {
            for height in sides.clone() {
                let mode = Mode::new(width, height);
                let timing = Timing::reduced_blanking(mode);
                assert!(timing.vertical.total < 1 << 12, "{mode}");
                assert!(timing.vertical.sync < 1 << 4, "{mode}");
                assert!(timing.clock > 0, "{mode}");
                if mode.pixels() <= MOST_PIXELS {
                    assert!(timing.clock < u16::MAX, "{mode}");
                }
            }
        }
    }
}
