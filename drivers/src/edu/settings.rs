//! The attributes of a device.

use std::fmt;

use mdev::Attributes;
use mdev::device::AttributeError;

use crate::switch;

/// How transfers reach guest memory. May be changed while the device runs.
pub(crate) const DMA: &str = "dma";

/// How wide the device's addresses are. Fixed, as in hardware: a guest's driver asks once.
pub(crate) const DMA_MASK: &str = "dma-mask";

/// Whether there is a register that ends the process: for who tries what becomes of a machine whose
/// worker dies. Fixed.
pub(crate) const PANIC_REGISTER: &str = "panic-register";

/// Whether there is a register that has the engine be busy for a time: for who measures how an
/// engine is shared. Fixed.
pub(crate) const SPIN_REGISTER: &str = "spin-register";

/// What attributes say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) way: Way,
    pub(crate) mask: DmaMask,
    pub(crate) has_panic_register: bool,
    pub(crate) has_spin_register: bool,
}

impl Settings {
    /// Takes attributes in order: a later one wins.
    pub(crate) fn parse(attributes: &Attributes) -> Result<Self, AttributeError> {
        let mut settings = Self::default();
        for (name, value) in &attributes.0 {
            match name.as_str() {
                DMA => settings.way = Way::parse(value)?,
                DMA_MASK => settings.mask = DmaMask::parse(value)?,
                PANIC_REGISTER => settings.has_panic_register = switch::parse(name, value)?,
                SPIN_REGISTER => settings.has_spin_register = switch::parse(name, value)?,
                _ => return Err(AttributeError::Unknown(name.clone())),
            }
        }
        Ok(settings)
    }
}

/// How a transfer reaches guest memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Way {
    /// It pins the memory first. What cannot be pinned is copied.
    #[default]
    Pin,
    /// It copies.
    Copy,
}

impl Way {
    pub(crate) fn parse(value: &str) -> Result<Self, AttributeError> {
        match value {
            "pin" => Ok(Self::Pin),
            "copy" => Ok(Self::Copy),
            _ => Err(invalid(DMA, value, "it is pin or copy")),
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pin => "pin",
            Self::Copy => "copy",
        })
    }
}

/// How many bits an address has that the device can put on the bus: `DMA_BIT_MASK` of Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DmaMask {
    /// 12 to 64.
    bits: u32,
}

impl DmaMask {
    pub(crate) fn parse(value: &str) -> Result<Self, AttributeError> {
        let bits = value.parse().ok().filter(|bits| (12..=64).contains(bits));
        let bits = bits
            .ok_or_else(|| invalid(DMA_MASK, value, "it is the number of bits, from 12 to 64"))?;
        Ok(Self { bits })
    }

    /// The highest address.
    pub(crate) fn last(self) -> u64 {
        u64::MAX >> (u64::BITS - self.bits)
    }
}

impl Default for DmaMask {
    /// As in QEMU: 256 MiB ("Command line switches").
    fn default() -> Self {
        Self { bits: 28 }
    }
}

impl fmt::Display for DmaMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bits.fmt(f)
    }
}

fn invalid(name: &str, value: &str, reason: &str) -> AttributeError {
    AttributeError::Invalid {
        name: name.to_owned(),
        value: value.to_owned(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(attributes: &[(&str, &str)]) -> Result<Settings, String> {
        let owned = attributes.iter();
        let owned = owned.map(|&(name, value)| (name.to_owned(), value.to_owned()));
        Settings::parse(&Attributes(owned.collect())).map_err(|error| error.to_string())
    }

    #[test]
    fn without_attributes_memory_is_pinned_and_addresses_have_28_bits() {
        let settings = parse(&[]).unwrap();
        assert_eq!((settings.way, settings.mask.last()), (Way::Pin, 0xfff_ffff));
    }

    #[test]
    fn a_later_attribute_wins() {
        let settings = parse(&[("dma", "copy"), ("dma-mask", "32"), ("dma-mask", "40")]).unwrap();
        assert_eq!(settings.way, Way::Copy);
        assert_eq!(settings.mask.to_string(), "40");
    }

    #[test]
    fn a_mask_is_a_number_of_bits() {
        for (value, last) in [
            ("12", Some(0xfff)),
            ("32", Some(0xffff_ffff)),
            ("64", Some(u64::MAX)),
            ("11", None),
            ("65", None),
            ("0xffffffff", None),
            ("", None),
            ("-1", None),
        ] {
            let settings = parse(&[(DMA_MASK, value)]);
            assert_eq!(settings.ok().map(|s| s.mask.last()), last, "'{value}'");
        }
    }

    #[test]
    fn what_cannot_be_taken_is_an_error_that_says_why() {
        for (name, value, words) in [
            ("speed", "9", "there is no attribute 'speed'"),
            (
                "dma",
                "fast",
                "attribute 'dma' cannot be 'fast': it is pin or copy",
            ),
            (
                "dma-mask",
                "none",
                "attribute 'dma-mask' cannot be 'none': it is the number of bits, from 12 to 64",
            ),
        ] {
            assert_eq!(parse(&[(name, value)]).unwrap_err(), words);
        }
    }
}
