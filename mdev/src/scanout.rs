//! The picture that a device shows, as a handle that anyone may read without asking the device.
//!
//! A display has a *head* for each monitor. Each shows a picture of its own, over which lies a cursor.
//!
//! - [`ScanoutPublisher`]: where a device says what a head shows.
//! - [`Watch`]: who is told of that, and what was drawn since.
//! - [`Refresh`]: who brings the picture into its file, where it is drawn elsewhere.
//! - [`Rect`]: part of a picture.
//! - [`Cursor`]: the small picture that moves over it.

mod cursor;
mod publisher;
mod rect;
mod refresh;
mod watch;

use std::os::fd::OwnedFd;
use std::sync::Arc;

pub use self::cursor::{Cursor, CursorImage};
pub use self::publisher::{MAX_HEADS, ScanoutPublisher};
pub use self::rect::Rect;
pub use self::refresh::Refresh;
pub use self::watch::Watch;

/// How the bytes of one pixel are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum PixelFormat {
    /// Four bytes: blue, green, red, unused. DRM calls it `XRGB8888`, little-endian.
    #[serde(rename = "xrgb8888")]
    Xrgb8888,
    /// Four bytes: unused, red, green, blue. What big-endian guests call `XRGB8888`.
    #[serde(rename = "bgrx8888")]
    Bgrx8888,
    /// Four bytes: red, green, blue, unused. DRM's `XBGR8888`.
    #[serde(rename = "xbgr8888")]
    Xbgr8888,
    /// Four bytes: unused, blue, green, red. DRM's `RGBX8888`.
    #[serde(rename = "rgbx8888")]
    Rgbx8888,
}

/// Where the picture lies in its memory file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Geometry {
    /// Pixels in a line.
    pub width: u32,
    /// Lines.
    pub height: u32,
    /// Bytes from the start of one line to the start of the next.
    pub stride: u32,
    /// Bytes from the start of the file to the first pixel.
    pub offset: u64,
    /// How a pixel is stored.
    pub format: PixelFormat,
}

impl Geometry {
    /// Bytes of the file that the picture reaches to, or `None` if that is past any file.
    pub fn end(&self) -> Option<u64> {
        let whole_lines = u64::from(self.height.checked_sub(1)?) * u64::from(self.stride);
        let last_line = u64::from(self.width) * 4;
        self.offset.checked_add(whole_lines)?.checked_add(last_line)
    }
}

/// A picture: memory and where in it to look. The guest may be drawing while it is read.
#[derive(Clone, Debug)]
pub struct Scanout {
    /// The memory file.
    pub memory: Arc<OwnedFd>,
    /// Where the picture lies in it.
    pub geometry: Geometry,
    /// Counts what was published, from 1: a reader sees by it that the mode has changed.
    pub sequence: u64,
}
