//! The type of the family, and how one is built.

use mdev::device::BuildError;
use mdev::{Attributes, Driver, MediatedDevice, Services, TypeSpec};

use super::device::EduDevice;
use super::settings::Settings;

/// The only type.
const NAME: &str = "edu-1";

/// Builds educational devices.
#[derive(Clone, Copy, Debug)]
pub struct EduDriver;

impl Driver for EduDriver {
    fn name(&self) -> &'static str {
        "edu"
    }

    fn types(&self) -> Vec<TypeSpec> {
        vec![TypeSpec {
            name: NAME.to_owned(),
            title: "educational device".to_owned(),
            description: "QEMU's educational device: factorials, DMA, INTx and MSI".to_owned(),
            video_memory: 0,
        }]
    }

    fn build(
        &self,
        spec: &TypeSpec,
        attributes: &Attributes,
        services: Services,
    ) -> Result<Box<dyn MediatedDevice>, BuildError> {
        if spec.name != NAME {
            return Err(BuildError::UnknownType(spec.name.clone()));
        }
        let settings = Settings::parse(attributes)?;
        let device = EduDevice::new(settings, services).map_err(|source| {
            let what = "start the engine's thread";
            BuildError::Os { what, source }
        })?;
        Ok(Box::new(device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_type_and_it_takes_attributes() {
        let specs = EduDriver.types();
        assert_eq!(specs.len(), 1);
        assert!(specs[0].name.starts_with(EduDriver.name()));
        let attributes = Attributes(vec![("dma".to_owned(), "copy".to_owned())]);
        let device = EduDriver.build(&specs[0], &attributes, Services::default());
        let expected = [("dma", "copy".to_owned()), ("dma-mask", "28".to_owned())];
        assert_eq!(device.unwrap().attributes(), expected);
    }

    #[test]
    fn what_cannot_be_built_is_an_error_that_says_why() {
        let [mut spec] = <[_; 1]>::try_from(EduDriver.types()).unwrap();
        for (name, attribute, words) in [
            ("edu-2", "dma", "no type is called 'edu-2'"),
            ("edu-1", "irq", "there is no attribute 'irq'"),
        ] {
            spec.name = name.to_owned();
            let attributes = Attributes(vec![(attribute.to_owned(), "pin".to_owned())]);
            let built = EduDriver.build(&spec, &attributes, Services::default());
            assert_eq!(built.err().unwrap().to_string(), words);
        }
    }
}
