//! The types of the family, and how one is built.

use mdev::device::{AttributeError, BuildError};
use mdev::{Attributes, Driver, MediatedDevice, Services, TypeSpec};
use virtio::transport::MSIX_ATTRIBUTE;
use virtio::{Setting, VirtioPci};

use super::device::Gpu;
use super::display::Display;
use super::model::{BLOB, HEADS, MODE, MODELS, Model};
use crate::switch;

/// Builds GPUs of virtio.
#[derive(Clone, Copy, Debug)]
pub struct GpuDriver;

impl Driver for GpuDriver {
    fn name(&self) -> &'static str {
        "gpu"
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
        let (display, has_blobs, setting) = settings(&model, attributes)?;
        let build = || {
            let gpu = Gpu::new(model, display, has_blobs, &services)?;
            VirtioPci::new(Box::new(gpu), setting, services)
        };
        let device = build().map_err(|source| {
            let what = "start the thread of the queues, or allocate video memory";
            BuildError::Os { what, source }
        })?;
        Ok(Box::new(device))
    }
}

fn spec(model: &Model) -> TypeSpec {
    let mib = model.budget >> 20;
    TypeSpec {
        name: model.name.to_owned(),
        title: format!("Virtio GPU, {mib} MiB"),
        description: format!(
            "Virtio GPU in two dimensions with {mib} MiB of video memory and up to {} heads, each up \
             to {}",
            model.heads, model.largest
        ),
        video_memory: model.budget,
    }
}

/// The monitors, whether there are blobs, and the transport.
fn settings(
    model: &Model,
    attributes: &Attributes,
) -> Result<(Display, bool, Setting), AttributeError> {
    let mut display = Display::new(model);
    let (mut has_blobs, mut setting) = (true, Setting::default());
    for (name, value) in &attributes.0 {
        match name.as_str() {
            MODE => display.modes = model.parse_modes(value)?,
            HEADS => display.heads = model.parse_heads(value)?,
            BLOB => has_blobs = switch::parse(name, value)?,
            MSIX_ATTRIBUTE => setting.set_msix(value)?,
            _ => return Err(AttributeError::Unknown(name.clone())),
        }
    }
    Ok((display, has_blobs, setting))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(name: &str, attributes: &[(&str, &str)]) -> Result<Vec<String>, BuildError> {
        let spec = TypeSpec {
            name: name.to_owned(),
            title: String::new(),
            description: String::new(),
            video_memory: 0,
        };
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let attributes = Attributes(attributes.iter().map(owned).collect());
        let device = GpuDriver.build(&spec, &attributes, Services::default())?;
        let values = device.attributes().into_iter();
        Ok(values
            .map(|(name, value)| format!("{name}={value}"))
            .collect())
    }

    #[test]
    fn types_are_smallest_first_and_take_attributes_of_which_the_later_one_wins() {
        let types = GpuDriver.types().into_iter();
        let types: Vec<_> = types.map(|spec| (spec.name, spec.video_memory)).collect();
        let named = |name: &str, bytes| (name.to_owned(), bytes);
        assert_eq!(
            types,
            [named("gpu-2d-hd", 64 << 20), named("gpu-2d-4k", 256 << 20)]
        );
        for (name, attributes, expected) in [
            (
                "gpu-2d-hd",
                &[][..],
                ["mode=1920x1080", "heads=1", "blob=on", "msix=on"],
            ),
            (
                "gpu-2d-4k",
                &[],
                ["mode=3840x2160", "heads=1", "blob=on", "msix=on"],
            ),
            (
                "gpu-2d-hd",
                &[
                    ("mode", "640x480"),
                    ("mode", "800x600,640x480"),
                    ("blob", "off"),
                    ("heads", "3"),
                    ("msix", "off"),
                ],
                ["mode=800x600,640x480", "heads=3", "blob=off", "msix=off"],
            ),
        ] {
            assert_eq!(build(name, attributes).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_built_is_an_error_that_says_why() {
        for (name, attribute, words) in [
            ("gpu-3d", ("mode", "1x1"), "no type is called 'gpu-3d'"),
            ("gpu-2d-hd", ("vram", "1"), "there is no attribute 'vram'"),
            (
                "gpu-2d-hd",
                ("msix", "no"),
                "attribute 'msix' cannot be 'no': it is on or off",
            ),
            (
                "gpu-2d-hd",
                ("mode", "4096x64"),
                "attribute 'mode' cannot be '4096x64': it is WIDTHxHEIGHT, each from 64 to 4095, \
                 and of at most 2073600 pixels; or as many of them with commas between them as \
                 there are heads, 4 at most",
            ),
            (
                "gpu-2d-hd",
                ("heads", "5"),
                "attribute 'heads' cannot be '5': it is from 1 to 4",
            ),
            (
                "gpu-2d-hd",
                ("blob", "1"),
                "attribute 'blob' cannot be '1': it is on or off",
            ),
        ] {
            let error = build(name, &[attribute]).unwrap_err();
            assert_eq!(error.to_string(), words);
        }
    }
}
