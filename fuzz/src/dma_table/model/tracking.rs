//! What is pinned, and which pages were written.

use std::collections::BTreeSet;

use vfu::Errno;
use vfu::wire::dma::DmaFlags;

use super::{Model, PAGE, PinModel, bit_bytes};

impl Model {
    pub(in crate::dma_table) fn pin(
        &mut self,
        at: u64,
        len: u64,
        write: bool,
    ) -> Result<(), Errno> {
        let needs = if write {
            DmaFlags::WRITE
        } else {
            DmaFlags::READ
        };
        let mut next = at;
        let last = at + (len - 1);
        loop {
            let (entry, _, _) = self.pieces(next, 1, needs)?[0];
            entry.file.ok_or(Errno::OPNOTSUPP)?;
            if entry.last >= last {
                break;
            }
            next = entry.last + 1;
        }
        self.pins.push(PinModel {
            first: at,
            last,
            write,
        });
        Ok(())
    }

    pub(in crate::dma_table) fn unpin(&mut self, place: usize) {
        let pin = self.pins.remove(place);
        if pin.write {
            self.mark(pin.first, pin.last);
        }
    }

    pub(in crate::dma_table) fn pinned_pages(&self) -> usize {
        let pages = self
            .pins
            .iter()
            .flat_map(|pin| pin.first / PAGE..=pin.last / PAGE);
        pages.collect::<BTreeSet<_>>().len()
    }

    pub(in crate::dma_table) fn start_tracking(&mut self, max: u64) -> Result<(), Errno> {
        if self.tracking.is_some() {
            return Ok(());
        }
        if self.bits_in_use() > max.into() {
            return Err(Errno::NOSPC);
        }
        self.tracking = Some(max);
        Ok(())
    }

    pub(in crate::dma_table) fn stop_tracking(&mut self) {
        self.tracking = None;
        for entry in &mut self.entries {
            entry.dirty.clear();
        }
    }

    /// Whether a report on so many pages is not refused.
    pub(in crate::dma_table) fn may_report(&self, pages: u64) -> bool {
        self.tracking.is_some_and(|max| bit_bytes(pages) <= max)
    }

    pub(in crate::dma_table) fn take_dirty(
        &mut self,
        first: u64,
        last: u64,
    ) -> Result<Vec<u64>, Errno> {
        self.tracking.ok_or(Errno::INVAL)?;
        let (first, last) = (first / PAGE, last / PAGE);
        if !self.may_report(last - first + 1) {
            return Err(Errno::NOSPC);
        }
        let writers: Vec<_> = self
            .pins
            .iter()
            .filter(|pin| pin.write)
            .map(|pin| (pin.first, pin.last))
            .collect();
        for (from, to) in writers {
            // Of the mappings that are asked about: the others are marked when their turn comes.
            self.mark(from, to);
        }
        let mut dirty = BTreeSet::new();
        for entry in &mut self.entries {
            dirty.extend(entry.dirty.extract_if(first..=last, |_| true));
        }
        Ok(dirty.into_iter().collect())
    }
}
