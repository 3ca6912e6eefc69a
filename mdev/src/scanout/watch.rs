//! Who is told of another picture, and of what is drawn.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use super::Rect;

/// An eventfd that can be read once another picture, or none, is shown, something is drawn by a
/// device that says so, or the cursor changes. It is told until this is dropped.
#[derive(Debug)]
pub struct Watch(Arc<Ear>);

/// What the publisher reaches of it.
#[derive(Debug)]
pub(super) struct Ear {
    eventfd: Arc<OwnedFd>,
    drawn: Mutex<Rect>,
}

impl Watch {
    pub(super) fn new(drawn: Rect) -> io::Result<(Self, Arc<Ear>)> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let ear = Arc::new(Ear {
            eventfd: Arc::new(eventfd),
            drawn: Mutex::new(drawn),
        });
        Ok((Self(Arc::clone(&ear)), ear))
    }

    /// The eventfd, which does not block.
    pub fn eventfd(&self) -> &Arc<OwnedFd> {
        &self.0.eventfd
    }

    /// Takes what was gathered: of a device that says what is drawn, see
    /// [`super::ScanoutPublisher::take_drawn`].
    pub(super) fn take(&self) -> Rect {
        std::mem::take(&mut *self.0.lock())
    }
}

impl Ear {
    /// Tells, and adds what was drawn.
    pub(super) fn tell(&self, drawn: Rect) {
        let mut gathered = self.lock();
        *gathered = gathered.union(drawn);
        drop(gathered);
        // It does not block: one that is full can be read already.
        let _ = rustix::io::write(&self.eventfd, &1_u64.to_ne_bytes());
    }

    fn lock(&self) -> MutexGuard<'_, Rect> {
        self.drawn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
