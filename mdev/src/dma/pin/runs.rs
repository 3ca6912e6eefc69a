//! Runs of pages that a physical device sees side by side, each one mapping of its IOMMU.
//!
//! The kernel's IOMMU takes away what it was given, in whole: there is no unmapping half a mapping.
//! So a run lives for as long as one of its pages is pinned. Pages of it that are pinned no more stay
//! within the device's reach until then, and are found there when they are pinned again; nobody gives
//! the device their addresses meanwhile. A run lies in one mapping of the client's: whoever unmaps that
//! has waited for all pins of it, and with the last of them the last run has ended.

use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::counts::PageCounts;
use super::{DeviceIommu, PAGE_SIZE};
use crate::dma::extent::Extent;
use crate::dma::iova::{Iova, IovaRange};
use crate::dma::table::page_number;

/// The most that is mapped at once: what a single page that stays pinned keeps within the device's
/// reach, and counted as locked.
const MOST_PAGES: u64 = (2 << 20) / PAGE_SIZE;

/// Memory of one mapping of the client's.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) extent: &'a Arc<Extent>,
    /// Where the page lies in the extent that has this number.
    pub(super) position: usize,
    /// That number.
    pub(super) page: u64,
    /// Whether the client lets devices write it.
    pub(super) may_write: bool,
}

/// Pages that the device sees side by side.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: u64,
    last: u64,
    /// Where the device sees the first.
    device: Iova,
}

impl Run {
    fn pages(&self) -> RangeInclusive<u64> {
        self.first..=self.last
    }

    /// All of it, as the device sees it.
    fn device(&self) -> Option<IovaRange> {
        IovaRange::new(self.device, (self.last - self.first + 1) * PAGE_SIZE)
    }

    /// Where the device sees a range of the client's addresses, as far as it lies in the run.
    fn device_range(&self, range: IovaRange) -> Option<IovaRange> {
        let start = range.start().0.max(self.first * PAGE_SIZE);
        let last = (range.last().0).min(self.last * PAGE_SIZE + (PAGE_SIZE - 1));
        let into = start - self.first * PAGE_SIZE;
        let len = last.checked_sub(start)? + 1;
        IovaRange::new(Iova(self.device.0 + into), len)
    }
}

/// What runs are made with, and stand on.
struct Mapped {
    iommu: Arc<dyn DeviceIommu>,
    extent: Arc<Extent>,
}

impl Mapped {
    /// Maps the first of the pages, and as many behind it as can be had side by side.
    fn map(&self, source: Source<'_>, pages: RangeInclusive<u64>) -> io::Result<Run> {
        let (first, wanted) = (*pages.start(), pages.end() - pages.start() + 1);
        let wanted = wanted.min(MOST_PAGES);
        let bytes = |pages: u64| usize::try_from(pages * PAGE_SIZE).unwrap_or(usize::MAX);
        let host = (source.position)
            .checked_add(bytes(first - source.page))
            .and_then(|at| self.extent.slice(at, bytes(wanted)))
            // Not what the pin was cut from.
            .ok_or(io::ErrorKind::InvalidInput)?;
        let client = Iova(first * PAGE_SIZE);
        let device = self.iommu.map(client, &host, source.may_write)?;
        debug_assert!(device.pages() <= wanted && device.len() == Some(device.pages() * PAGE_SIZE));
        Ok(Run {
            first,
            last: first + (device.pages() - 1),
            device: device.start(),
        })
    }

    fn unmap(&self, run: Run) {
        if let Some(device) = run.device() {
            self.iommu.unmap(Iova(run.first * PAGE_SIZE), device);
        }
    }
}

/// The runs of one mapping of the client's. Dropping them takes them from the device, before it lets
/// go of the memory.
#[derive(Default)]
pub(super) struct Runs {
    /// In the order of their pages. They do not overlap.
    ///
    /// As many as the kernel keeps mappings for, at most: 65,535, unless it is told otherwise.
    runs: Vec<Run>,
    /// Once there has been one.
    mapped: Option<Mapped>,
}

/// While pages are mapped that are not counted yet. Dropping it unmaps those that are not: the others
/// of its pages were mapped before, for somebody who has pinned them.
struct Covering<'a> {
    runs: &'a mut Runs,
    pages: &'a RangeInclusive<u64>,
    counts: &'a PageCounts,
}

impl Drop for Covering<'_> {
    fn drop(&mut self) {
        self.runs.drop_unused(self.pages, self.counts);
    }
}

impl Runs {
    /// Maps what is not mapped yet of some pages. On error nothing is: `counts` are of before.
    pub(super) fn cover(
        &mut self,
        source: Source<'_>,
        pages: &RangeInclusive<u64>,
        counts: &PageCounts,
        iommu: &Arc<dyn DeviceIommu>,
    ) -> io::Result<()> {
        self.mapped.get_or_insert_with(|| Mapped {
            iommu: Arc::clone(iommu),
            extent: Arc::clone(source.extent),
        });
        let mut at = self.ending_from(*pages.start());
        let covering = Covering {
            runs: self,
            pages,
            counts,
        };
        let Runs { runs, mapped } = &mut *covering.runs;
        let mut next = *pages.start();
        while next <= *pages.end() {
            let run = match runs.get(at) {
                Some(run) if run.first <= next => *run,
                behind => {
                    let last = behind.map_or(*pages.end(), |run| run.first - 1);
                    let mapped = mapped.as_ref().ok_or(io::ErrorKind::InvalidInput)?;
                    let run = mapped.map(source, next..=last.min(*pages.end()))?;
                    runs.insert(at, run);
                    run
                }
            };
            next = run.last + 1;
            at += 1;
        }
        // All of it is: nothing is to be undone.
        std::mem::forget(covering);
        Ok(())
    }

    /// Unmaps the runs of some pages that have none that is pinned.
    pub(super) fn drop_unused(&mut self, pages: &RangeInclusive<u64>, counts: &PageCounts) {
        let from = self.ending_from(*pages.start());
        let count = self.runs[from..].partition_point(|run| run.first <= *pages.end());
        let is_unused = |run: &mut Run| !counts.any_in(&run.pages());
        let unused = self.runs.extract_if(from..from + count, is_unused);
        if let Some(mapped) = &self.mapped {
            unused.for_each(|run| mapped.unmap(run));
        }
    }

    /// Adds where the device sees a range of the client's addresses; what it sees side by side is one.
    pub(super) fn add_device_ranges(&self, range: IovaRange, ranges: &mut Vec<IovaRange>) {
        let from = self.ending_from(page_number(range.start()));
        for next in self.runs[from..]
            .iter()
            .map_while(|run| run.device_range(range))
        {
            match ranges.last_mut() {
                Some(last) if last.is_followed_by(next) => *last = last.joined_with(next),
                _ => ranges.push(next),
            }
        }
    }

    /// The first run that ends with a page or behind it: which it is, or would be.
    fn ending_from(&self, page: u64) -> usize {
        self.runs.partition_point(|run| run.last < page)
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        if let Some(mapped) = &self.mapped {
            self.runs.drain(..).for_each(|run| mapped.unmap(run));
        }
    }
}

impl fmt::Debug for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.runs).finish()
    }
}
