//! Guest memory as a whole, without a socket.

mod access;
mod dirty;
mod files;
mod model;
mod pins;
mod runs;
mod virtio;

use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vfu::Errno;
use vfu::wire::dma::{DmaFlags, DmaMap, DmaUnmap};

use super::*;
use crate::device::{Fault, MediatedDevice, Reset};
use crate::fake::FakeDevice;
use crate::irq::Interrupts;
use crate::pci::ConfigSpace;
use crate::region::{RegionIndex, Regions};

const PAGE: u64 = DmaTable::PAGE_SIZE;
const BOTH: DmaFlags = DmaFlags::READ.union(DmaFlags::WRITE);

/// Of a client whose files are believed, with bus mastering on.
fn connected(limits: DmaLimits) -> GuestMemory {
    let memory = GuestMemory::default();
    memory.connect(limits);
    memory.trust().connect(false);
    memory.set_bus_master(true);
    memory
}

fn memfd(pages: u64) -> OwnedFd {
    let fd = memfd_create("guest", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&fd, pages * PAGE).unwrap();
    fd
}

/// Maps pages; of the file, if there is one, from a page on.
fn map(
    memory: &GuestMemory,
    pages: std::ops::Range<u64>,
    flags: DmaFlags,
    file: Option<(&OwnedFd, u64)>,
) -> Result<(), Errno> {
    let request = DmaMap {
        flags,
        offset: file.map_or(0, |(_, page)| page * PAGE),
        iova: pages.start * PAGE,
        size: (pages.end - pages.start) * PAGE,
    };
    let fd = file.map(|(fd, _)| fd.try_clone().unwrap());
    memory.map(&request, fd).map_err(|error| error.errno())
}

fn one(pages: std::ops::Range<u64>) -> DmaUnmap {
    DmaUnmap::One {
        iova: pages.start * PAGE,
        size: (pages.end - pages.start) * PAGE,
    }
}

fn range(start: u64, len: u64) -> IovaRange {
    IovaRange::new(Iova(start), len).unwrap()
}

/// A device that does something when memory is about to leave.
struct Device<F> {
    inner: FakeDevice,
    on_unmap: F,
}

impl<F: FnMut(IovaRange) + Send> Device<F> {
    fn new(on_unmap: F) -> Self {
        let (inner, _) = FakeDevice::new(Interrupts::default()).unwrap();
        Self { inner, on_unmap }
    }
}

impl<F: FnMut(IovaRange) + Send> MediatedDevice for Device<F> {
    fn config(&mut self) -> &mut ConfigSpace {
        self.inner.config()
    }

    fn regions(&self) -> &Regions {
        self.inner.regions()
    }

    fn read(&mut self, region: RegionIndex, offset: u64, data: &mut [u8]) -> Result<(), Fault> {
        self.inner.read(region, offset, data)
    }

    fn write(&mut self, region: RegionIndex, offset: u64, data: &[u8]) -> Result<(), Fault> {
        self.inner.write(region, offset, data)
    }

    fn reset(&mut self, cause: Reset) {
        self.inner.reset(cause);
    }

    fn dma_unmap(&mut self, range: IovaRange) {
        (self.on_unmap)(range);
    }
}
