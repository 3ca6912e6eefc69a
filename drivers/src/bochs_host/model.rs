//! What the types differ in.

use mdev::TypeSpec;

use crate::bochs::model::Model;
use crate::monitor::Mode;

/// Bytes of the smallest slice.
pub(super) const SMALLEST: u64 = 4 << 20;

/// The types, smallest first. Each takes the largest common mode that it [`Model::offers`].
pub(super) const MODELS: [Model; 5] = [
    Model {
        name: "bochs-slice-4m",
        vram: 4 << 20,
        largest: Mode::new(800, 600),
    },
    Model {
        name: "bochs-slice-8m",
        vram: 8 << 20,
        largest: Mode::new(1280, 800),
    },
    Model {
        name: "bochs-slice-16m",
        vram: 16 << 20,
        largest: Mode::new(1920, 1080),
    },
    Model {
        name: "bochs-slice-32m",
        vram: 32 << 20,
        largest: Mode::new(2560, 1600),
    },
    Model {
        name: "bochs-slice-64m",
        vram: 64 << 20,
        largest: Mode::new(3840, 2160),
    },
];

/// The types of a card with so much video memory.
pub(super) fn types(memory: u64) -> Vec<TypeSpec> {
    let fitting = MODELS
        .iter()
        .filter(|model| u64::from(model.vram) <= memory);
    fitting.map(spec).collect()
}

fn spec(model: &Model) -> TypeSpec {
    let mib = model.vram >> 20;
    TypeSpec {
        name: model.name.to_owned(),
        title: format!("Slice of a bochs card, {mib} MiB"),
        description: format!(
            "Unaccelerated display with {mib} MiB of a card's video memory, up to {}",
            model.largest
        ),
        video_memory: model.vram.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_has_the_types_that_fit_into_its_memory_smallest_first() {
        for (mib, count) in [(0, 0), (2, 0), (4, 1), (15, 2), (16, 3), (64, 5), (512, 5)] {
            let types = types(mib << 20);
            assert_eq!(types.len(), count, "{mib} MiB");
            assert!(types.is_sorted_by_key(|spec| spec.video_memory));
        }
        for model in MODELS {
            assert!(model.offers(model.largest), "{model:?}");
            assert!(u64::from(model.vram).is_multiple_of(SMALLEST), "{model:?}");
            assert!(model.vram.is_power_of_two(), "{model:?}");
        }
    }
}
