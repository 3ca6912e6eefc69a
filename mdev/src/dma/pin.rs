//! Memory held for a device: translated once, used for as long as the guard lives.
//!
//! A pin keeps the file mapped, so its addresses stay good whatever the client does. It does not
//! keep the mapping: DMA_UNMAP takes that away, so that nothing new is pinned, and then waits for
//! the guards that are there, since the client reuses the memory once it is answered.
//!
//! - `counts`: how often each page is pinned.
//! - `runs`: which pages a physical device sees, and where.

mod counts;
mod runs;

use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use vm_memory::VolatileSlice;

use super::dirty::DirtyPages;
use super::files::Slice;
use super::iova::{Iova, IovaRange};
use super::sync::{Condvar, Mutex, MutexGuard};
use super::table::{DmaTable, page_number};
use counts::PageCounts;
use runs::{Runs, Source};

const PAGE_SIZE: u64 = DmaTable::PAGE_SIZE;

/// An IOMMU of a parent's, which gives a physical device access to pinned pages.
pub trait DeviceIommu: Send + Sync {
    /// Lets the device reach whole pages of this process's memory, which the client has at `first`,
    /// and tells where it sees them: the first of them, and as many behind it as there is room for
    /// side by side. They stay mapped in this process until [`Self::unmap`], and all access to them is
    /// volatile.
    fn map(&self, first: Iova, host: &VolatileSlice<'_>, write: bool)
    -> std::io::Result<IovaRange>;

    /// Takes from the device all that one call of [`Self::map`] gave it.
    fn unmap(&self, first: Iova, device: IovaRange);
}

/// What is pinned of one mapping.
pub(super) struct PinCount {
    /// The mapping's first page.
    first: u64,
    /// What the client allows: a page is given to a physical device once, for all its pins.
    may_write: bool,
    pinned: Mutex<Pinned>,
    none_left: Condvar,
}

#[derive(Default)]
struct Pinned {
    guards: usize,
    /// Who waits for there to be none: nobody else is woken, which would be a call of the kernel's.
    waiting: usize,
    pages: PageCounts,
    /// Of a physical device, if there is one. Each of them has a page that is pinned.
    runs: Runs,
    /// While writes are tracked.
    dirty: Option<Arc<DirtyPages>>,
}

impl fmt::Debug for PinCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PinCount")
    }
}

impl PinCount {
    /// Of a mapping that begins at `first`, nothing of it pinned.
    pub(super) fn new(first: Iova, may_write: bool, dirty: Option<Arc<DirtyPages>>) -> Arc<Self> {
        let pinned = Pinned {
            dirty,
            ..Pinned::default()
        };
        Arc::new(Self {
            first: page_number(first),
            may_write,
            pinned: Mutex::new(pinned),
            none_left: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Pinned> {
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nothing is pinned. `false` if something still is at the deadline.
    pub(super) fn wait_until_none(&self, deadline: Instant) -> bool {
        let mut pinned = self.lock();
        while pinned.guards > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            pinned.waiting += 1;
            pinned = match self.none_left.wait_timeout(pinned, left) {
                Ok((pinned, _)) => pinned,
                Err(poisoned) => poisoned.into_inner().0,
            };
            pinned.waiting -= 1;
        }
        true
    }

    /// How many pages are pinned.
    pub(super) fn pages(&self) -> usize {
        self.lock().pages.pages()
    }

    /// Notes in `dirty`, from now on, what may have been written; or nowhere.
    pub(super) fn track(&self, dirty: Option<Arc<DirtyPages>>) {
        self.lock().dirty = dirty;
    }

    /// Marks the pages that may be written at this moment.
    pub(super) fn mark_writable(&self) {
        let pinned = self.lock();
        if let Some(dirty) = &pinned.dirty {
            for page in pinned.pages.writable() {
                dirty.mark_page(page - self.first);
            }
        }
    }
}

/// One mapping's share of a pin.
#[derive(Debug)]
pub(super) struct PinPart {
    pub(super) memory: Slice,
    pub(super) start: Iova,
    pub(super) len: usize,
    pub(super) write: bool,
    pub(super) count: Arc<PinCount>,
}

impl PinPart {
    fn pages(&self) -> std::ops::RangeInclusive<u64> {
        let last = self.start.0 + (self.len as u64 - 1);
        page_number(self.start)..=page_number(Iova(last))
    }

    fn host(&self) -> VolatileSlice<'_> {
        // The part was cut from a mapping that lies in the extent.
        self.memory
            .extent
            .slice(self.memory.position, self.len)
            .unwrap_or_else(|| unreachable!("a pin lies in its extent"))
    }

    /// Where the whole pages of the part are in this process's memory.
    fn source(&self) -> std::io::Result<Source<'_>> {
        let into_page = usize::try_from(self.start.0 % PAGE_SIZE).unwrap_or_default();
        let position = self.memory.position.checked_sub(into_page);
        Ok(Source {
            extent: &self.memory.extent,
            // A mapping begins with a whole page.
            position: position.ok_or(std::io::ErrorKind::InvalidInput)?,
            page: page_number(self.start),
            may_write: self.count.may_write,
        })
    }

    /// Counts the guard. On error nothing is counted, and the device reaches no more than before.
    fn hold(&self, iommu: Option<&Arc<dyn DeviceIommu>>) -> std::io::Result<()> {
        let pages = self.pages();
        let mut pinned = self.count.lock();
        if let Some(iommu) = iommu {
            let pinned = &mut *pinned;
            let source = self.source()?;
            pinned.runs.cover(source, &pages, &pinned.pages, iommu)?;
        }
        pinned.pages.add(&pages, self.write);
        pinned.guards += 1;
        Ok(())
    }

    /// Once this returns, the device reaches no run any more of which this was the last guard.
    fn release(&self) {
        let pages = self.pages();
        let mut pinned = self.count.lock();
        if let (true, Some(dirty)) = (self.write, &pinned.dirty) {
            for page in pages.clone() {
                dirty.mark_page(page - self.count.first);
            }
        }
        let changed = &mut *pinned;
        changed.pages.remove(&pages, self.write);
        changed.runs.drop_unused(&pages, &changed.pages);
        pinned.guards -= 1;
        if pinned.guards == 0 && pinned.waiting > 0 {
            self.count.none_left.notify_all();
        }
    }
}

/// Memory held for a device. Dropping it lets go.
///
/// DMA_UNMAP waits for it, four seconds at most: then the session ends. So a device drops its
/// pins when [`crate::MediatedDevice::dma_unmap`] tells it to.
pub struct Pin {
    /// There is one at least, and mostly no more.
    first: PinPart,
    rest: Vec<PinPart>,
    /// How many of them are counted: all, once there is a pin.
    held: usize,
}

impl Pin {
    /// Holds all of the parts, or, on error, none.
    pub(super) fn hold(
        first: PinPart,
        rest: Vec<PinPart>,
        iommu: Option<&Arc<dyn DeviceIommu>>,
    ) -> std::io::Result<Self> {
        let mut pin = Self {
            first,
            rest,
            held: 0,
        };
        // What is held already is let go by dropping `pin`.
        pin.first.hold(iommu)?;
        pin.held = 1;
        for part in &pin.rest {
            part.hold(iommu)?;
            pin.held += 1;
        }
        Ok(pin)
    }

    fn parts(&self) -> impl Iterator<Item = &PinPart> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    /// The memory, in the order of its addresses: one slice for each mapping it lies in. A slice
    /// may be written only if the pin was made for that.
    pub fn slices(&self) -> impl Iterator<Item = VolatileSlice<'_>> {
        self.parts().map(PinPart::host)
    }

    /// Where a physical device sees the memory, byte for byte and in its order; nothing if the parent
    /// has no IOMMU. What it sees side by side is one range, and may be transferred at once.
    pub fn device_ranges(&self) -> Vec<IovaRange> {
        let mut ranges = Vec::with_capacity(1 + self.rest.len());
        for part in self.parts() {
            let range = IovaRange::new(part.start, part.len as u64);
            let pinned = part.count.lock();
            range.inspect(|range| pinned.runs.add_device_ranges(*range, &mut ranges));
        }
        ranges
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.parts().map(|part| part.len).sum()
    }

    /// Never: an empty range cannot be pinned.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        for part in self.parts().take(self.held) {
            part.release();
        }
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.parts()).finish()
    }
}
