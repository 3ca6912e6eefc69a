//! What the types differ in.

use mdev::device::AttributeError;

use crate::monitor::Mode;

/// Name of the attribute that holds the preferred mode, as `WIDTHxHEIGHT`.
pub(super) const MODE: &str = "mode";

/// One type of the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Model {
    /// The type's name.
    pub(super) name: &'static str,
    /// Bytes that all resources together may take.
    pub(super) budget: u64,
    /// The largest mode of the monitor.
    pub(super) largest: Mode,
}

/// The types, smallest first. Each holds eight pictures of its largest mode: a compositor keeps
/// three, and its clients one each at least.
pub(super) const MODELS: [Model; 2] = [
    Model {
        name: "gpu-2d-hd",
        budget: 64 << 20,
        largest: Mode::new(1920, 1080),
    },
    Model {
        name: "gpu-2d-4k",
        budget: 256 << 20,
        largest: Mode::new(3840, 2160),
    },
];

impl Model {
    /// Whether the monitor may show a mode: it has no more pixels than the largest.
    pub(super) fn offers(&self, mode: Mode) -> bool {
        mode.pixels() <= self.largest.pixels()
    }

    /// The mode that `value` of the attribute [`MODE`] names.
    pub(super) fn parse_mode(&self, value: &str) -> Result<Mode, AttributeError> {
        Mode::parse(value)
            .filter(|mode| self.offers(*mode))
            .ok_or_else(|| AttributeError::Invalid {
                name: MODE.to_owned(),
                value: value.to_owned(),
                reason: format!(
                    "it is WIDTHxHEIGHT, each from {} to {}, and of at most {} pixels",
                    Mode::MIN,
                    Mode::MAX,
                    self.largest.pixels(),
                ),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_holds_eight_of_its_largest_pictures_less_a_little() {
        for model in MODELS {
            let picture = 4 * u64::from(model.largest.pixels());
            assert!(model.budget >= 8 * picture, "{model:?}");
            assert!(model.offers(model.largest), "{model:?}");
        }
    }

    #[test]
    fn a_mode_with_more_pixels_than_the_largest_is_refused() {
        let [small, large] = MODELS;
        for (model, text, taken) in [
            (small, "1920x1080", true),
            (small, "1080x1920", true),
            (small, "1921x1080", false),
            (small, "63x64", false),
            (large, "3840x2160", true),
            (large, "4095x2025", true),
            (large, "4095x2160", false),
            (large, "wide", false),
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
