//! Memory held for a device: translated once, used for as long as the guard lives.
//!
//! A pin keeps the file mapped, so its addresses stay good whatever the client does. It does not
//! keep the mapping: DMA_UNMAP takes that away, so that nothing new is pinned, and then waits for
//! the guards that are there, since the client reuses the memory once it is answered.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use vm_memory::VolatileSlice;

use super::dirty::DirtyPages;
use super::files::Slice;
use super::iova::{Iova, IovaRange};
use super::sync::{Condvar, Mutex, MutexGuard};
use super::table::{DmaTable, page_number};

const PAGE_SIZE: u64 = DmaTable::PAGE_SIZE;

/// An IOMMU of a parent's, which gives a physical device access to pinned pages.
pub trait DeviceIommu: Send + Sync {
    /// Lets the device reach a page of this process's memory, and tells where it sees it. The page
    /// stays mapped in this process until [`Self::unmap_page`], and all access to it is volatile.
    fn map_page(&self, page: Iova, host: &VolatileSlice<'_>, write: bool) -> std::io::Result<u64>;

    /// Takes the page away from the device.
    fn unmap_page(&self, page: Iova, device_address: u64);
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
    pages: BTreeMap<u64, PinnedPage>,
    /// While writes are tracked.
    dirty: Option<Arc<DirtyPages>>,
}

/// A page, and how often it is pinned.
struct PinnedPage {
    guards: usize,
    /// Of the guards, those that may write.
    writers: usize,
    /// Where a physical device sees it.
    device_address: Option<u64>,
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
            pinned = match self.none_left.wait_timeout(pinned, left) {
                Ok((pinned, _)) => pinned,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        true
    }

    /// How many pages are pinned.
    pub(super) fn pages(&self) -> usize {
        self.lock().pages.len()
    }

    /// Notes in `dirty`, from now on, what may have been written; or nowhere.
    pub(super) fn track(&self, dirty: Option<Arc<DirtyPages>>) {
        self.lock().dirty = dirty;
    }

    /// Marks the pages that may be written at this moment.
    pub(super) fn mark_writable(&self) {
        let pinned = self.lock();
        if let Some(dirty) = &pinned.dirty {
            for (&page, _) in pinned.pages.iter().filter(|(_, page)| page.writers > 0) {
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

    /// The whole page of this process's memory behind a page of the part.
    fn host_page(&self, page: u64) -> Option<VolatileSlice<'_>> {
        let into_page = usize::try_from(self.start.0 % PAGE_SIZE).ok()?;
        let first = self.memory.position.checked_sub(into_page)?;
        let pages_in = usize::try_from(page - page_number(self.start)).ok()?;
        let page_size = usize::try_from(PAGE_SIZE).ok()?;
        self.memory
            .extent
            .slice(first + pages_in * page_size, page_size)
    }

    /// Where a physical device sees what there is of each page.
    fn device_pieces(&self) -> Vec<IovaRange> {
        let pinned = self.count.lock();
        let last = Iova(self.start.0 + (self.len as u64 - 1));
        let pieces = self.pages().filter_map(|page| {
            let device_address = pinned.pages.get(&page)?.device_address?;
            let from = self.start.0.max(page * PAGE_SIZE) % PAGE_SIZE;
            let to = last.0.min(page * PAGE_SIZE + (PAGE_SIZE - 1)) % PAGE_SIZE;
            IovaRange::new(Iova(device_address + from), to - from + 1)
        });
        pieces.collect()
    }

    /// Counts the guard. On error nothing is counted.
    fn hold(&self, iommu: Option<&dyn DeviceIommu>) -> std::io::Result<()> {
        let mut pinned = self.count.lock();
        for page in self.pages() {
            if let Err(error) = self.hold_page(&mut pinned, page, iommu) {
                for earlier in *self.pages().start()..page {
                    self.release_page(&mut pinned, earlier, iommu);
                }
                return Err(error);
            }
        }
        pinned.guards += 1;
        Ok(())
    }

    fn hold_page(
        &self,
        pinned: &mut Pinned,
        page: u64,
        iommu: Option<&dyn DeviceIommu>,
    ) -> std::io::Result<()> {
        let held = match pinned.pages.entry(page) {
            Entry::Occupied(held) => held.into_mut(),
            Entry::Vacant(free) => {
                let device_address = match (iommu, self.host_page(page)) {
                    (Some(iommu), Some(host)) => {
                        let write = self.count.may_write;
                        Some(iommu.map_page(Iova(page * PAGE_SIZE), &host, write)?)
                    }
                    _ => None,
                };
                free.insert(PinnedPage {
                    guards: 0,
                    writers: 0,
                    device_address,
                })
            }
        };
        held.guards += 1;
        held.writers += usize::from(self.write);
        Ok(())
    }

    fn release(&self, iommu: Option<&dyn DeviceIommu>) {
        let mut pinned = self.count.lock();
        for page in self.pages() {
            self.release_page(&mut pinned, page, iommu);
        }
        pinned.guards -= 1;
        if pinned.guards == 0 {
            self.count.none_left.notify_all();
        }
    }

    fn release_page(&self, pinned: &mut Pinned, page: u64, iommu: Option<&dyn DeviceIommu>) {
        if let (true, Some(dirty)) = (self.write, &pinned.dirty) {
            dirty.mark_page(page - self.count.first);
        }
        let Entry::Occupied(mut held) = pinned.pages.entry(page) else {
            return;
        };
        held.get_mut().guards -= 1;
        held.get_mut().writers -= usize::from(self.write);
        if held.get().guards == 0 {
            let device_address = held.remove().device_address;
            if let (Some(iommu), Some(address)) = (iommu, device_address) {
                iommu.unmap_page(Iova(page * PAGE_SIZE), address);
            }
        }
    }
}

/// Memory held for a device. Dropping it lets go.
///
/// DMA_UNMAP waits for it, four seconds at most: then the session ends. So a device drops its
/// pins when [`crate::MediatedDevice::dma_unmap`] tells it to.
pub struct Pin {
    parts: Vec<PinPart>,
    iommu: Option<Arc<dyn DeviceIommu>>,
}

impl Pin {
    /// Holds all of `parts`, or, on error, none.
    pub(super) fn hold(
        parts: Vec<PinPart>,
        iommu: Option<Arc<dyn DeviceIommu>>,
    ) -> std::io::Result<Self> {
        let mut pin = Self {
            parts: Vec::with_capacity(parts.len()),
            iommu,
        };
        for part in parts {
            // What is held already is let go by dropping `pin`.
            part.hold(pin.iommu.as_deref())?;
            pin.parts.push(part);
        }
        Ok(pin)
    }

    /// The memory, in the order of its addresses: one slice for each mapping it lies in. A slice
    /// may be written only if the pin was made for that.
    pub fn slices(&self) -> impl Iterator<Item = VolatileSlice<'_>> {
        self.parts.iter().map(PinPart::host)
    }

    /// Where a physical device sees the memory, byte for byte and in its order; nothing if the parent
    /// has no IOMMU. What it sees side by side is one range, and may be transferred at once.
    pub fn device_ranges(&self) -> Vec<IovaRange> {
        let mut ranges: Vec<IovaRange> = Vec::new();
        for next in self.parts.iter().flat_map(PinPart::device_pieces) {
            match ranges.last_mut() {
                Some(range) if range.is_followed_by(next) => {
                    *range = range.joined_with(next);
                }
                _ => ranges.push(next),
            }
        }
        ranges
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.len).sum()
    }

    /// Never: an empty range cannot be pinned.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        for part in &self.parts {
            part.release(self.iommu.as_deref());
        }
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pin").field("parts", &self.parts).finish()
    }
}
