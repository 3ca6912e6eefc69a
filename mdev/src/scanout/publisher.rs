//! Where a device says what it shows, at once or late ([`late`]).

mod late;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use super::watch::Ear;
use super::{Cursor, Geometry, Rect, Refresh, Scanout, Watch};
use late::{Asking, Lateness};

/// Most heads of a display.
pub const MAX_HEADS: u32 = 16;

/// Where a device says what a head shows: the first one's, of which [`Self::head`] makes the others.
/// Clones speak of the same picture.
#[derive(Clone, Debug)]
pub struct ScanoutPublisher {
    display: Arc<Display>,
    head: usize,
}

/// What all heads share.
#[derive(Debug)]
struct Display {
    heads: [Mutex<Head>; MAX_HEADS as usize],
    count: AtomicU32,
    /// Asks for what is late.
    asking: Mutex<Option<Asking>>,
    /// The device has answered, for some head.
    answered: Condvar,
}

#[derive(Debug, Default)]
struct Head {
    current: Option<Scanout>,
    published: u64,
    /// Whether the device says what is drawn.
    tells: bool,
    late: Lateness,
    cursor: Cursor,
    /// Changes of the cursor.
    pointed: u64,
    /// Images of it.
    images: u64,
    watches: Vec<Weak<Ear>>,
    refresh: Option<Weak<dyn Refresh>>,
}

impl Default for ScanoutPublisher {
    fn default() -> Self {
        Self {
            display: Arc::new(Display {
                heads: std::array::from_fn(|_| Mutex::default()),
                count: AtomicU32::new(1),
                asking: Mutex::default(),
                answered: Condvar::new(),
            }),
            head: 0,
        }
    }
}

impl ScanoutPublisher {
    /// Says how many heads there are, whether they show anything or not: 1 unless the device says
    /// more, and [`MAX_HEADS`] at most.
    pub fn set_heads(&self, count: u32) {
        let count = count.clamp(1, MAX_HEADS);
        self.display.count.store(count, Ordering::Relaxed);
    }

    /// How many heads there are.
    pub fn heads(&self) -> u32 {
        self.display.count.load(Ordering::Relaxed)
    }

    /// That of another head of the same display, from 0; `None` if there is no such head.
    pub fn head(&self, head: u32) -> Option<Self> {
        let is_there = head < self.heads();
        is_there.then(|| Self {
            display: Arc::clone(&self.display),
            head: head as usize,
        })
    }

    /// Shows the picture at `geometry` in `memory` from now on. All of it counts as drawn.
    pub fn publish(&self, memory: Arc<OwnedFd>, geometry: Geometry) {
        let mut head = self.lock();
        head.published += 1;
        head.current = Some(Scanout {
            memory,
            geometry,
            sequence: head.published,
        });
        head.late.end();
        head.tell(Rect::whole(geometry.width, geometry.height));
        self.display.answered.notify_all();
    }

    /// Shows nothing from now on.
    pub fn blank(&self) {
        let mut head = self.lock();
        head.published += 1;
        head.current = None;
        head.late.end();
        head.tell(Rect::default());
        self.display.answered.notify_all();
    }

    /// What is shown now; `None` if the guest has set no mode.
    pub fn current(&self) -> Option<Scanout> {
        let refresh = self.lock().refresher();
        if let Some(refresh) = refresh {
            refresh.refresh();
        }
        self.lock().current.clone()
    }

    /// Has the picture brought into its file before anyone reads it, for as long as `refresh` is there.
    pub fn set_refresh(&self, refresh: Weak<dyn Refresh>) {
        self.lock().refresh = Some(refresh);
    }

    /// Whether anyone watches.
    pub fn is_watched(&self) -> bool {
        let head = self.lock();
        head.watches.iter().any(|watch| watch.strong_count() > 0)
    }

    /// Promises that every pixel which changes from now on is told of by [`Self::drawn`]. Of a device
    /// that does not promise that, who looks has to compare.
    pub fn promise_drawn(&self) {
        self.lock().tells = true;
    }

    /// Part of the picture was drawn, in its own pixels.
    pub fn drawn(&self, rect: Rect) {
        let mut head = self.lock();
        let Some(scanout) = &head.current else {
            return;
        };
        let Geometry { width, height, .. } = scanout.geometry;
        let rect = rect.intersection(Rect::whole(width, height));
        if !rect.is_empty() {
            head.tell(rect);
        }
    }

    /// What was drawn since this was last called for `watch`, the whole picture if that is another
    /// one: a rectangle with all of it, which is empty if nothing was. `None` if the device does not say
    /// what it draws. To be called before the pixels are read: what is drawn meanwhile is then told of.
    pub fn take_drawn(&self, watch: &Watch) -> Option<Rect> {
        let mut head = self.lock();
        let drawn = watch.take();
        let drawn = head.tells.then_some(drawn);
        let is_early = head.late.told(drawn.unwrap_or_default());
        drop(head);
        if is_early {
            self.ask();
        }
        drawn
    }

    /// The cursor has another image, or none, or another hot spot, and another place. The image's
    /// `sequence` is given here.
    pub fn set_cursor(&self, mut cursor: Cursor) {
        let mut head = self.lock();
        if let Some(image) = &mut cursor.image {
            head.images += 1;
            image.sequence = head.images;
        }
        head.cursor = cursor;
        head.pointed += 1;
        head.tell(Rect::default());
    }

    /// The cursor is elsewhere.
    pub fn move_cursor(&self, x: i32, y: i32) {
        let mut head = self.lock();
        (head.cursor.x, head.cursor.y) = (x, y);
        head.pointed += 1;
        head.tell(Rect::default());
    }

    /// The cursor now, and how often it has changed.
    pub fn cursor(&self) -> (Cursor, u64) {
        let head = self.lock();
        (head.cursor.clone(), head.pointed)
    }

    /// Has an eventfd written to whenever another picture, or none, is shown, when the device says that
    /// it draws, and when the cursor changes: who reads the handle need not ask again and again.
    pub fn watch(&self) -> io::Result<Watch> {
        let mut head = self.lock();
        let whole = head.current.as_ref().map(|scanout| {
            let Geometry { width, height, .. } = scanout.geometry;
            Rect::whole(width, height)
        });
        let (watch, ear) = Watch::new(whole.unwrap_or_default())?;
        head.forget_the_gone();
        head.watches.push(Arc::downgrade(&ear));
        let refresh = head.refresher();
        drop(head);
        if let Some(refresh) = refresh {
            refresh.watched();
        }
        Ok(watch)
    }

    fn lock(&self) -> MutexGuard<'_, Head> {
        // `head` is less than their number.
        let head = &self.display.heads[self.head];
        head.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Head {
    /// To be called once the head is unlocked: it may publish.
    fn refresher(&self) -> Option<Arc<dyn Refresh>> {
        self.refresh.as_ref().and_then(Weak::upgrade)
    }

    fn tell(&mut self, drawn: Rect) {
        self.forget_the_gone();
        for ear in self.watches.iter().filter_map(Weak::upgrade) {
            ear.tell(drawn);
        }
    }

    fn forget_the_gone(&mut self) {
        self.watches.retain(|watch| watch.strong_count() > 0);
    }
}

#[cfg(test)]
mod tests;
