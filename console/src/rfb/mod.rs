//! The Remote Framebuffer protocol, its bytes alone: no I/O, no state but a compressor's.
//!
//! - [`handshake`]: versions, kinds of security, what comes first.
//! - [`message`]: what a viewer says.
//! - [`mod@format`]: how a viewer wants its pixels.
//! - [`update`]: what a viewer is shown: rectangles, and sizes in their guise.
//! - [`zrle`]: the compressed form of a rectangle.
//!
//! RFC 6143 has 3.3, 3.7 and 3.8. The community's version of it
//! (<https://github.com/rfbproto/rfbproto>) has the rest: `ExtendedDesktopSize`, cursors with
//! alpha, and QEMU's keys.

pub mod format;
pub mod handshake;
pub mod message;
pub mod update;
pub mod zrle;

/// A part of the picture, in pixels. It may be empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rect {
    /// Pixels to the left of it.
    pub x: u16,
    /// Lines above it.
    pub y: u16,
    /// Pixels across.
    pub width: u16,
    /// Lines.
    pub height: u16,
}

impl Rect {
    /// What is in both.
    pub fn intersection(self, other: Self) -> Self {
        let (x, width) = overlap((self.x, self.width), (other.x, other.width));
        let (y, height) = overlap((self.y, self.height), (other.y, other.height));
        Self {
            x,
            y,
            width,
            height,
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(self) -> bool {
        self.width == 0 || self.height == 0
    }
}

/// Where two stretches overlap, each a start and a length.
fn overlap(one: (u16, u16), other: (u16, u16)) -> (u16, u16) {
    let end = |(start, length): (u16, u16)| u32::from(start) + u32::from(length);
    let start = one.0.max(other.0);
    let last = end(one).min(end(other));
    let length = last.saturating_sub(u32::from(start));
    // No longer than either.
    (start, u16::try_from(length).unwrap_or(u16::MAX))
}

/// Why what a viewer sent is not RFB, or not what is served here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It does not begin with a version.
    #[error("it does not speak RFB")]
    Version,
    /// Pixels that cannot be.
    #[error("it asks for pixels of {0}")]
    Format(&'static str),
    /// A message of a kind that is not known.
    #[error("it sends a message of kind {0}, which is unknown")]
    Kind(u8),
    /// A message longer than any that makes sense.
    #[error("its message is too long")]
    TooLong,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intersection_is_in_both() {
        let rect = |x, y, width, height| Rect {
            x,
            y,
            width,
            height,
        };
        for (one, other, both) in [
            (rect(0, 0, 10, 10), rect(5, 6, 10, 10), rect(5, 6, 5, 4)),
            (rect(0, 0, 10, 10), rect(2, 2, 3, 3), rect(2, 2, 3, 3)),
            (
                rect(65535, 65535, 65535, 65535),
                rect(0, 0, 65535, 65535),
                rect(65535, 65535, 0, 0),
            ),
        ] {
            assert_eq!(one.intersection(other), both);
            assert_eq!(other.intersection(one), both);
        }
        assert!(rect(0, 0, 4, 4).intersection(rect(4, 0, 4, 4)).is_empty());
    }
}
