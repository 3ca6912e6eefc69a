//! The database of a client's mappings: IOVA to memory.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use vfu::Errno;
use vfu::wire::dma::{DmaFlags, DmaMap, DmaUnmap};

use super::iova::{Iova, IovaRange};
use super::memory::{FileError, Files, Slice};

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
    /// The file that came with it cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
}

impl DmaError {
    /// What the client is told.
    pub fn errno(&self) -> Errno {
        match self {
            Self::Wraps(..) => Errno::OVERFLOW,
            Self::NotPages { .. } | Self::NoAccess(_) => Errno::INVAL,
            Self::Overlap(..) => Errno::EXIST,
            Self::NotMapped(_) => Errno::NOENT,
            Self::TooMany(_) => Errno::NOSPC,
            Self::File(error) => error.errno(),
        }
    }
}

/// One mapping.
#[derive(Debug)]
pub struct Mapping {
    /// Where the device sees it.
    pub range: IovaRange,
    /// What the device may do.
    pub flags: DmaFlags,
    /// The memory; `None` if it came without a file, and is reached by messages only.
    pub memory: Option<Slice>,
}

/// The mappings of one client.
#[derive(Debug)]
pub struct DmaTable {
    by_start: BTreeMap<Iova, Mapping>,
    files: Files,
    max_mappings: usize,
}

impl Default for DmaTable {
    fn default() -> Self {
        Self::with_room_for(Self::MAX_MAPPINGS)
    }
}

impl DmaTable {
    /// The page size that is offered, and the unit of every range.
    pub const PAGE_SIZE: u64 = 4096;
    /// Most mappings at a time: some 100 MiB of ours. More than the 65,535 that are offered, since
    /// QEMU keeps to no limit, and a virtual IOMMU maps page by page.
    const MAX_MAPPINGS: usize = 1 << 20;

    fn with_room_for(max_mappings: usize) -> Self {
        Self {
            by_start: BTreeMap::new(),
            files: Files::default(),
            max_mappings,
        }
    }

    /// Adds a mapping.
    pub fn map(&mut self, map: &DmaMap, fd: Option<OwnedFd>) -> Result<(), DmaError> {
        // Without a file its offset says nothing.
        let offset = if fd.is_some() { map.offset } else { 0 };
        let range = whole_pages(map.iova, map.size, offset)?;
        if map.flags.is_empty() {
            return Err(DmaError::NoAccess(range));
        }
        if self.by_start.len() >= self.max_mappings {
            return Err(DmaError::TooMany(self.by_start.len()));
        }
        if let Some(other) = self.last_before(range.last())
            && other.range.overlaps(range)
        {
            return Err(DmaError::Overlap(range, other.range));
        }
        let memory = fd
            .map(|fd| self.files.slice(&fd, map.offset, map.size, map.flags))
            .transpose()?;
        let mapping = Mapping {
            range,
            flags: map.flags,
            memory,
        };
        self.by_start.insert(range.start(), mapping);
        Ok(())
    }

    /// Takes a mapping away, or all of them.
    pub fn unmap(&mut self, unmap: &DmaUnmap) -> Result<(), DmaError> {
        match *unmap {
            DmaUnmap::All => self.by_start.clear(),
            DmaUnmap::One { iova, size } => {
                let range = whole_pages(iova, size, 0)?;
                let exact = self
                    .by_start
                    .get(&range.start())
                    .is_some_and(|mapping| mapping.range == range);
                if !exact {
                    return Err(DmaError::NotMapped(range));
                }
                self.by_start.remove(&range.start());
            }
        }
        Ok(())
    }

    /// The mapping that holds all of `range`, if one does.
    pub fn lookup(&self, range: IovaRange) -> Option<&Mapping> {
        self.last_before(range.start())
            .filter(|mapping| mapping.range.contains(range))
    }

    /// How many mappings there are.
    pub fn len(&self) -> usize {
        self.by_start.len()
    }

    /// Whether nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.by_start.is_empty()
    }

    /// The last mapping that starts at `address` or before.
    fn last_before(&self, address: Iova) -> Option<&Mapping> {
        self.by_start
            .range(..=address)
            .next_back()
            .map(|(_, mapping)| mapping)
    }
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
