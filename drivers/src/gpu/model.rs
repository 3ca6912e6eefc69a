//! What the types differ in.

use mdev::device::AttributeError;

use crate::monitor::Mode;

/// Name of the attribute that holds the modes that the heads prefer, as `WIDTHxHEIGHT`: one for each
/// from the first on, with commas between them, of which the last counts for all further ones.
pub(super) const MODE: &str = "mode";

/// Name of the attribute that says how many heads are on.
pub(super) const HEADS: &str = "heads";

/// Name of the attribute that says whether resources may lie in guest memory.
pub(super) const BLOB: &str = "blob";

/// Most heads of any type.
pub(super) const MAX_HEADS: usize = 4;

/// One type of the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Model {
    /// The type's name.
    pub(super) name: &'static str,
    /// Bytes that all resources together may take.
    pub(super) budget: u64,
    /// The largest mode of a monitor.
    pub(super) largest: Mode,
    /// How many heads it has. Most are off at first.
    pub(super) heads: usize,
}

/// The types, smallest first. Each holds eight pictures of its largest mode: a compositor keeps
/// three, and its clients one each at least; on all heads it keeps two for each.
pub(super) const MODELS: [Model; 2] = [
    Model {
        name: "gpu-2d-hd",
        budget: 64 << 20,
        largest: Mode::new(1920, 1080),
        heads: MAX_HEADS,
    },
    Model {
        name: "gpu-2d-4k",
        budget: 256 << 20,
        largest: Mode::new(3840, 2160),
        heads: MAX_HEADS,
    },
];

impl Model {
    /// Whether the monitor may show a mode: it has no more pixels than the largest.
    pub(super) fn offers(&self, mode: Mode) -> bool {
        mode.pixels() <= self.largest.pixels()
    }

    /// Whether a mode can be one of a head: it can be written, and the monitor may show it.
    pub(super) fn takes(&self, mode: Mode) -> bool {
        Mode::parse(&mode.to_string()) == Some(mode) && self.offers(mode)
    }

    /// The mode of each head that `value` of the attribute [`MODE`] names.
    pub(super) fn parse_modes(&self, value: &str) -> Result<[Mode; MAX_HEADS], AttributeError> {
        let modes = value.split(',');
        let modes = modes.map(|value| Mode::parse(value).filter(|mode| self.offers(*mode)));
        let modes: Option<Vec<_>> = modes.collect();
        let modes = modes.filter(|modes| modes.len() <= self.heads);
        let last = modes.as_ref().and_then(|modes| modes.last().copied());
        let (Some(modes), Some(last)) = (modes, last) else {
            return Err(invalid(
                MODE,
                value,
                format!(
                    "it is WIDTHxHEIGHT, {}; or as many of them with commas between them as there \
                     are heads, {} at most",
                    self.sizes(),
                    self.heads
                ),
            ));
        };
        Ok(std::array::from_fn(|head| {
            modes.get(head).copied().unwrap_or(last)
        }))
    }

    /// What sizes a head may have, in words.
    pub(super) fn sizes(&self) -> String {
        format!(
            "each from {} to {}, and of at most {} pixels",
            Mode::MIN,
            Mode::MAX,
            self.largest.pixels(),
        )
    }

    /// How many heads `value` of the attribute [`HEADS`] turns on.
    pub(super) fn parse_heads(&self, value: &str) -> Result<usize, AttributeError> {
        let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
        let heads = value.parse().ok().filter(|_| is_number);
        heads
            .filter(|heads| (1..=self.heads).contains(heads))
            .ok_or_else(|| invalid(HEADS, value, format!("it is from 1 to {}", self.heads)))
    }
}

fn invalid(name: &str, value: &str, reason: String) -> AttributeError {
    AttributeError::Invalid {
        name: name.to_owned(),
        value: value.to_owned(),
        reason,
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
            assert!(
                model.budget >= 2 * model.heads as u64 * picture,
                "{model:?}"
            );
            assert!(model.heads <= MAX_HEADS, "{model:?}");
        }
    }

    #[test]
    fn modes_are_of_at_most_the_largest_pixels_and_the_last_counts_for_further_heads() {
        let [small, large] = MODELS;
        let (hd, vga) = (Mode::new(1920, 1080), Mode::new(640, 480));
        for (model, text, modes) in [
            (small, "1920x1080", Some([hd; 4])),
            (small, "1080x1920", Some([Mode::new(1080, 1920); 4])),
            (small, "1920x1080,640x480", Some([hd, vga, vga, vga])),
            (
                small,
                "640x480,640x480,640x480,1920x1080",
                Some([vga, vga, vga, hd]),
            ),
            (small, "640x480,640x480,640x480,640x480,640x480", None),
            (small, "640x480,", None),
            (small, "", None),
            (small, "1921x1080", None),
            (small, "640x480,1921x1080", None),
            (small, "63x64", None),
            (large, "3840x2160", Some([Mode::new(3840, 2160); 4])),
            (large, "4095x2025", Some([Mode::new(4095, 2025); 4])),
            (large, "4095x2160", None),
            (large, "wide", None),
        ] {
            let parsed = model.parse_modes(text).ok();
            assert_eq!(parsed, modes, "{} {text}", model.name);
        }
    }

    #[test]
    fn there_is_one_head_at_least_and_no_more_than_the_type_has() {
        for (text, heads) in [
            ("1", Some(1)),
            ("4", Some(4)),
            ("0", None),
            ("5", None),
            ("+2", None),
            ("", None),
        ] {
            assert_eq!(MODELS[0].parse_heads(text).ok(), heads, "{text:?}");
        }
    }
}
