//! One mapping: what of it is pinned, and what was written.

use std::sync::{Arc, OnceLock};

use vfu::wire::dma::DmaFlags;

use super::page_numbers;
use crate::dma::dirty::{DirtyPages, DirtyReport};
use crate::dma::files::Slice;
use crate::dma::iova::IovaRange;
use crate::dma::pin::PinCount;

/// One mapping.
#[derive(Debug)]
pub struct Mapping {
    /// Where the device sees it.
    pub range: IovaRange,
    /// What the device may do.
    pub flags: DmaFlags,
    /// The memory; `None` if it came without a file, and is reached by messages only.
    pub memory: Option<Slice>,
    /// Made when something is pinned for the first time.
    pub(in crate::dma) pins: OnceLock<Arc<PinCount>>,
    /// While writes are tracked.
    pub(in crate::dma) dirty: Option<Arc<DirtyPages>>,
}

impl Mapping {
    pub(super) fn new(range: IovaRange, flags: DmaFlags, memory: Option<Slice>) -> Self {
        Self {
            range,
            flags,
            memory,
            pins: OnceLock::new(),
            dirty: None,
        }
    }

    /// What is pinned of it.
    pub(in crate::dma) fn pin_count(&self) -> &Arc<PinCount> {
        self.pins.get_or_init(|| {
            let may_write = self.flags.contains(DmaFlags::WRITE);
            PinCount::new(self.range.start(), may_write, self.dirty.clone())
        })
    }

    /// Bytes that its bits take while writes are tracked.
    pub(super) fn dirty_bytes(&self) -> u64 {
        let range = self.memory.as_ref().map(|_| self.range);
        range.map_or(0, DirtyPages::bytes_for)
    }

    pub(super) fn track(&mut self) {
        let is_here = self.memory.is_some();
        self.set_dirty(is_here.then(|| DirtyPages::new(self.range.pages())));
    }

    pub(super) fn set_dirty(&mut self, dirty: Option<Arc<DirtyPages>>) {
        if let Some(pins) = self.pins.get() {
            pins.track(dirty.clone());
        }
        self.dirty = dirty;
    }

    pub(super) fn take_dirty(&self, range: IovaRange, report: &mut DirtyReport) {
        let Some(dirty) = &self.dirty else {
            return;
        };
        if let Some(pins) = self.pins.get() {
            pins.mark_writable();
        }
        let own = page_numbers(self.range);
        let wanted = page_numbers(range);
        // Counted from the mapping's first page, whose bit is the first.
        let first = wanted.start().max(own.start()) - own.start();
        let last = wanted.end().min(own.end()) - own.start();
        for word in first / 64..=last / 64 {
            let from = first.saturating_sub(word * 64);
            let to = (last - word * 64).min(63);
            let mask = (u64::MAX << from) & (u64::MAX >> (63 - to));
            let mut bits = dirty.take(usize::try_from(word).unwrap_or(usize::MAX), mask);
            while bits != 0 {
                let page = own.start() + word * 64 + u64::from(bits.trailing_zeros());
                report.set(page - wanted.start());
                bits &= bits - 1;
            }
        }
    }
}
