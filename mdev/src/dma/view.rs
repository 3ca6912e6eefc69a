//! Guest memory as it is at one moment: translation, and access without another lock.
//!
//! The session waits for views before it changes a mapping, so a view is for a batch of accesses,
//! and never held over anything that waits: another view, a read, write or pin of the same memory
//! may wait for the session. It has the traits of `vm-memory`: virtio queues, and every typed read
//! and write of [`vm_memory::Bytes`], run on it.

use std::cell::Cell;
use std::iter::FusedIterator;

use vfu::wire::dma::DmaFlags;
use vm_memory::guest_memory::GuestMemorySliceIterator;
use vm_memory::{
    GuestAddress, GuestMemoryError, GuestMemoryRegion, GuestMemoryRegionBytes,
    GuestRegionCollection, Permissions, VolatileSlice,
};

use super::dirty::{DirtyPages, DirtySlice};
use super::files::Slice;
use super::guest_memory::AccessError;
use super::iova::{Iova, IovaRange};
use super::sync::TableReadGuard;
use super::table::{DmaTable, Mapping};

/// Guest memory as it is at one moment.
#[derive(Debug)]
pub struct View<'a> {
    table: TableReadGuard<'a, DmaTable>,
    /// Whether the client's files are known to be the guest's memory. Until then there is nothing
    /// to point to.
    is_shared: bool,
    /// The mapping that the last address lay in: the next one mostly does too.
    last: Cell<u32>,
}

/// What a device wants to do with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only read it.
    Read,
    /// Write it, and perhaps read it.
    Write,
}

impl Access {
    fn needs(self) -> DmaFlags {
        match self {
            Self::Read => DmaFlags::READ,
            Self::Write => DmaFlags::WRITE,
        }
    }
}

/// The part of a range that one mapping holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    pub(super) mapping: &'a Mapping,
    is_shared: bool,
    /// Bytes from the mapping's first.
    pub(super) offset: u64,
    pub(super) start: Iova,
    pub(super) len: usize,
}

impl<'a> Piece<'a> {
    /// What holds the memory; `None` if it is reached by messages.
    pub(super) fn memory(&self) -> Option<&'a Slice> {
        self.mapping.memory.as_ref().filter(|_| self.is_shared)
    }

    /// The memory; `None` if it is reached by messages.
    pub(super) fn slice(&self) -> Option<VolatileSlice<'a, DirtySlice<'a>>> {
        let memory = self.memory()?;
        let offset = usize::try_from(self.offset).ok()?;
        let dirty = DirtySlice::new(self.mapping.dirty.as_deref(), offset);
        memory
            .extent
            .slice_tracked(memory.position + offset, self.len, dirty)
    }
}

impl<'a> View<'a> {
    pub(super) fn new(table: TableReadGuard<'a, DmaTable>, is_shared: bool) -> Self {
        Self {
            table,
            is_shared,
            last: Cell::new(u32::MAX),
        }
    }

    /// The mapping that holds an address.
    #[inline]
    pub fn translate(&self, address: Iova) -> Option<&Mapping> {
        if let Some(mapping) = self.table.mapping(self.last.get())
            && mapping.range.start() <= address
            && address <= mapping.range.last()
        {
            return Some(mapping);
        }
        let number = self.table.number_of(address)?;
        self.last.set(number);
        self.table.mapping(number)
    }

    /// The first part of a range, as far as one mapping holds it and allows the access.
    pub(super) fn piece(&self, range: IovaRange, access: Access) -> Result<Piece<'_>, AccessError> {
        let start = range.start();
        let mapping = self.translate(start).ok_or(AccessError::NotMapped(start))?;
        if !mapping.flags.contains(access.needs()) {
            return Err(AccessError::Denied(start, access));
        }
        let last = range.last().min(mapping.range.last());
        Ok(Piece {
            mapping,
            is_shared: self.is_shared,
            offset: start.0 - mapping.range.start().0,
            start,
            // A piece as long as the address space has no slice.
            len: usize::try_from((last.0 - start.0).saturating_add(1)).unwrap_or(usize::MAX),
        })
    }

    /// The parts of a range, one for each mapping it lies in. An error is the last item.
    pub(super) fn pieces(
        &self,
        range: IovaRange,
        access: Access,
    ) -> impl Iterator<Item = Result<Piece<'_>, AccessError>> {
        let mut rest = Some(range);
        std::iter::from_fn(move || {
            let range = rest.take()?;
            let piece = self.piece(range, access);
            if let Ok(piece) = &piece {
                rest = range.after(piece.len as u64);
            }
            Some(piece)
        })
    }

    /// Whether all of a range may be accessed so.
    pub fn check(&self, range: IovaRange, access: Access) -> Result<(), AccessError> {
        self.pieces(range, access)
            .try_for_each(|piece| piece.map(drop))
    }

    /// The memory of a range, one slice for each mapping it lies in: a scatter list. Writing
    /// through the slices marks their pages, if writes are tracked.
    pub fn slices(
        &self,
        range: IovaRange,
        access: Access,
    ) -> impl Iterator<Item = Result<VolatileSlice<'_, DirtySlice<'_>>, AccessError>> {
        self.pieces(range, access).map(|piece| {
            let piece = piece?;
            piece.slice().ok_or(AccessError::NeedsMessages(piece.start))
        })
    }

    /// The database itself.
    pub fn table(&self) -> &DmaTable {
        &self.table
    }
}

/// The slices of a [`View`], as `vm-memory` wants them.
struct Slices<I>(I);

impl<'a, I> Iterator for Slices<I>
where
    I: Iterator<Item = Result<VolatileSlice<'a, DirtySlice<'a>>, AccessError>>,
{
    type Item = Result<VolatileSlice<'a, DirtySlice<'a>>, GuestMemoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        let slice = self.0.next()?;
        Some(slice.map_err(|error| GuestMemoryError::IOError(std::io::Error::other(error))))
    }
}

impl<'a, I> FusedIterator for Slices<I> where
    I: FusedIterator<Item = Result<VolatileSlice<'a, DirtySlice<'a>>, AccessError>>
{
}

impl<'a, I> GuestMemorySliceIterator<'a, DirtySlice<'a>> for Slices<I> where
    I: FusedIterator<Item = Result<VolatileSlice<'a, DirtySlice<'a>>, AccessError>>
{
}

impl vm_memory::GuestMemory for View<'_> {
    /// There is none: addresses are translated, and the memory behind them is a client's.
    type PhysicalMemory = GuestRegionCollection<NoRegion>;
    type Bitmap = DirtyPages;

    fn check_range(&self, address: GuestAddress, count: usize, access: Permissions) -> bool {
        match IovaRange::new(Iova(address.0), count as u64) {
            Some(range) => wanted(access).is_none_or(|access| self.check(range, access).is_ok()),
            None => count == 0,
        }
    }

    fn get_slices<'a>(
        &'a self,
        address: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Result<impl GuestMemorySliceIterator<'a, DirtySlice<'a>>, GuestMemoryError> {
        let range = IovaRange::new(Iova(address.0), count as u64);
        if range.is_none() && count > 0 {
            return Err(GuestMemoryError::InvalidGuestAddress(address));
        }
        let access = wanted(access).unwrap_or(Access::Read);
        let slices = range
            .into_iter()
            .flat_map(move |range| self.slices(range, access));
        Ok(Slices(slices.fuse()))
    }
}

/// `vm-memory`'s permissions as ours; `None` if nothing is wanted.
fn wanted(access: Permissions) -> Option<Access> {
    match access {
        Permissions::No => None,
        Permissions::Read => Some(Access::Read),
        Permissions::Write | Permissions::ReadWrite => Some(Access::Write),
    }
}

/// The region that [`View`] does not have.
#[derive(Debug)]
pub enum NoRegion {}

impl GuestMemoryRegion for NoRegion {
    type B = ();

    fn len(&self) -> u64 {
        match *self {}
    }

    fn start_addr(&self) -> GuestAddress {
        match *self {}
    }

    fn bitmap(&self) {}
}

impl GuestMemoryRegionBytes for NoRegion {}
