//! The database of a client's mappings: IOVA to memory.

mod mapping;

use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use vfu::Errno;
use vfu::wire::dma::{DmaMap, DmaUnmap};

use super::dirty::{DirtyPages, DirtyReport};
use super::files::{FileError, FilePolicy, Files};
use super::iova::{Iova, IovaRange};
use super::page_table::PageTable;
use super::sigbus::Truncation;
use crate::keep::logs::{KeptMapping, MappingLog};
use crate::keep::{Held, Keep};
pub use mapping::Mapping;

/// Why a mapping, or its end, was refused. The rules are those of the kernel's type1 IOMMU.
#[derive(Debug, thiserror::Error)]
pub enum DmaError {
    /// Past the end of the address space, or of any file.
    #[error("{0:#x}+{1:#x} wraps")]
    Wraps(u64, u64),
    /// Empty, or not a multiple of the page size.
    #[error("{iova:#x}+{size:#x} at {offset:#x} is not a range of whole pages")]
    NotPages {
        /// First address.
        iova: u64,
        /// Bytes.
        size: u64,
        /// Where in the file.
        offset: u64,
    },
    /// Neither readable nor writable.
    #[error("{0:?} is mapped for nothing")]
    NoAccess(IovaRange),
    /// Part of it is mapped already.
    #[error("{0:?} overlaps {1:?}")]
    Overlap(IovaRange, IovaRange),
    /// No mapping is exactly this.
    #[error("{0:?} is not mapped")]
    NotMapped(IovaRange),
    /// A client could make us keep any number.
    #[error("there are {0} mappings already")]
    TooMany(usize),
    /// The mappings are so far from each other that the table of them would take all memory.
    #[error("{0:?} is too far from the other mappings")]
    TooScattered(IovaRange),
    /// Writes are tracked, and the bits would be more than was agreed on.
    #[error("{0:?} is too large for writes to it to be tracked")]
    TooLargeToTrack(IovaRange),
    /// Nobody asked for writes to be tracked.
    #[error("writes are not tracked")]
    NotTracked,
    /// The device did not let go of the memory in time. The session cannot go on.
    #[error("the device still uses {0:?}")]
    StillPinned(IovaRange),
    /// The file that came with it cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
}

impl DmaError {
    /// What the client is told.
    pub fn errno(&self) -> Errno {
        match self {
            Self::Wraps(..) => Errno::OVERFLOW,
            Self::NotPages { .. } | Self::NoAccess(_) | Self::NotTracked => Errno::INVAL,
            Self::Overlap(..) => Errno::EXIST,
            Self::NotMapped(_) => Errno::NOENT,
            Self::TooMany(_) | Self::TooScattered(_) | Self::TooLargeToTrack(_) => Errno::NOSPC,
            Self::StillPinned(_) => Errno::BUSY,
            Self::File(error) => error.errno(),
        }
    }
}

/// What a client may make us keep, and how long it may make us wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaLimits {
    /// Mappings at a time. More than the 65,535 that can be offered, since QEMU keeps to no limit,
    /// and a virtual IOMMU maps page by page.
    pub max_mappings: usize,
    /// Which files are taken as memory.
    pub files: FilePolicy,
    /// How long DMA_UNMAP may take, pins and all. The client waits 5 s for the answer.
    pub unmap: Duration,
    /// How long the client may take to answer DMA_READ and DMA_WRITE.
    pub message: Duration,
}

impl Default for DmaLimits {
    fn default() -> Self {
        Self {
            max_mappings: 1 << 20,
            files: FilePolicy::default(),
            unmap: Duration::from_secs(4),
            message: Duration::from_secs(5),
        }
    }
}

/// The mappings of one client.
#[derive(Debug, Default)]
pub struct DmaTable {
    pages: PageTable,
    /// What the values of `pages` stand for.
    mappings: Vec<Option<Mapping>>,
    /// Places in `mappings` that are free.
    free: Vec<u32>,
    files: Files,
    limits: DmaLimits,
    tracking: Option<Tracking>,
    /// Where mappings are noted, for another process to go on.
    log: Option<MappingLog>,
}

/// While writes are tracked: bytes of bits that may be spent.
#[derive(Clone, Copy, Debug)]
struct Tracking {
    /// For one report.
    max: u64,
    /// For mappings to come.
    left: u64,
}

impl DmaTable {
    /// The page size that is offered, and the unit of every range.
    pub const PAGE_SIZE: u64 = 4096;

    /// An empty table.
    pub fn new(limits: DmaLimits) -> Self {
        Self {
            files: Files::new(limits.files),
            limits,
            ..Self::default()
        }
    }

    /// Has the mappings outlive this process from now on.
    pub(crate) fn kept_by(&mut self, keep: Keep, log: MappingLog) {
        self.files.kept_by(keep);
        self.log = Some(log);
    }

    /// Adds a mapping that another process has left, at its place there. In a table that has none
    /// but such.
    pub(crate) fn restore(
        &mut self,
        left: &KeptMapping,
        file: Option<(OwnedFd, Option<Held>)>,
    ) -> Result<(), DmaError> {
        let (fd, held) = file.unzip();
        self.files.expect_left(held.flatten());
        while self.mappings.len() < left.place {
            self.mappings.push(None);
        }
        self.free.retain(|free| *free as usize != left.place);
        self.free
            .push(u32::try_from(left.place).unwrap_or(u32::MAX));
        if self.mappings.len() == left.place {
            self.mappings.push(None);
        }
        let restored = self.map(&left.map, fd);
        self.files.expect_left(None);
        restored
    }

    /// Makes the places between mappings that were left free for others.
    pub(crate) fn restored(&mut self) {
        let places = (0..).zip(&self.mappings);
        let free = places.filter(|(_, mapping)| mapping.is_none());
        self.free = free.map(|(place, _)| place).collect();
    }

    /// Tells when the client has truncated one of its files.
    pub fn truncation(&self) -> &Arc<Truncation> {
        self.files.truncation()
    }

    /// What a client may make us keep.
    pub fn limits(&self) -> &DmaLimits {
        &self.limits
    }

    /// Adds a mapping.
    pub fn map(&mut self, map: &DmaMap, fd: Option<OwnedFd>) -> Result<(), DmaError> {
        // Without a file its offset says nothing.
        let offset = if fd.is_some() { map.offset } else { 0 };
        let range = whole_pages(map.iova, map.size, offset)?;
        if map.flags.is_empty() {
            return Err(DmaError::NoAccess(range));
        }
        if let Some(other) = self.first_in(range) {
            return Err(DmaError::Overlap(range, other.range));
        }
        if self.len() >= self.limits.max_mappings {
            return Err(DmaError::TooMany(self.len()));
        }
        let dirty_bytes = if fd.is_some() {
            DirtyPages::bytes_for(range)
        } else {
            0
        };
        if self.tracking.is_some_and(|it| it.left < dirty_bytes) {
            return Err(DmaError::TooLargeToTrack(range));
        }
        let memory = fd
            .map(|fd| self.files.slice(&fd, map.offset, map.size, map.flags))
            .transpose()?;
        let place = self.free.last().copied();
        let value = place.unwrap_or(u32::try_from(self.mappings.len()).unwrap_or(u32::MAX));
        self.pages
            .insert(&page_numbers(range), value)
            .map_err(|_| DmaError::TooScattered(range))?;
        if let Some(log) = &self.log {
            let file = memory.as_ref().and_then(|memory| memory.extent.held_id());
            log.set(&KeptMapping {
                place: value as usize,
                map: *map,
                file,
            });
        }
        let mut mapping = Mapping::new(range, map.flags, memory);
        if let Some(tracking) = &mut self.tracking {
            mapping.track();
            tracking.left -= dirty_bytes;
        }
        match place {
            Some(place) => {
                self.free.pop();
                self.mappings[place as usize] = Some(mapping);
            }
            None => self.mappings.push(Some(mapping)),
        }
        Ok(())
    }

    /// The mapping that DMA_UNMAP names: exactly one that was made.
    pub fn exactly(&self, iova: u64, size: u64) -> Result<&Mapping, DmaError> {
        let range = whole_pages(iova, size, 0)?;
        self.find(range.start())
            .filter(|mapping| mapping.range == range)
            .ok_or(DmaError::NotMapped(range))
    }

    /// Takes a mapping away, or all of them, and gives back what was there.
    pub fn unmap(&mut self, unmap: &DmaUnmap) -> Result<Vec<Mapping>, DmaError> {
        match *unmap {
            DmaUnmap::All => {
                if let Some(tracking) = &mut self.tracking {
                    tracking.left = tracking.max;
                }
                if let Some(log) = &self.log {
                    log.clear_all();
                }
                self.pages = PageTable::default();
                self.free.clear();
                Ok(self.mappings.drain(..).flatten().collect())
            }
            DmaUnmap::One { iova, size } => {
                let range = self.exactly(iova, size)?.range;
                let value = self.pages.find(page_number(range.start()));
                self.pages.remove(&page_numbers(range));
                let removed = value.and_then(|value| {
                    if let Some(log) = &self.log {
                        log.clear(value as usize);
                    }
                    self.free.push(value);
                    self.mappings.get_mut(value as usize)?.take()
                });
                if let (Some(tracking), Some(removed)) = (&mut self.tracking, &removed) {
                    tracking.left += removed.dirty_bytes();
                }
                Ok(removed.into_iter().collect())
            }
        }
    }

    /// The mapping that holds an address.
    #[inline]
    pub fn find(&self, address: Iova) -> Option<&Mapping> {
        self.mapping(self.pages.find(page_number(address))?)
    }

    /// The number of the mapping that holds an address, for as long as nothing changes.
    #[inline]
    pub(super) fn number_of(&self, address: Iova) -> Option<u32> {
        self.pages.find(page_number(address))
    }

    /// The mapping with a number that [`Self::number_of`] gave.
    #[inline]
    pub(super) fn mapping(&self, number: u32) -> Option<&Mapping> {
        self.mappings.get(number as usize)?.as_ref()
    }

    /// The mapping that holds all of `range`, if one does.
    pub fn lookup(&self, range: IovaRange) -> Option<&Mapping> {
        self.find(range.start())
            .filter(|mapping| mapping.range.contains(range))
    }

    /// How many mappings there are.
    pub fn len(&self) -> usize {
        self.mappings.len() - self.free.len()
    }

    /// Whether nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every mapping, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Mapping> {
        self.mappings.iter().flatten()
    }

    /// Bytes that the table takes, apart from the memory that it maps.
    pub fn bytes(&self) -> usize {
        self.pages.bytes()
            + self.mappings.capacity() * size_of::<Option<Mapping>>()
            + self.free.capacity() * size_of::<u32>()
    }

    /// Notes from now on which pages the device writes, in at most `max` bytes of bits. Changes
    /// nothing if it does already.
    pub fn start_tracking(&mut self, max: u64) -> Result<(), DmaError> {
        if self.tracking.is_some() {
            return Ok(());
        }
        let mut left = max;
        for mapping in self.iter() {
            left = left
                .checked_sub(mapping.dirty_bytes())
                .ok_or(DmaError::TooLargeToTrack(mapping.range))?;
        }
        for mapping in self.mappings.iter_mut().flatten() {
            mapping.track();
        }
        self.tracking = Some(Tracking { max, left });
        Ok(())
    }

    /// Notes it no longer.
    pub fn stop_tracking(&mut self) {
        self.tracking = None;
        for mapping in self.mappings.iter_mut().flatten() {
            mapping.set_dirty(None);
        }
    }

    /// Which pages of a range were written since they were last asked for, or are pinned for
    /// writing. Memory that is reached by messages is the client's to track: it did the writing.
    pub fn take_dirty(&self, range: IovaRange) -> Result<DirtyReport, DmaError> {
        let tracking = self.tracking.ok_or(DmaError::NotTracked)?;
        if DirtyPages::bytes_for(range) > tracking.max {
            return Err(DmaError::TooLargeToTrack(range));
        }
        let mut report = DirtyReport::new(range);
        for mapping in self.iter().filter(|mapping| mapping.range.overlaps(range)) {
            mapping.take_dirty(range, &mut report);
        }
        Ok(report)
    }

    fn first_in(&self, range: IovaRange) -> Option<&Mapping> {
        self.mapping(self.pages.first_in(&page_numbers(range))?)
    }
}

#[inline]
pub(super) fn page_number(address: Iova) -> u64 {
    address.0 / DmaTable::PAGE_SIZE
}

fn page_numbers(range: IovaRange) -> RangeInclusive<u64> {
    page_number(range.start())..=page_number(range.last())
}

fn whole_pages(iova: u64, size: u64, offset: u64) -> Result<IovaRange, DmaError> {
    for start in [iova, offset] {
        if start.checked_add(size.saturating_sub(1)).is_none() {
            return Err(DmaError::Wraps(start, size));
        }
    }
    let is_aligned = (iova | size | offset).is_multiple_of(DmaTable::PAGE_SIZE);
    IovaRange::new(Iova(iova), size)
        .filter(|_| is_aligned)
        .ok_or(DmaError::NotPages { iova, size, offset })
}

#[cfg(test)]
mod tests;
