//! What a session does with guest memory: maps and unmaps it, as its client says.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use vfu::Errno;
use vfu::wire::dma::{DmaFlags, DmaMap, DmaUnmap};

use super::GuestMemory;
use crate::device::MediatedDevice;
use crate::dma::dirty::DirtyReport;
use crate::dma::iova::IovaRange;
use crate::dma::messages::Messages;
use crate::dma::pin::DeviceIommu;
use crate::dma::sigbus::Truncation;
use crate::dma::table::{DmaError, DmaLimits, DmaTable};
use crate::dma::trust::Trust;
use crate::keep::Keep;
use crate::keep::logs::{KeptMapping, MappingLog};
use crate::region_memory::RegionMemory;

impl GuestMemory {
    /// Memory that belongs to no session: its files are believed, and bus mastering is on. For
    /// tests and benches of what stands on it.
    pub fn standing_alone(limits: DmaLimits) -> Self {
        let memory = Self::default();
        let _ = memory.connect(limits);
        memory.shared.trust.connect(false);
        memory.set_bus_master(true);
        memory
    }

    /// Memory that is a file of this process's own, from its start at `range`: for what a physical device
    /// is to reach besides a guest's.
    pub fn of_file(
        file: &RegionMemory,
        range: IovaRange,
        limits: DmaLimits,
    ) -> std::io::Result<Self> {
        let map = DmaMap {
            flags: DmaFlags::READ | DmaFlags::WRITE,
            offset: 0,
            iova: range.start().0,
            size: range.len().unwrap_or(u64::MAX),
        };
        let memory = Self::standing_alone(limits);
        let fd = file.file().try_clone()?;
        memory.map(&map, Some(fd)).map_err(std::io::Error::other)?;
        Ok(memory)
    }

    /// Has pinned pages made known to a physical device. Once, before anything is pinned.
    pub fn set_device_iommu(&self, iommu: Arc<dyn DeviceIommu>) -> Result<(), Errno> {
        self.shared.iommu.set(iommu).map_err(|_| Errno::BUSY)
    }

    /// How the client is asked for memory that it gave no file for.
    pub(crate) fn messages(&self) -> &Messages {
        &self.shared.messages
    }

    /// Whether the client's files are believed.
    pub(crate) fn trust(&self) -> &Trust {
        &self.shared.trust
    }

    /// Begins with an empty table for a new client. What is given back tells when the client
    /// truncates its memory.
    pub(crate) fn connect(&self, limits: DmaLimits) -> Arc<Truncation> {
        self.change(|table| {
            *table = DmaTable::new(limits);
            Arc::clone(table.truncation())
        })
    }

    /// Has the mappings outlive this process from now on.
    pub(crate) fn kept_by(&self, keep: &Keep, log: &MappingLog) {
        self.change(|table| table.kept_by(keep.clone(), log.clone()));
    }

    /// Maps what another process has left. What it has no file for any more can be reached by
    /// messages.
    pub(crate) fn restore(&self, keep: &Keep, left: &[KeptMapping]) -> Result<(), DmaError> {
        self.change(|table| {
            let mut files: HashMap<u32, OwnedFd> = HashMap::new();
            for mapping in left {
                let file = mapping.file.and_then(|id| match files.get(&id) {
                    Some(fd) => Some((fd.try_clone().ok()?, None)),
                    None => {
                        let (fd, held) = keep.claim(id)?;
                        files.insert(id, fd.try_clone().ok()?);
                        Some((fd, Some(held)))
                    }
                });
                table.restore(mapping, file)?;
            }
            table.restored();
            Ok(())
        })
    }

    /// Forgets the client. What is still pinned stays mapped until it is let go.
    pub(crate) fn disconnect(&self) {
        self.shared.bus_master.store(false, Ordering::Relaxed);
        self.shared.messages.disconnect();
        let left = self.change(std::mem::take);
        // Without the lock: to unmap files takes time.
        drop(left);
    }

    /// Follows bit 2 of the command register. Whether that is another than before.
    pub(crate) fn set_bus_master(&self, allowed: bool) -> bool {
        self.shared.bus_master.swap(allowed, Ordering::Relaxed) != allowed
    }

    /// Whether there is this mapping.
    pub(crate) fn is_mapped(&self, map: &DmaMap) -> bool {
        let table = self.table();
        let found = table.exactly(map.iova, map.size);
        found.is_ok_and(|mapping| mapping.flags == map.flags)
    }

    /// DMA_MAP.
    pub fn map(&self, map: &DmaMap, fd: Option<OwnedFd>) -> Result<(), DmaError> {
        self.change(|table| table.map(map, fd))
    }

    /// DMA_UNMAP: when it returns well, the device uses none of the memory any more.
    pub fn unmap(&self, unmap: &DmaUnmap, device: &mut dyn MediatedDevice) -> Result<(), DmaError> {
        let start = Instant::now();
        let ranges = self.ranges(unmap)?;
        let everything = match unmap {
            DmaUnmap::All => Some(IovaRange::EVERYTHING),
            DmaUnmap::One { .. } => ranges.first().copied(),
        };
        // The client answers no message while it waits for us.
        let cancelling = everything.map(|range| self.shared.messages.cancel(range));
        for range in &ranges {
            device.dma_unmap(*range);
        }
        // Nobody who finds the mapping from here on; and whoever is in the middle of an access
        // has left when the lock is taken.
        let (removed, limit) = self.change(|table| (table.unmap(unmap), table.limits().unmap));
        drop(cancelling);
        let deadline = start + limit;
        for mapping in &removed? {
            let pins = mapping.pins.get();
            let is_let_go = pins.is_none_or(|pins| pins.wait_until_none(deadline));
            // The client must not get an answer that it no longer waits for.
            if !is_let_go || Instant::now() > deadline {
                return Err(DmaError::StillPinned(mapping.range));
            }
        }
        Ok(())
    }

    /// What is about to be unmapped, and must be let go of.
    fn ranges(&self, unmap: &DmaUnmap) -> Result<Vec<IovaRange>, DmaError> {
        let table = self.table();
        match *unmap {
            DmaUnmap::One { iova, size } => Ok(vec![table.exactly(iova, size)?.range]),
            DmaUnmap::All => Ok(table.iter().map(|mapping| mapping.range).collect()),
        }
    }

    /// How many mappings there are, and how many of their pages are pinned.
    pub fn counts(&self) -> (usize, usize) {
        let table = self.table();
        let pins = table.iter().filter_map(|mapping| mapping.pins.get());
        (table.len(), pins.map(|pins| pins.pages()).sum())
    }

    /// See [`DmaTable::start_tracking`].
    pub fn start_tracking(&self, max_bytes: u64) -> Result<(), DmaError> {
        self.change(|table| table.start_tracking(max_bytes))
    }

    /// See [`DmaTable::stop_tracking`].
    pub fn stop_tracking(&self) {
        self.change(DmaTable::stop_tracking);
    }

    /// See [`DmaTable::take_dirty`].
    pub fn take_dirty(&self, range: IovaRange) -> Result<DirtyReport, DmaError> {
        self.table().take_dirty(range)
    }

    fn change<R>(&self, change: impl FnOnce(&mut DmaTable) -> R) -> R {
        let mut table = self
            .shared
            .table
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        change(&mut table)
    }
}
