//! Runs of pages that a physical device sees side by side, each one mapping of its IOMMU.
//!
//! The kernel's IOMMU takes away what it was given, in whole: there is no unmapping half a mapping.
//! So a run lives for as long as one of its pages is pinned. Pages of it that are pinned no more stay
//! within the device's reach until then, and are found there when they are pinned again; nobody gives
//! the device their addresses meanwhile. A run lies in one mapping of the client's: whoever unmaps that
//! has waited for all pins of it, and with the last of them the last run has ended.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::counts::PageCounts;
use super::{DeviceIommu, PAGE_SIZE};
use crate::dma::extent::Extent;
use crate::dma::iova::{Iova, IovaRange};

/// The most that is mapped at once: what a single page that stays pinned keeps within the device's
/// reach, and counted as locked.
const MOST_PAGES: u64 = (2 << 20) / PAGE_SIZE;

/// The pages of one mapping of the client's.
pub(super) struct Source<'a> {
    pub(super) extent: &'a Arc<Extent>,
    /// Where the page lies in the extent that has this number.
    pub(super) position: usize,
    /// That number.
    pub(super) page: u64,
    /// Whether the client lets devices write it.
    pub(super) may_write: bool,
}

/// A run. Dropping it takes it from the device, and then lets go of the memory.
pub(super) struct Run {
    first: u64,
    last: u64,
    device: IovaRange,
    iommu: Arc<dyn DeviceIommu>,
    _extent: Arc<Extent>,
}

impl Run {
    /// Maps the first of the pages, and as many behind it as can be had side by side.
    fn map(
        source: &Source<'_>,
        pages: &RangeInclusive<u64>,
        iommu: &Arc<dyn DeviceIommu>,
    ) -> io::Result<Self> {
        let (first, wanted) = (*pages.start(), pages.end() - pages.start() + 1);
        let wanted = wanted.min(MOST_PAGES);
        let bytes = |pages: u64| usize::try_from(pages * PAGE_SIZE).unwrap_or(usize::MAX);
        let host = (source.position)
            .checked_add(bytes(first - source.page))
            .and_then(|at| source.extent.slice(at, bytes(wanted)))
            // Not what the pin was cut from.
            .ok_or(io::ErrorKind::InvalidInput)?;
        let device = iommu.map(Iova(first * PAGE_SIZE), &host, source.may_write)?;
        debug_assert!(device.pages() <= wanted && device.len() == Some(device.pages() * PAGE_SIZE));
        Ok(Self {
            first,
            last: first + (device.pages() - 1),
            device,
            iommu: Arc::clone(iommu),
            _extent: Arc::clone(source.extent),
        })
    }

    /// Where the device sees a range of the client's addresses, as far as it lies in the run.
    fn device_range(&self, range: IovaRange) -> Option<IovaRange> {
        let start = range.start().0.max(self.first * PAGE_SIZE);
        let last = (range.last().0).min(self.last * PAGE_SIZE + (PAGE_SIZE - 1));
        let into = start - self.first * PAGE_SIZE;
        let len = last.checked_sub(start)? + 1;
        IovaRange::new(Iova(self.device.start().0 + into), len)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.iommu.unmap(Iova(self.first * PAGE_SIZE), self.device);
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..={}: {:?}", self.first, self.last, self.device)
    }
}

/// The runs of one mapping of the client's. They do not overlap.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// By the first page of each.
    runs: BTreeMap<u64, Run>,
}

impl Runs {
    /// Maps what is not mapped yet of some pages. On error nothing is.
    pub(super) fn cover(
        &mut self,
        source: &Source<'_>,
        pages: &RangeInclusive<u64>,
        iommu: &Arc<dyn DeviceIommu>,
    ) -> io::Result<()> {
        let mut new = Vec::new();
        for gap in self.gaps(pages) {
            let mut next = *gap.start();
            while next <= *gap.end() {
                // What is mapped already is unmapped by dropping `new`.
                let run = Run::map(source, &(next..=*gap.end()), iommu)?;
                next = run.last + 1;
                new.push(run);
            }
        }
        self.runs
            .extend(new.into_iter().map(|run| (run.first, run)));
        Ok(())
    }

    /// Unmaps the runs of some pages that have none that is pinned.
    pub(super) fn drop_unused(&mut self, pages: &RangeInclusive<u64>, counts: &PageCounts) {
        let unused: Vec<u64> = self
            .overlapping(pages)
            .filter(|run| !counts.any_in(&(run.first..=run.last)))
            .map(|run| run.first)
            .collect();
        for first in unused {
            self.runs.remove(&first);
        }
    }

    /// Where the device sees a range of the client's addresses: what there is of each run.
    pub(super) fn device_ranges(
        &self,
        pages: &RangeInclusive<u64>,
        range: IovaRange,
    ) -> impl Iterator<Item = IovaRange> {
        let runs = self.overlapping(pages);
        runs.filter_map(move |run| run.device_range(range))
    }

    /// The pages among these that are in no run.
    fn gaps(&self, pages: &RangeInclusive<u64>) -> Vec<RangeInclusive<u64>> {
        let mut gaps = Vec::new();
        let mut next = *pages.start();
        for run in self.overlapping(pages) {
            if next < run.first {
                gaps.push(next..=run.first - 1);
            }
            next = run.last + 1;
        }
        if next <= *pages.end() {
            gaps.push(next..=*pages.end());
        }
        gaps
    }

    fn overlapping(&self, pages: &RangeInclusive<u64>) -> impl Iterator<Item = &Run> {
        let first = *pages.start();
        let before = self.runs.range(..first).next_back();
        let before = before.map(|(_, run)| run).filter(|run| run.last >= first);
        before
            .into_iter()
            .chain(self.runs.range(pages.clone()).map(|(_, run)| run))
    }
}
