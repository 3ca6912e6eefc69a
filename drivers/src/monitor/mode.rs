//! A mode: how many pixels a screen shows.

use std::fmt;

/// A mode that a monitor can offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode {
    /// Pixels in a line.
    pub(crate) width: u16,
    /// Lines.
    pub(crate) height: u16,
}

impl Mode {
    /// The least width and height: Linux skips a detailed timing with less.
    pub(crate) const MIN: u16 = 64;
    /// The most: a detailed timing has 12 bits for each.
    pub(crate) const MAX: u16 = 0xfff;

    pub(crate) const fn new(width: u16, height: u16) -> Self {
        Self { width, height }
    }

    /// The mode written as `WIDTHxHEIGHT`, or `None` if this is none that an EDID can name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (width, height) = text.split_once('x')?;
        let side = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let side = text.parse().ok().filter(|_| digits)?;
            (Self::MIN..=Self::MAX).contains(&side).then_some(side)
        };
        Some(Self::new(side(width)?, side(height)?))
    }

    pub(crate) fn pixels(self) -> u32 {
        u32::from(self.width) * u32::from(self.height)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_two_numbers_that_an_edid_can_hold() {
        for (text, mode) in [
            ("800x600", Some(Mode::new(800, 600))),
            ("64x64", Some(Mode::new(64, 64))),
            ("4095x4095", Some(Mode::new(4095, 4095))),
            ("63x64", None),
            ("4096x64", None),
            ("65600x600", None),
            ("+800x600", None),
            ("800x-600", None),
            ("800X600", None),
            ("800x600x32", None),
            ("800x", None),
            ("x600", None),
            (" 800x600", None),
            ("", None),
        ] {
            assert_eq!(Mode::parse(text), mode, "{text:?}");
            if let Some(mode) = mode {
                assert_eq!(mode.to_string(), text);
            }
        }
    }
}
