//! The types of the family, and how one is built.

use mdev::device::{AttributeError, BuildError};
use mdev::{Attributes, Driver, MediatedDevice, Services, TypeSpec};

use super::device::{Card, SerialDevice};

/// Builds serial ports. `mtty` calls its types `mtty-1` and `mtty-2`.
#[derive(Clone, Copy, Debug)]
pub struct SerialDriver;

/// Every card, smallest first.
const CARDS: [Card; 2] = [Card::OnePort, Card::TwoPorts];

impl Driver for SerialDriver {
    fn name(&self) -> &'static str {
        "serial"
    }

    fn types(&self) -> Vec<TypeSpec> {
        CARDS.map(type_of).to_vec()
    }

    fn build(
        &self,
        spec: &TypeSpec,
        attributes: &Attributes,
        services: Services,
    ) -> Result<Box<dyn MediatedDevice>, BuildError> {
        let card = CARDS
            .into_iter()
            .find(|&card| type_of(card).name == spec.name)
            .ok_or_else(|| BuildError::UnknownType(spec.name.clone()))?;
        if let Some((name, _)) = attributes.0.first() {
            return Err(AttributeError::Unknown(name.clone()).into());
        }
        Ok(Box::new(SerialDevice::new(card, services)))
    }
}

/// The name of a card's type.
pub(super) fn name_of(card: Card) -> &'static str {
    match card {
        Card::OnePort => "serial-1",
        Card::TwoPorts => "serial-2",
    }
}

fn type_of(card: Card) -> TypeSpec {
    let (title, description) = match card {
        Card::OnePort => (
            "one port",
            "A PCI serial port that receives what it transmits",
        ),
        Card::TwoPorts => (
            "two ports",
            "Two PCI serial ports, each of which receives what it transmits",
        ),
    };
    TypeSpec {
        name: name_of(card).to_owned(),
        title: title.to_owned(),
        description: description.to_owned(),
        video_memory: 0,
    }
}

#[cfg(test)]
mod tests {
    use mdev::region::RegionIndex;

    use super::*;

    fn build(name: &str, attributes: &Attributes) -> Result<Box<dyn MediatedDevice>, BuildError> {
        let spec = TypeSpec {
            name: name.to_owned(),
            ..type_of(Card::OnePort)
        };
        SerialDriver.build(&spec, attributes, Services::default())
    }

    #[test]
    fn a_type_is_named_after_the_driver_and_its_number_of_ports() {
        for (spec, ports) in SerialDriver.types().iter().zip(1..) {
            assert_eq!(spec.name, format!("{}-{ports}", SerialDriver.name()));
            let device = build(&spec.name, &Attributes::default()).unwrap();
            let bars = [RegionIndex::Bar0, RegionIndex::Bar1, RegionIndex::Bar2];
            let sizes = bars.map(|bar| device.regions().region(bar).size);
            let found = sizes.iter().filter(|&&size| size != 0).count();
            assert_eq!(found, ports, "{}", spec.name);
        }
    }

    #[test]
    fn a_type_of_another_driver_is_refused() {
        let error = build("serial-3", &Attributes::default()).err().unwrap();
        assert_eq!(error.to_string(), "no type is called 'serial-3'");
    }

    #[test]
    fn an_attribute_is_refused_by_name() {
        let attributes = Attributes(vec![("baud".to_owned(), "9600".to_owned())]);
        let error = build("serial-1", &attributes).err().unwrap();
        assert_eq!(error.to_string(), "there is no attribute 'baud'");
    }
}
