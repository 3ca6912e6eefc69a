//! The types of the family, and how one is built.

use mdev::device::{AttributeError, BuildError};
use mdev::{Attributes, Driver, MediatedDevice, Services, TypeSpec};
use virtio::transport::MSIX_ATTRIBUTE;
use virtio::{Setting, VirtioPci};

use super::device::Input;
use super::model::{MODELS, Model};

/// Builds keyboards and tablets of virtio.
#[derive(Clone, Copy, Debug)]
pub struct InputDriver;

impl Driver for InputDriver {
    fn name(&self) -> &'static str {
        "input"
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
        let setting = setting(attributes)?;
        let build = || {
            let input = Input::new(model, &services)?;
            VirtioPci::new(Box::new(input), setting, services)
        };
        let device = build().map_err(|source| {
            let what = "start the thread of the queues, or allocate memory for events";
            BuildError::Os { what, source }
        })?;
        Ok(Box::new(device))
    }
}

fn spec(model: &Model) -> TypeSpec {
    let (title, description) = match model.is_pointer {
        true => (
            "Virtio tablet",
            "Virtio pointer with a place on the screen, buttons and wheels",
        ),
        false => ("Virtio keyboard", "Virtio keyboard with three lights"),
    };
    TypeSpec {
        name: model.name.to_owned(),
        title: title.to_owned(),
        description: description.to_owned(),
        video_memory: 0,
    }
}

fn setting(attributes: &Attributes) -> Result<Setting, AttributeError> {
    let mut setting = Setting::default();
    for (name, value) in &attributes.0 {
        match name.as_str() {
            MSIX_ATTRIBUTE => setting.set_msix(value)?,
            _ => return Err(AttributeError::Unknown(name.clone())),
        }
    }
    Ok(setting)
}
