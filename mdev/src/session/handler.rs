//! Serving one request: what is asked of the device, of its interrupts and of the DMA table.

use std::os::fd::OwnedFd;

use vfu::Errno;
use vfu::server::{Reply, ServerError};
use vfu::wire::device::{DeviceFlags, DeviceInfo};
use vfu::wire::dma::{DmaMap, DmaUnmap};
use vfu::wire::irq::{IrqFlags, IrqInfo, SetIrqs};
use vfu::wire::{Malformed, Request};

use super::doorbells::Doorbells;
use super::recorder::Recorder;
use super::{SessionError, Surroundings};
use crate::device::{MediatedDevice, Reset};
use crate::dma::{DmaError, IovaRange};
use crate::irq::{IrqError, IrqIndex};
use crate::mailbox::{Call, Mailbox};
use crate::migration::migrator::Migrator;
use crate::pci::Command;
use crate::region::RegionIndex;

/// What a request may touch.
pub(super) struct Handler<'a> {
    pub(super) device: &'a mut dyn MediatedDevice,
    pub(super) mailbox: &'a Mailbox,
    pub(super) around: &'a Surroundings,
    pub(super) migrator: &'a mut Migrator,
    pub(super) doorbells: &'a mut Doorbells,
    pub(super) recorder: Option<&'a mut Recorder>,
}

impl Handler<'_> {
    /// Serves one request. Each arm names its handler; the work is in the handler.
    pub(super) fn handle(
        &mut self,
        request: Request<'_>,
        reply: Reply<'_>,
    ) -> Result<(), SessionError> {
        let handled = match request {
            Request::DmaMap(map, fd) => self.dma_map(&map, fd, reply),
            Request::DmaUnmap(unmap) => return self.dma_unmap(&unmap, reply),
            Request::DmaReply(header, payload) => {
                self.around.memory.messages().reply(&header, payload);
                Ok(())
            }
            Request::DeviceGetInfo => reply.with(|out| device_info().emit(out)),
            Request::DeviceGetRegionInfo(request) => self.region_info(request, reply),
            Request::DeviceGetRegionIoFds(request) => self.region_io_fds(request, reply),
            Request::DeviceGetIrqInfo(index) => self.irq_info(index, reply),
            Request::DeviceSetIrqs(set) => self.set_irqs(set, reply),
            Request::RegionRead(access) => self.region_read(access, reply),
            Request::RegionWrite(access, data) => self.region_write(access, data, reply),
            Request::RegionWriteMulti(multi) => self.region_write_multi(multi, reply),
            Request::DeviceReset => {
                self.reset(Reset::Device);
                self.carried_out(&reply);
                reply.empty()
            }
            Request::DeviceFeature(feature) => self.device_feature(feature, reply),
            Request::MigDataRead(request) => self.mig_data_read(request, reply),
            Request::MigDataWrite(request) => self.mig_data_write(request, reply),
        };
        Ok(handled?)
    }

    /// Refuses what cannot be parsed. A reply that nobody waits for gets no answer: it could be
    /// taken for the answer to a request of the client's that has the same id.
    pub(super) fn refuse_malformed(
        &self,
        reply: Reply<'_>,
        malformed: Malformed,
    ) -> Result<(), ServerError> {
        if malformed == Malformed::UnexpectedReply {
            self.around.metrics.refused_requests.add(1);
            tracing::debug!(command = reply.command(), "ignored: {malformed}");
            return Ok(());
        }
        self.refuse(reply, &malformed, malformed.errno())
    }

    /// Answers with an error: the errno to the client, the words to the log.
    pub(super) fn refuse(
        &self,
        reply: Reply<'_>,
        why: &dyn std::error::Error,
        errno: Errno,
    ) -> Result<(), ServerError> {
        self.around.metrics.refused_requests.add(1);
        tracing::debug!(command = reply.command(), %errno, "refused: {why}");
        reply.error(errno)
    }

    fn dma_map(
        &mut self,
        map: &DmaMap,
        fd: Option<OwnedFd>,
        reply: Reply<'_>,
    ) -> Result<(), ServerError> {
        match self.around.memory.map(map, fd) {
            Err(DmaError::Overlap(..))
                if self.was_begun(&reply) && self.around.memory.is_mapped(map) =>
            {
                reply.empty()
            }
            Ok(()) => {
                self.around.metrics.dma_maps.add(1);
                self.carried_out(&reply);
                reply.empty()
            }
            Err(error) => self.refuse_dma(reply, &error),
        }
    }

    /// A device that does not let go ends the session, unanswered: an answer would tell the client
    /// that its memory is free.
    fn dma_unmap(&mut self, unmap: &DmaUnmap, reply: Reply<'_>) -> Result<(), SessionError> {
        match self.around.memory.unmap(unmap, self.device) {
            Ok(()) => {
                self.around.metrics.dma_unmaps.add(1);
                self.carried_out(&reply);
                reply.with(|out| unmap.emit(out))?;
            }
            Err(DmaError::NotMapped(_)) if self.was_begun(&reply) => {
                reply.with(|out| unmap.emit(out))?;
            }
            Err(DmaError::StillPinned(range)) => return Err(SessionError::StillPinned(range)),
            Err(error) => self.refuse_dma(reply, &error)?,
        }
        Ok(())
    }

    fn refuse_dma(&self, reply: Reply<'_>, error: &DmaError) -> Result<(), ServerError> {
        self.refuse(reply, error, error.errno())
    }

    fn irq_info(&mut self, index: u32, reply: Reply<'_>) -> Result<(), ServerError> {
        let Some(group) = IrqIndex::from_u32(index) else {
            let error = IrqError::UnknownIndex(index);
            return self.refuse(reply, &error, error.errno());
        };
        let flags = match group {
            IrqIndex::Intx => IrqFlags::EVENTFD | IrqFlags::MASKABLE | IrqFlags::AUTOMASKED,
            _ => IrqFlags::EVENTFD | IrqFlags::NORESIZE,
        };
        let count = self.device.config().irqs().of(group);
        let info = IrqInfo {
            flags,
            index,
            count,
        };
        reply.with(|out| info.emit(out))
    }

    fn set_irqs(&mut self, set: SetIrqs<'_>, reply: Reply<'_>) -> Result<(), ServerError> {
        match self.around.interrupts.set_irqs(set) {
            Ok(()) => {
                self.carried_out(&reply);
                reply.empty()
            }
            Err(error) => self.refuse(reply, &error, error.errno()),
        }
    }

    /// The request at this position is being carried out: a death is its.
    pub(super) fn begin(&self, position: u64) {
        if let Some(recorder) = &self.recorder {
            recorder.journal.set_under_way(Some(position));
        }
    }

    /// Whoever goes on from here need not do this request again.
    fn carried_out(&self, reply: &Reply<'_>) {
        if let Some(recorder) = &self.recorder {
            recorder.journal.carried_out(reply.position().start);
        }
    }

    /// Whether another process has died in this request. What it had done of it is there.
    fn was_begun(&self, reply: &Reply<'_>) -> bool {
        let position = reply.position().start;
        self.recorder
            .as_ref()
            .is_some_and(|recorder| recorder.journal.has_died_in(position))
    }

    pub(super) fn config_changed(&mut self) {
        if let Some(recorder) = &mut self.recorder {
            recorder.config_changed();
        }
    }

    /// Before the first request: which vectors there are, and what the command register allows.
    pub(super) fn prepare(&mut self) {
        let counts = self.device.config().irqs();
        self.around.interrupts.set_counts(counts);
        self.follow_command_register();
    }

    pub(super) fn reset(&mut self, cause: Reset) {
        self.around.metrics.resets.add(1);
        // The client answers no message while it waits for us, and a device for its threads.
        let cancelling = self.around.memory.messages().cancel(IovaRange::EVERYTHING);
        self.device.reset(cause);
        self.config_changed();
        drop(cancelling);
        *self.migrator = Migrator::default();
        self.follow_command_register();
    }

    /// Runs something on the device. It may leave it stopped, with another state in it: then it
    /// goes on from there.
    pub(super) fn call(&mut self, call: Call) {
        // A pin that is asserted meanwhile is told of once it is known whether it may be.
        self.around.interrupts.set_intx_disabled(true);
        call(self.device);
        self.go_on();
    }

    /// Has the device go on after it stood still, with what state it has now.
    pub(super) fn go_on(&mut self) {
        self.config_changed();
        self.follow_command_register();
        if !self.migrator.is_stopped()
            && let Some(migration) = self.device.migration()
        {
            migration.resume();
        }
    }

    pub(super) fn follow_command_register(&mut self) {
        self.allow(self.migrator.is_stopped());
    }

    /// Lets the device do what its command register says. The pin of one that is stopped is told
    /// of when it runs.
    pub(super) fn allow(&mut self, is_stopped: bool) {
        let command = self.device.config().command();
        let disabled = is_stopped || command.contains(Command::INTX_DISABLE);
        self.around.interrupts.set_intx_disabled(disabled);
        let may_master = command.contains(Command::BUS_MASTER);
        let has_changed = self.around.memory.set_bus_master(may_master);
        if has_changed && may_master {
            self.device.may_master();
        }
    }
}

fn device_info() -> DeviceInfo {
    DeviceInfo {
        flags: DeviceFlags::RESET | DeviceFlags::PCI,
        num_regions: RegionIndex::COUNT,
        num_irqs: IrqIndex::COUNT,
    }
}
