//! What a vGPU, and a card, is told when it is created.

use mdev::Attributes;
use mdev::device::AttributeError;

use super::aperture::{APERTURE, Aperture};
use crate::bochs::model::{MODE, Model};
use crate::monitor::Mode;
use crate::switch;

/// Name of the attribute that says whether the card shows this vGPU.
pub(super) const FOREGROUND: &str = "foreground";

/// Name of the card's setting that lets vGPUs have the aperture [`Aperture::Direct`].
pub(super) const DIRECT: &str = "direct";

/// What one vGPU is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    /// The mode that its monitor prefers.
    pub(super) preferred: Mode,
    /// How its client reaches its slice.
    pub(super) aperture: Aperture,
    /// Whether the card shows it at once.
    pub(super) is_foreground: bool,
}

impl Settings {
    /// Reads the attributes of a vGPU.
    pub(super) fn parse(
        attributes: &Attributes,
        model: &Model,
        may_be_direct: bool,
    ) -> Result<Self, AttributeError> {
        let mut settings = Self {
            preferred: model.largest,
            aperture: Aperture::default(),
            is_foreground: false,
        };
        for (name, value) in &attributes.0 {
            match name.as_str() {
                MODE => settings.preferred = model.parse_mode(value)?,
                APERTURE => settings.aperture = Aperture::parse(value, may_be_direct)?,
                FOREGROUND => settings.is_foreground = switch::parse(name, value)?,
                _ => return Err(AttributeError::Unknown(name.clone())),
            }
        }
        Ok(settings)
    }
}

/// Whether the settings of a card allow that clients get all of it.
pub(super) fn may_be_direct(settings: &Attributes) -> Result<bool, AttributeError> {
    let mut may = false;
    for (name, value) in &settings.0 {
        match name.as_str() {
            DIRECT => may = switch::parse(name, value)?,
            _ => return Err(AttributeError::Unknown(name.clone())),
        }
    }
    Ok(may)
}
