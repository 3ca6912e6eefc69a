//! The picture that a device shows, as a handle that anyone may read without asking the device.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::event::{EventfdFlags, eventfd};

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

/// Where a device says what it shows. Clones speak of the same picture.
#[derive(Clone, Debug, Default)]
pub struct ScanoutPublisher {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    current: Option<Scanout>,
    published: u64,
    watches: Vec<Weak<OwnedFd>>,
}

/// An eventfd that can be read once another picture, or none, is shown. It is told until this is
/// dropped.
#[derive(Debug)]
pub struct Watch(Arc<OwnedFd>);

impl Watch {
    /// The eventfd, which does not block.
    pub fn eventfd(&self) -> &Arc<OwnedFd> {
        &self.0
    }
}

impl ScanoutPublisher {
    /// Shows the picture at `geometry` in `memory` from now on.
    pub fn publish(&self, memory: Arc<OwnedFd>, geometry: Geometry) {
        let mut shared = self.lock();
        shared.published += 1;
        shared.current = Some(Scanout {
            memory,
            geometry,
            sequence: shared.published,
        });
        shared.tell();
    }

    /// Shows nothing from now on.
    pub fn blank(&self) {
        let mut shared = self.lock();
        shared.published += 1;
        shared.current = None;
        shared.tell();
    }

    /// What is shown now; `None` if the guest has set no mode.
    pub fn current(&self) -> Option<Scanout> {
        self.lock().current.clone()
    }

    /// Has an eventfd written to whenever another picture, or none, is shown: who reads the handle
    /// need not ask again and again whether it is still that one.
    pub fn watch(&self) -> io::Result<Watch> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let eventfd = Arc::new(eventfd);
        let mut shared = self.lock();
        shared.forget_the_gone();
        shared.watches.push(Arc::downgrade(&eventfd));
        Ok(Watch(eventfd))
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn tell(&mut self) {
        self.forget_the_gone();
        for watch in self.watches.iter().filter_map(Weak::upgrade) {
            // It does not block: one that is full can be read already.
            let _ = rustix::io::write(&watch, &1_u64.to_ne_bytes());
        }
    }

    fn forget_the_gone(&mut self) {
        self.watches.retain(|watch| watch.strong_count() > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has_come(watch: &Watch) -> bool {
        rustix::io::read(watch.eventfd(), &mut [0_u8; 8]).is_ok()
    }

    #[test]
    fn who_watches_hears_of_each_picture_and_of_none() {
        let publisher = ScanoutPublisher::default();
        let watch = publisher.watch().unwrap();
        assert!(!has_come(&watch));
        let memory = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap());
        let geometry = Geometry {
            width: 1,
            height: 1,
            stride: 4,
            offset: 0,
            format: PixelFormat::Xrgb8888,
        };
        publisher.publish(memory, geometry);
        assert!(has_come(&watch));
        assert!(!has_come(&watch));
        publisher.blank();
        assert!(has_come(&watch));
    }

    #[test]
    fn nobody_is_told_who_does_not_watch_any_more() {
        let publisher = ScanoutPublisher::default();
        for _ in 0..100 {
            drop(publisher.watch().unwrap());
        }
        let _watch = publisher.watch().unwrap();
        publisher.blank();
        assert_eq!(publisher.lock().watches.len(), 1);
    }
}
