//! The picture that a device shows, as a handle that anyone may read without asking the device.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

/// How the bytes of one pixel are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum PixelFormat {
    /// Four bytes: blue, green, red, unused. DRM calls it `XRGB8888`, little-endian.
    #[serde(rename = "xrgb8888")]
    Xrgb8888,
    /// Four bytes: unused, red, green, blue. What big-endian guests call `XRGB8888`.
    #[serde(rename = "bgrx8888")]
    Bgrx8888,
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

/// Where a device says what it shows. Clones speak of the same picture.
#[derive(Clone, Debug, Default)]
pub struct ScanoutPublisher {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    current: Option<Scanout>,
    published: u64,
}

impl ScanoutPublisher {
    /// Shows the picture at `geometry` in `memory` from now on.
    pub fn publish(&self, memory: Arc<OwnedFd>, geometry: Geometry) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.published += 1;
        shared.current = Some(Scanout {
            memory,
            geometry,
            sequence: shared.published,
        });
    }

    /// Shows nothing from now on.
    pub fn blank(&self) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.published += 1;
        shared.current = None;
    }

    /// What is shown now; `None` if the guest has set no mode.
    pub fn current(&self) -> Option<Scanout> {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.current.clone()
    }
}
