//! Guest memory as a device holds it: reads, writes, views, pins. May be cloned into the device's
//! own threads, and used there while the session serves its client, which changes what is mapped by
//! `session`.

mod session;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};

use vfu::Errno;

use super::iova::{Iova, IovaRange};
use super::messages::{Cancelling, MessageError, Messages};
use super::pin::{DeviceIommu, Pin, PinPart};
use super::sync::{TableLock, TableReadGuard};
use super::table::DmaTable;
use super::trust::{Trust, Verdict};
use super::view::{Access, Piece, View};
use crate::host::HostError;

/// Most bytes that are copied before the session may change a mapping again.
const COPY_LEN: usize = 1 << 20;

/// Why guest memory cannot be accessed.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Nothing is mapped there.
    #[error("{0:?} is not mapped")]
    NotMapped(Iova),
    /// The range is empty, or wraps.
    #[error("{len} bytes at {at:?} are not a range")]
    NotARange {
        /// The first address.
        at: Iova,
        /// Bytes.
        len: usize,
    },
    /// The mapping does not allow it.
    #[error("{0:?} is not mapped for {1:?}")]
    Denied(Iova, Access),
    /// The memory can only be copied, by messages: there is nothing to point to.
    #[error("{0:?} can be reached by messages only")]
    NeedsMessages(Iova),
    /// The guest has not allowed the device to master the bus.
    #[error("bus mastering is off")]
    NotBusMaster,
    /// A message to the client did not bring it.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The parent's IOMMU refused a page.
    #[error("the device's IOMMU refused a page")]
    Iommu(#[source] std::io::Error),
}

impl AccessError {
    /// The errno that fits.
    pub fn errno(&self) -> Errno {
        match self {
            Self::NotMapped(_) | Self::NotARange { .. } => Errno::FAULT,
            Self::Denied(..) => Errno::ACCESS,
            Self::NeedsMessages(_) => Errno::OPNOTSUPP,
            Self::NotBusMaster => Errno::PERM,
            Self::Message(error) => error.errno(),
            Self::Iommu(error) => HostError::errno_in(error),
        }
    }
}

/// Guest memory as a device holds it. Clones speak of the same memory.
#[derive(Clone, Debug, Default)]
pub struct GuestMemory {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    table: TableLock<DmaTable>,
    messages: Messages,
    trust: Trust,
    /// Bit 2 of the command register.
    bus_master: AtomicBool,
    iommu: OnceLock<Arc<dyn DeviceIommu>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuestMemory").finish_non_exhaustive()
    }
}

/// What a device does with guest memory.
impl GuestMemory {
    /// Guest memory as it is now. See [`View`] for how long it may be kept.
    ///
    /// If it is not known yet whether the client's files are the guest's memory, the client is
    /// asked first; in the session's own thread, which cannot ask, the view has no slices then.
    pub fn view(&self) -> Result<View<'_>, AccessError> {
        let view = self.look()?;
        if self.shared.trust.verdict() != Verdict::Unknown {
            return Ok(view);
        }
        drop(view);
        self.find_out(None);
        self.look()
    }

    /// A view, without asking anybody.
    fn look(&self) -> Result<View<'_>, AccessError> {
        if !self.shared.bus_master.load(Ordering::Relaxed) {
            return Err(AccessError::NotBusMaster);
        }
        let table = self.table();
        // After the lock: the verdict is on the client whose mappings these are.
        let is_shared = self.shared.trust.verdict() == Verdict::Shared;
        Ok(View::new(table, is_shared))
    }

    fn table(&self) -> TableReadGuard<'_, DmaTable> {
        let table = self.shared.table.read();
        table.unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies out of guest memory, whichever way it is reached.
    ///
    /// Memory that is reached by messages makes this wait for the client, so it fails in the
    /// session's own thread.
    pub fn read(&self, at: Iova, out: &mut [u8]) -> Result<(), AccessError> {
        if out.is_empty() {
            return Ok(());
        }
        let all = range_of(at, out.len())?;
        let mut done = 0;
        while let Some(rest) = all.after(done as u64) {
            done += self.read_some(rest, all, &mut out[done..])?;
        }
        Ok(())
    }

    /// Reads as much of `range` as lies in one mapping, or travels in one message. It is what is
    /// left of `all`: to unmap any of that ends a wait for the client, since whoever unmaps may
    /// wait for the whole access.
    fn read_some(
        &self,
        range: IovaRange,
        all: IovaRange,
        out: &mut [u8],
    ) -> Result<usize, AccessError> {
        let view = self.look()?;
        let piece = view.piece(range, Access::Read)?;
        let len = piece.len.min(out.len()).min(COPY_LEN);
        let out = &mut out[..len];
        if let Some(slice) = piece.slice() {
            return Ok(slice.copy_to(out));
        }
        let is_file = piece.mapping.memory.is_some();
        let permit = self.shared.messages.permit(all);
        drop(view);
        if is_file && self.find_out(Some(range.start())) == Verdict::Shared {
            // The next round copies.
            return Ok(0);
        }
        again_if_changed(self.shared.messages.read(permit, range.start(), out))
    }

    /// Copies parts of guest memory, one after the other, until `out` is full or there are no more: as
    /// [`Self::read`] for each, and faster where they are many and small.
    pub fn gather(
        &self,
        parts: impl IntoIterator<Item = (Iova, usize)>,
        mut out: &mut [u8],
    ) -> Result<(), AccessError> {
        let mut view = None;
        let mut copied = 0;
        for (at, len) in parts {
            let (part, rest) = out.split_at_mut(len.min(out.len()));
            out = rest;
            if part.is_empty() {
                continue;
            }
            // A view is held for as much as any access is.
            copied += part.len();
            if copied > COPY_LEN {
                copied = part.len();
                view = None;
            }
            let looked = match view.take() {
                Some(looked) => looked,
                None => self.look()?,
            };
            if copied <= COPY_LEN && copy_at_once(&looked, at, part) {
                view = Some(looked);
                continue;
            }
            // It may wait, and whoever else has a view must not.
            drop(looked);
            self.read(at, part)?;
        }
        Ok(())
    }

    /// Copies into guest memory, whichever way it is reached. What is not allowed is found out
    /// before the first byte is written.
    pub fn write(&self, at: Iova, data: &[u8]) -> Result<(), AccessError> {
        if data.is_empty() {
            return Ok(());
        }
        let all = range_of(at, data.len())?;
        self.look()?.check(all, Access::Write)?;
        let mut done = 0;
        while let Some(rest) = all.after(done as u64) {
            done += self.write_some(rest, all, &data[done..])?;
        }
        Ok(())
    }

    /// Writes as [`Self::read_some`] reads.
    fn write_some(
        &self,
        range: IovaRange,
        all: IovaRange,
        data: &[u8],
    ) -> Result<usize, AccessError> {
        let view = self.look()?;
        let piece = view.piece(range, Access::Write)?;
        let len = piece.len.min(data.len()).min(COPY_LEN);
        let data = &data[..len];
        if let Some(slice) = piece.slice() {
            slice.copy_from(data);
            return Ok(len);
        }
        let is_file = piece.mapping.memory.is_some();
        let permit = self.shared.messages.permit(all);
        drop(view);
        if is_file && self.find_out(Some(range.start())) == Verdict::Shared {
            return Ok(0);
        }
        again_if_changed(self.shared.messages.write(permit, range.start(), data))
    }

    /// Holds a range for the device: all of it, or, on error, nothing.
    ///
    /// Memory that is reached by messages cannot be pinned; a device that meets
    /// [`AccessError::NeedsMessages`] copies instead.
    pub fn pin(&self, range: IovaRange, access: Access) -> Result<Pin, AccessError> {
        let mut view = self.look()?;
        if self.shared.trust.verdict() == Verdict::Unknown {
            // What cannot be is said before the client is asked.
            view.check(range, access)?;
            drop(view);
            self.find_out(Some(range.start()));
            view = self.look()?;
        }
        let mut parts = view
            .pieces(range, access)
            .map(|piece| pin_part(&piece?, access));
        let first = parts
            .next()
            .ok_or(AccessError::NotMapped(range.start()))??;
        let rest = parts.collect::<Result<Vec<_>, _>>()?;
        Pin::hold(first, rest, self.shared.iommu.get()).map_err(AccessError::Iommu)
        // The view ends here: DMA_UNMAP, which waits for it, finds the pin counted.
    }

    /// Ends every wait for the client's messages, and lets none begin until the guard is dropped:
    /// for a device that waits, on the session's thread, for its own threads. Whoever waited is
    /// told [`MessageError::Cancelled`].
    pub fn cancel_waits(&self) -> CancelledWaits<'_> {
        CancelledWaits {
            _cancelling: self.shared.messages.cancel(IovaRange::EVERYTHING),
        }
    }

    /// Whether the client's files are the guest's memory, found out if need be.
    fn find_out(&self, near: Option<Iova>) -> Verdict {
        let shared = &self.shared;
        shared
            .trust
            .find_out(&shared.messages, near, || self.table())
    }
}

/// While it lives, nobody waits for the client's messages.
#[derive(Debug)]
#[must_use = "waits begin again when it is dropped"]
pub struct CancelledWaits<'a> {
    _cancelling: Cancelling<'a>,
}

/// Copies what lies in one mapping that can be pointed to. `false`, and nothing is done, if it does
/// not.
fn copy_at_once(view: &View<'_>, at: Iova, out: &mut [u8]) -> bool {
    let range = IovaRange::new(at, out.len() as u64);
    let piece = range.and_then(|range| view.piece(range, Access::Read).ok());
    let whole = piece.filter(|piece| piece.len == out.len());
    let Some(slice) = whole.and_then(|piece| piece.slice()) else {
        return false;
    };
    slice.copy_to(out);
    true
}

/// Nothing was done if mappings have changed: the next round looks them up again.
fn again_if_changed(done: Result<usize, MessageError>) -> Result<usize, AccessError> {
    match done {
        Err(MessageError::Changed) => Ok(0),
        done => Ok(done?),
    }
}

fn range_of(at: Iova, len: usize) -> Result<IovaRange, AccessError> {
    IovaRange::new(at, len as u64).ok_or(AccessError::NotARange { at, len })
}

fn pin_part(piece: &Piece<'_>, access: Access) -> Result<PinPart, AccessError> {
    let mut memory = piece
        .memory()
        .cloned()
        .ok_or(AccessError::NeedsMessages(piece.start))?;
    memory.position += usize::try_from(piece.offset).unwrap_or(usize::MAX);
    Ok(PinPart {
        memory,
        start: piece.start,
        len: piece.len,
        write: access == Access::Write,
        count: Arc::clone(piece.mapping.pin_count()),
    })
}
