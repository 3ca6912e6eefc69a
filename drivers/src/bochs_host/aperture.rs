//! The ways by which a client reaches its slice.

use std::fmt;

use mdev::device::AttributeError;

/// Name of the attribute.
pub(super) const APERTURE: &str = "aperture";

/// How a client reaches its slice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Aperture {
    /// By messages alone.
    Trap,
    /// It maps a memory file, of which the slice becomes a copy while it is shown.
    #[default]
    Shadow,
    /// It maps the slice itself, in a file of the whole card's.
    Direct,
}

impl Aperture {
    /// The way that a value of the attribute names, on a card whose owner allows `direct` or not.
    pub(super) fn parse(value: &str, may_be_direct: bool) -> Result<Self, AttributeError> {
        let reason = match value {
            "trap" => return Ok(Self::Trap),
            "shadow" => return Ok(Self::Shadow),
            "direct" if may_be_direct => return Ok(Self::Direct),
            "direct" => {
                "it gives the client the whole card, which its parent does not allow (direct = true)"
            }
            _ => "it is trap, shadow or direct",
        };
        Err(AttributeError::Invalid {
            name: APERTURE.to_owned(),
            value: value.to_owned(),
            reason: reason.to_owned(),
        })
    }
}

impl fmt::Display for Aperture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trap => "trap",
            Self::Shadow => "shadow",
            Self::Direct => "direct",
        })
    }
}
