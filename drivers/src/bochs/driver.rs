//! The types of the family, and how one is built.

use mdev::device::{AttributeError, BuildError};
use mdev::{Attributes, Driver, MediatedDevice, Services, TypeSpec};

use super::device::Bochs;
use super::model::{MODE, MODELS, Model};
use crate::monitor::Mode;

/// Builds bochs displays.
#[derive(Clone, Copy, Debug)]
pub struct BochsDriver;

impl Driver for BochsDriver {
    fn name(&self) -> &'static str {
        "bochs"
    }

    fn types(&self) -> Vec<TypeSpec> {
        MODELS.iter().map(spec).collect()
    }

    fn build(
        &self,
        spec: &TypeSpec,
        attributes: &Attributes,
        services: Services,
    ) -> Result<Box<dyn MediatedDevice>, BuildError> {
        let model = MODELS
            .into_iter()
            .find(|model| model.name == spec.name)
            .ok_or_else(|| BuildError::UnknownType(spec.name.clone()))?;
        let preferred = preferred_mode(&model, attributes)?;
        let device = Bochs::new(model, preferred, services).map_err(|source| {
            let what = "allocate video memory";
            BuildError::Os { what, source }
        })?;
        Ok(Box::new(device))
    }
}

fn spec(model: &Model) -> TypeSpec {
    let mib = model.vram >> 20;
    TypeSpec {
        name: model.name.to_owned(),
        title: format!("Bochs display, {mib} MiB"),
        description: format!(
            "Unaccelerated display with {mib} MiB of video memory, up to {}",
            model.largest
        ),
        video_memory: model.vram.into(),
    }
}

fn preferred_mode(model: &Model, attributes: &Attributes) -> Result<Mode, AttributeError> {
    let mut preferred = model.largest;
    for (name, value) in &attributes.0 {
        match name.as_str() {
            MODE => preferred = model.parse_mode(value)?,
            _ => return Err(AttributeError::Unknown(name.clone())),
        }
    }
    Ok(preferred)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(name: &str, attributes: &[(&str, &str)]) -> Result<String, BuildError> {
        let spec = TypeSpec {
            name: name.to_owned(),
            title: String::new(),
            description: String::new(),
            video_memory: 0,
        };
        let attributes = attributes
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let services = Services::default();
        let scanout = services.scanout.clone();
        let device = BochsDriver.build(&spec, &Attributes(attributes), services);
        assert!(scanout.current().is_none());
        device.map(|device| device.attributes()[0].1.clone())
    }

    #[test]
    fn types_are_smallest_first_and_tell_their_memory() {
        let types: Vec<_> = BochsDriver
            .types()
            .into_iter()
            .map(|spec| (spec.name, spec.video_memory, spec.description))
            .collect();
        let expected = [
            ("bochs-4m", 4_194_304, "800x600"),
            ("bochs-16m", 16_777_216, "1920x1080"),
            ("bochs-64m", 67_108_864, "3840x2160"),
        ];
        assert_eq!(types.len(), expected.len());
        for ((name, bytes, description), (id, memory, largest)) in types.iter().zip(expected) {
            assert_eq!((name.as_str(), *bytes), (id, memory));
            assert!(description.ends_with(largest), "{description}");
        }
    }

    #[test]
    fn the_preferred_mode_is_the_largest_unless_given_and_the_later_one_wins() {
        for (name, attributes, mode) in [
            ("bochs-4m", &[][..], "800x600"),
            ("bochs-64m", &[], "3840x2160"),
            ("bochs-16m", &[("mode", "1280x720")], "1280x720"),
            (
                "bochs-16m",
                &[("mode", "1280x720"), ("mode", "640x480")],
                "640x480",
            ),
        ] {
            assert_eq!(
                build(name, attributes).unwrap(),
                mode,
                "{name} {attributes:?}"
            );
        }
    }

    #[test]
    fn what_cannot_be_built_is_an_error_that_says_why() {
        for (name, attributes, message) in [
            ("bochs-5m", &[][..], "no type is called 'bochs-5m'"),
            (
                "bochs-4m",
                &[("color", "red")],
                "there is no attribute 'color'",
            ),
            (
                "bochs-4m",
                &[("mode", "1024x768")],
                "attribute 'mode' cannot be '1024x768': it is WIDTHxHEIGHT, each from 64 to 4095, \
                 and of at most 524288 pixels, for the guest keeps two pictures in 4 MiB",
            ),
        ] {
            let error = build(name, attributes).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }
}
