//! What the types differ in, and which modes their memory holds.

use mdev::device::AttributeError;

use crate::monitor::Mode;

/// Name of the attribute that holds the preferred mode, as `WIDTHxHEIGHT`.
pub(crate) const MODE: &str = "mode";

/// Bytes of a pixel: the device knows `XRGB8888` only.
pub(crate) const PIXEL_BYTES: u32 = 4;

/// One type of the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Model {
    /// The type's name.
    pub(crate) name: &'static str,
    /// Bytes of video memory; a power of two, as it is the size of a BAR.
    pub(crate) vram: u32,
    /// The largest mode of the monitor.
    pub(crate) largest: Mode,
}

/// The types, smallest first. Each takes the largest common mode that it [`Model::offers`].
pub(crate) const MODELS: [Model; 3] = [
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
    pub(crate) fn offers(&self, mode: Mode) -> bool {
        mode.pixels() <= self.vram / 2 / PIXEL_BYTES
    }

    /// The mode that `value` of the attribute [`MODE`] names.
    pub(crate) fn parse_mode(&self, value: &str) -> Result<Mode, AttributeError> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
