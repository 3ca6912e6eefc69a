//! What the types differ in, and which modes their memory holds.

use std::fmt;

use mdev::device::AttributeError;

/// Name of the attribute that holds the preferred mode, as `WIDTHxHEIGHT`.
pub(super) const MODE: &str = "mode";

/// Bytes of a pixel: the device knows `XRGB8888` only.
pub(super) const PIXEL_BYTES: u32 = 4;

/// One type of the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Model {
    /// The type's name.
    pub(super) name: &'static str,
    /// Bytes of video memory; a power of two, as it is the size of a BAR.
    pub(super) vram: u32,
    /// The largest mode of the monitor.
    pub(super) largest: Mode,
}

/// The types, smallest first. Each takes the largest common mode that it [`Model::offers`].
pub(super) const MODELS: [Model; 3] = [
    Model {
        name: "bochs-4m",
        vram: 4 << 20,
        largest: Mode::new(800, 600),
    },
    Model {
        name: "bochs-16m",
        vram: 16 << 20,
        largest: Mode::new(1920, 1080),
    },
    Model {
        name: "bochs-64m",
        vram: 64 << 20,
        largest: Mode::new(3840, 2160),
    },
];

impl Model {
    /// Whether the monitor may offer `mode`: two pictures of it fit into the memory.
    ///
    /// Linux before 6.13 keeps frame buffers in video memory and refuses (`MODE_MEM`) a mode
    /// that takes more than half of it, as it could not flip pages. Later ones accept all that
    /// fits once. A guest may set any mode that fits once, whatever the monitor offers.
    pub(super) fn offers(&self, mode: Mode) -> bool {
        mode.pixels() <= self.vram / 2 / PIXEL_BYTES
    }

    /// The mode that `value` of the attribute [`MODE`] names.
    pub(super) fn parse_mode(&self, value: &str) -> Result<Mode, AttributeError> {
        Mode::parse(value)
            .filter(|mode| self.offers(*mode))
            .ok_or_else(|| AttributeError::Invalid {
                name: MODE.to_owned(),
                value: value.to_owned(),
                reason: format!(
                    "it is WIDTHxHEIGHT, each from {} to {}, and of at most {} pixels, for the \
                     guest keeps two pictures in {} MiB",
                    Mode::MIN,
                    Mode::MAX,
                    self.vram / 2 / PIXEL_BYTES,
                    self.vram >> 20,
                ),
            })
    }
}

/// A mode that a monitor can offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mode {
    /// Pixels in a line.
    pub(super) width: u16,
    /// Lines.
    pub(super) height: u16,
}

impl Mode {
    /// The least width and height: Linux skips a detailed timing with less.
    pub(super) const MIN: u16 = 64;
    /// The most: a detailed timing has 12 bits for each.
    pub(super) const MAX: u16 = 0xfff;

    pub(super) const fn new(width: u16, height: u16) -> Self {
        Self { width, height }
    }

    /// The mode written as `WIDTHxHEIGHT`, or `None` if this is none that an EDID can name.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (width, height) = text.split_once('x')?;
        let side = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let side = text.parse().ok().filter(|_| digits)?;
            (Self::MIN..=Self::MAX).contains(&side).then_some(side)
        };
        Some(Self::new(side(width)?, side(height)?))
    }

    pub(super) fn pixels(self) -> u32 {
        u32::from(self.width) * u32::from(self.height)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_two_numbers_that_an_edid_can_hold() {
        for (text, mode) in [
            ("800x600", Some(Mode::new(800, 600))),
            ("64x64", Some(Mode::new(64, 64))),
            ("4095x4095", Some(Mode::new(4095, 4095))),
            ("63x64", None),
            ("4096x64", None),
            ("65600x600", None),
            ("+800x600", None),
            ("800x-600", None),
            ("800X600", None),
            ("800x600x32", None),
            ("800x", None),
            ("x600", None),
            (" 800x600", None),
            ("", None),
        ] {
            assert_eq!(Mode::parse(text), mode, "{text:?}");
            if let Some(mode) = mode {
                assert_eq!(mode.to_string(), text);
            }
        }
    }

    #[test]
    fn the_largest_mode_of_each_type_takes_at_most_half_of_its_memory() {
        for model in MODELS {
            assert!(model.offers(model.largest), "{model:?}");
            assert!(model.vram.is_power_of_two(), "{model:?}");
        }
    }

    #[test]
    fn a_mode_that_takes_more_than_half_of_the_memory_is_refused() {
        let [small, medium, large] = MODELS;
        for (model, text, taken) in [
            (small, "800x600", true),
            (small, "1024x512", true),
            (small, "1024x513", false),
            (small, "1024x768", false),
            (medium, "1920x1080", true),
            (medium, "1920x1200", false),
            (large, "3840x2160", true),
            (large, "4095x2049", false),
        ] {
            assert_eq!(
                model.parse_mode(text).is_ok(),
                taken,
                "{} {text}",
                model.name
            );
        }
    }
}
