//! The memory of one vGPU: a slice of the card's, and a file that holds its picture.

use std::io;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use mdev::region::Access;
use mdev::region_memory::RegionMemory;

use super::aperture::Aperture;
use super::card::Window;
use super::mirror::{Mirror, Parts, Way};

/// Video memory, for one client. Dropping it ends its thread.
#[derive(Debug)]
pub(super) struct Vram {
    aperture: Aperture,
    mirror: Arc<Mirror>,
    thread: Option<JoinHandle<()>>,
    window: Option<Window>,
}

impl Aperture {
    /// From where to where the picture is copied.
    pub(super) fn way(self) -> Way {
        match self {
            Self::Shadow => Way::ToCard,
            Self::Trap | Self::Direct => Way::FromCard,
        }
    }
}

impl Vram {
    /// Starts to copy what has to be copied, and has whoever looks find it.
    pub(super) fn new(aperture: Aperture, parts: Parts) -> io::Result<Self> {
        let window = match aperture {
            Aperture::Direct => Some(parts.slice.open_window().map_err(io::Error::other)?),
            Aperture::Trap | Aperture::Shadow => None,
        };
        let scanout = parts.scanout.clone();
        let mirror = Arc::new(Mirror::new(parts)?);
        let thread = Some(mirror.start()?);
        let refresh: Weak<Mirror> = Arc::downgrade(&mirror);
        scanout.set_refresh(refresh);
        Ok(Self {
            aperture,
            mirror,
            thread,
            window,
        })
    }

    /// How a client reaches it.
    pub(super) fn access(&self) -> Access {
        match (&self.window, self.aperture) {
            (Some((fd, offset)), _) => Access::Window {
                fd: Arc::clone(fd),
                offset: *offset,
            },
            (None, Aperture::Shadow) => Access::Mapped {
                fd: Arc::clone(self.memory().file()),
            },
            (None, _) => Access::Trapped,
        }
    }

    pub(super) fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// The file that the picture is in.
    pub(super) fn memory(&self) -> &RegionMemory {
        self.mirror.memory()
    }

    /// Reads what the client would; `None` past the end.
    pub(super) fn read(&self, at: u64, data: &mut [u8]) -> Option<()> {
        match self.aperture.way() {
            Way::ToCard => self.memory().read(at, data).ok(),
            Way::FromCard => self.mirror.slice().read(at, data),
        }
    }

    /// Writes for the client; `None` past the end.
    pub(super) fn write(&self, at: u64, data: &[u8]) -> Option<()> {
        match self.aperture.way() {
            Way::ToCard => self.memory().write(at, data).ok(),
            Way::FromCard => self.mirror.slice().write(at, data),
        }
    }
}

impl Drop for Vram {
    fn drop(&mut self) {
        self.mirror.end();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
