//! Region requests: what there is, reading and writing it.

use std::os::fd::AsFd;

use vfu::Errno;
use vfu::server::{Reply, ServerError};
use vfu::wire::Request;
use vfu::wire::access::{RegionAccess, WriteMulti};
use vfu::wire::io_fds::RegionIoFdsRequest;
use vfu::wire::region::{RegionFlags, RegionInfo, RegionInfoRequest};

use super::handler::Handler;
use crate::device::{Fault, Reset};
use crate::pci::ConfigEvents;
use crate::region::{Access, RegionIndex};

/// Nothing but configuration space answers while the state of a device is not to change.
const STOPPED: Fault = Fault("the device is stopped for migration");

/// A question about a region that there is not.
#[derive(Debug, thiserror::Error)]
#[error("there is no region {0}")]
struct NoRegion(u32);

/// An access to something that is not there.
#[derive(Debug, thiserror::Error)]
#[error("{count} bytes at {offset:#x} are not in region {region}")]
struct OutOfRegion {
    region: u32,
    offset: u64,
    count: u32,
}

impl From<RegionAccess> for OutOfRegion {
    fn from(access: RegionAccess) -> Self {
        Self {
            region: access.region,
            offset: access.offset,
            count: access.count,
        }
    }
}

impl Handler<'_> {
    pub(super) fn region_info(
        &mut self,
        request: RegionInfoRequest,
        reply: Reply<'_>,
    ) -> Result<(), ServerError> {
        let Some(index) = RegionIndex::from_u32(request.index) else {
            return self.refuse(reply, &NoRegion(request.index), Errno::INVAL);
        };
        let region = self.device.regions().region(index);
        let mut info = RegionInfo {
            flags: RegionFlags::empty(),
            index: request.index,
            size: region.size,
            offset: region.access.file_offset(),
            sparse: Vec::new(),
        };
        if region.size > 0 {
            info.flags |= RegionFlags::READ;
            info.flags
                .set(RegionFlags::WRITE, index != RegionIndex::Rom);
        }
        // The file comes with the short form too: a client may trust the MMAP flag at once.
        let fd = region.access.file();
        if let Access::Sparse { areas, .. } = &region.access {
            info.sparse.clone_from(areas);
        }
        info.flags.set(RegionFlags::MMAP, fd.is_some());
        let fds: Vec<_> = fd.map(AsFd::as_fd).into_iter().collect();
        reply.with_fds(&fds, |out| info.emit(request.argsz, out))
    }

    /// Without room for all of it the fixed part goes alone, and no descriptor.
    pub(super) fn region_io_fds(
        &mut self,
        request: RegionIoFdsRequest,
        reply: Reply<'_>,
    ) -> Result<(), ServerError> {
        let Some(index) = RegionIndex::from_u32(request.index) else {
            return self.refuse(reply, &NoRegion(request.index), Errno::INVAL);
        };
        let known = self.doorbells.len();
        if let Err(errno) = self.doorbells.make(self.device.regions(), index) {
            return self.refuse(reply, &errno, errno);
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.hold_doorbells(self.doorbells, known);
        }
        let described = self.doorbells.describe(index);
        let bells = self.doorbells.of(index).map(AsFd::as_fd);
        let fds: Vec<_> = bells.filter(|_| described.fits(request.argsz)).collect();
        reply.with_fds(&fds, |out| described.emit(request.argsz, out))
    }

    /// A doorbell rang: the register behind it is written, as by a message.
    pub(super) fn ring(&mut self, number: usize) {
        let Some(bell) = self.doorbells.get(number) else {
            return;
        };
        let (region, offset, data) = (bell.region, bell.doorbell.offset, bell.data());
        self.write(region, offset, &data);
    }

    pub(super) fn region_read(
        &mut self,
        access: RegionAccess,
        reply: Reply<'_>,
    ) -> Result<(), ServerError> {
        let Some(index) = self.locate(access) else {
            return self.refuse(reply, &OutOfRegion::from(access), Errno::INVAL);
        };
        let metrics = &self.around.metrics;
        metrics.region_reads.add(1);
        metrics.region_read_bytes.add(access.count.into());
        reply.with(|out| {
            access.emit(out);
            let data_at = out.len();
            out.resize(data_at + access.count as usize, 0);
            self.read(index, access.offset, &mut out[data_at..]);
        })
    }

    pub(super) fn region_write(
        &mut self,
        access: RegionAccess,
        data: &[u8],
        reply: Reply<'_>,
    ) -> Result<(), ServerError> {
        let Some(index) = self.locate(access) else {
            return self.refuse(reply, &OutOfRegion::from(access), Errno::INVAL);
        };
        self.write(index, access.offset, data);
        reply.with(|out| access.emit(out))
    }

    /// Writes all, or, if one of them is not in a region, none.
    pub(super) fn region_write_multi(
        &mut self,
        multi: WriteMulti<'_>,
        reply: Reply<'_>,
    ) -> Result<(), ServerError> {
        if let Some((stray, _)) = multi
            .writes()
            .find(|(access, _)| self.locate(*access).is_none())
        {
            return self.refuse(reply, &OutOfRegion::from(stray), Errno::INVAL);
        }
        for (access, data) in multi.writes() {
            if let Some(index) = self.locate(access) {
                self.write(index, access.offset, data);
            }
        }
        reply.with(|out| out.extend((multi.len() as u64).to_ne_bytes()))
    }

    /// Does a request once more that was answered by another process, and is not in the state that
    /// it noted last. Mappings and interrupts are: they are noted as they change.
    pub(super) fn replay(&mut self, request: &Request<'_>) {
        match request {
            Request::RegionRead(access) => {
                if let Some(index) = self.locate(*access) {
                    let mut data = vec![0; access.count as usize];
                    self.read(index, access.offset, &mut data);
                }
            }
            Request::RegionWrite(access, data) => {
                if let Some(index) = self.locate(*access) {
                    self.write(index, access.offset, data);
                }
            }
            Request::RegionWriteMulti(multi) => {
                let writes: Vec<_> = multi.writes().collect();
                if writes
                    .iter()
                    .all(|(access, _)| self.locate(*access).is_some())
                {
                    for (access, data) in writes {
                        if let Some(index) = self.locate(access) {
                            self.write(index, access.offset, data);
                        }
                    }
                }
            }
            Request::DeviceReset => self.reset(Reset::Device),
            _ => {}
        }
    }

    /// The region that holds all of an access.
    fn locate(&self, access: RegionAccess) -> Option<RegionIndex> {
        let index = RegionIndex::from_u32(access.region)?;
        let end = access.offset.checked_add(u64::from(access.count))?;
        (end <= self.device.regions().region(index).size).then_some(index)
    }

    fn read(&mut self, index: RegionIndex, offset: u64, data: &mut [u8]) {
        if data.is_empty() {
            return;
        }
        if index == RegionIndex::Config {
            self.device.read_config(offset, data);
            return;
        }
        let read = match self.migrator.is_stopped() {
            true => Err(STOPPED),
            false => self.device.read(index, offset, data),
        };
        if let Err(fault) = read {
            data.fill(0xff);
            self.count_fault(index, offset, fault);
        }
    }

    fn write(&mut self, index: RegionIndex, offset: u64, data: &[u8]) {
        let metrics = &self.around.metrics;
        metrics.region_writes.add(1);
        metrics.region_write_bytes.add(data.len() as u64);
        match index {
            _ if data.is_empty() => {}
            RegionIndex::Config => self.write_config(offset, data),
            // What is read-only stays as it is, as on a real bus.
            RegionIndex::Rom => {}
            _ => {
                let written = match self.migrator.is_stopped() {
                    true => Err(STOPPED),
                    false => self.device.write(index, offset, data),
                };
                if let Err(fault) = written {
                    self.count_fault(index, offset, fault);
                }
            }
        }
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        self.config_changed();
        let events = self.device.write_config(offset, data);
        if events.contains(ConfigEvents::FUNCTION_RESET) {
            self.reset(Reset::Function);
        } else if events.contains(ConfigEvents::COMMAND_CHANGED) {
            self.follow_command_register();
        }
    }

    fn count_fault(&self, index: RegionIndex, offset: u64, fault: Fault) {
        self.around.metrics.faults.add(1);
        tracing::debug!(?index, offset, "fault: {fault}");
    }
}
