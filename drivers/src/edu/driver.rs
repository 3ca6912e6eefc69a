//! The types of the family, and how one is built.

use mdev::device::BuildError;
use mdev::{Attributes, Driver, MediatedDevice, Services, TypeSpec};

use super::device::EduDevice;
use super::model::Model;
use super::settings::Settings;

/// Builds educational devices.
#[derive(Clone, Copy, Debug)]
pub struct EduDriver;

impl Driver for EduDriver {
    fn name(&self) -> &'static str {
        "edu"
    }

    fn types(&self) -> Vec<TypeSpec> {
        let spec = |model: Model| TypeSpec {
            name: model.name().to_owned(),
            title: "educational device".to_owned(),
            description: model.description().to_owned(),
            video_memory: 0,
        };
        Model::ALL.map(spec).to_vec()
    }

    fn uses_engine(&self, _: &TypeSpec) -> bool {
        true
    }

    fn build(
        &self,
        spec: &TypeSpec,
        attributes: &Attributes,
        services: Services,
    ) -> Result<Box<dyn MediatedDevice>, BuildError> {
        let model = Model::ALL
            .into_iter()
            .find(|model| model.name() == spec.name)
            .ok_or_else(|| BuildError::UnknownType(spec.name.clone()))?;
        let settings = Settings::parse(attributes)?;
        let device = EduDevice::new(model, settings, services).map_err(|source| {
            let what = "start the engine's thread, or allocate memory";
            BuildError::Os { what, source }
        })?;
        Ok(Box::new(device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_takes_attributes() {
        for spec in EduDriver.types() {
            assert!(spec.name.starts_with(EduDriver.name()));
            let attributes = Attributes(vec![("dma".to_owned(), "copy".to_owned())]);
            let device = EduDriver.build(&spec, &attributes, Services::default());
            let expected = [
                ("dma", "copy".to_owned()),
                ("dma-mask", "28".to_owned()),
                ("panic-register", "off".to_owned()),
                ("spin-register", "off".to_owned()),
            ];
            assert_eq!(device.unwrap().attributes(), expected);
        }
    }

    #[test]
    fn what_cannot_be_built_is_an_error_that_says_why() {
        let [mut spec, _] = <[_; 2]>::try_from(EduDriver.types()).unwrap();
        for (name, attribute, words) in [
            ("edu-3", "dma", "no type is called 'edu-3'"),
            ("edu-1", "irq", "there is no attribute 'irq'"),
        ] {
            spec.name = name.to_owned();
            let attributes = Attributes(vec![(attribute.to_owned(), "pin".to_owned())]);
            let built = EduDriver.build(&spec, &attributes, Services::default());
            assert_eq!(built.err().unwrap().to_string(), words);
        }
    }
}
