//! DEVICE_FEATURE and the stream of migration: the state of the device, and what it has written.

use vfu::Errno;
use vfu::server::{Reply, ServerError};
use vfu::wire::feature::{
    DeviceFeature, DmaLogging, DmaReport, Feature, FeatureFlags, FeatureHead,
};
use vfu::wire::migration::{MigDataRead, MigDataWrite, MigState};

use super::handler::Handler;
use crate::dma::{DmaError, DmaTable, Iova, IovaRange};
use crate::migration::machine;
use crate::migration::migrator::{self, MigrationError};

/// Most bytes of bits, for all mappings together and for one report: enough for 1 TiB of guest.
/// Without a bound a client could have us allocate for all addresses that there are.
const MAX_LOG: u64 = 32 << 20;

/// Why a report was refused.
#[derive(Debug, thiserror::Error)]
enum ReportError {
    /// Bits are kept for whole pages.
    #[error("a report is on whole pages")]
    NotPages,
    /// The reply would be too long.
    #[error("a report of {0} bits is more than is made")]
    TooLong(u64),
    /// The table has no answer.
    #[error(transparent)]
    Dma(#[from] DmaError),
}

impl ReportError {
    fn errno(&self) -> Errno {
        match self {
            Self::NotPages => Errno::INVAL,
            Self::TooLong(_) => Errno::NOSPC,
            Self::Dma(error) => error.errno(),
        }
    }
}

/// Appends the head of a reply with `data_len` bytes of data.
fn emit_head(feature: Feature, flags: FeatureFlags, data_len: usize, out: &mut Vec<u8>) {
    let head = FeatureHead {
        argsz: u32::try_from(FeatureHead::LEN + data_len).unwrap_or(u32::MAX),
        feature,
        flags,
    };
    head.emit(out);
}

impl Handler<'_> {
    pub(super) fn device_feature(
        &mut self,
        feature: DeviceFeature<'_>,
        reply: Reply<'_>,
    ) -> Result<(), ServerError> {
        match feature {
            DeviceFeature::Probe { head, data } => self.probe(head, data, reply),
            DeviceFeature::GetMigration => self.migration_flags(reply),
            DeviceFeature::GetState => self.mig_state(reply),
            DeviceFeature::SetState(state) => self.set_mig_state(state, reply),
            DeviceFeature::StartLogging(logging) => self.start_logging(logging, reply),
            DeviceFeature::StopLogging => {
                self.around.memory.stop_tracking();
                reply.with(|out| emit_head(Feature::DmaLoggingStop, FeatureFlags::SET, 0, out))
            }
            DeviceFeature::ReportLogging(report) => self.report_logging(report, reply),
        }
    }

    /// The answer to a probe that succeeds is the probe.
    fn probe(
        &mut self,
        head: FeatureHead,
        data: &[u8],
        reply: Reply<'_>,
    ) -> Result<(), ServerError> {
        let is_migration = matches!(head.feature, Feature::Migration | Feature::MigDeviceState);
        if is_migration && migrator::flags(self.device).is_none() {
            return self.refuse_migration(reply, &MigrationError::Unsupported);
        }
        reply.with(|out| {
            head.emit(out);
            out.extend(data);
        })
    }

    fn migration_flags(&mut self, reply: Reply<'_>) -> Result<(), ServerError> {
        match migrator::flags(self.device) {
            Some(flags) => reply.with(|out| {
                emit_head(Feature::Migration, FeatureFlags::GET, 8, out);
                out.extend(flags.bits().to_ne_bytes());
            }),
            None => self.refuse_migration(reply, &MigrationError::Unsupported),
        }
    }

    fn mig_state(&mut self, reply: Reply<'_>) -> Result<(), ServerError> {
        if migrator::flags(self.device).is_none() {
            return self.refuse_migration(reply, &MigrationError::Unsupported);
        }
        let state = self.migrator.state();
        reply.with(|out| {
            emit_head(Feature::MigDeviceState, FeatureFlags::GET, 8, out);
            state.emit(out);
        })
    }

    fn set_mig_state(&mut self, to: MigState, reply: Reply<'_>) -> Result<(), ServerError> {
        let from = self.migrator.state();
        let taken = self.take_to(to);
        if let Some(recorder) = &mut self.recorder {
            // Before the answer: a client that has it may rely on the state.
            let is_migrating = self.migrator.state() != MigState::Running;
            let position = reply.position();
            recorder.note(self.device, position.end);
            recorder.journal.will_migrate(position.start, is_migrating);
        }
        match taken {
            Ok(()) => {
                tracing::debug!(?from, ?to, "migration");
                reply.with(|out| {
                    emit_head(Feature::MigDeviceState, FeatureFlags::SET, 8, out);
                    to.emit(out);
                })
            }
            Err(error) => {
                self.around
                    .log
                    .warn(format_args!("{from:?} did not become {to:?}: {error}"));
                self.refuse_migration(reply, &error)
            }
        }
    }

    /// Takes the device to another state. After an error it is in the last one that it reached.
    fn take_to(&mut self, to: MigState) -> Result<(), MigrationError> {
        self.config_changed();
        for next in self.migrator.way(self.device, to)? {
            // Before the step: a state that was put in has a command register of its own, and
            // what a device goes on with must find what that allows.
            self.allow(machine::is_stopped(next));
            let step = self.migrator.step(self.device, next);
            step.inspect_err(|_| self.follow_command_register())?;
        }
        Ok(())
    }

    fn refuse_migration(
        &self,
        reply: Reply<'_>,
        error: &MigrationError,
    ) -> Result<(), ServerError> {
        self.refuse(reply, error, error.errno())
    }

    pub(super) fn mig_data_read(
        &mut self,
        request: MigDataRead,
        reply: Reply<'_>,
    ) -> Result<(), ServerError> {
        let mut data = Vec::new();
        match self
            .migrator
            .read(self.device, request.size as usize, &mut data)
        {
            Ok(()) => reply.with(|out| MigDataRead::emit_reply(&data, out)),
            Err(error) => self.refuse_migration(reply, &error),
        }
    }

    pub(super) fn mig_data_write(
        &mut self,
        request: MigDataWrite<'_>,
        reply: Reply<'_>,
    ) -> Result<(), ServerError> {
        match self.migrator.write(request.data) {
            Ok(()) => reply.empty(),
            Err(error) => self.refuse_migration(reply, &error),
        }
    }

    /// All writes are noted, wherever the client looks for them, page by page.
    fn start_logging(
        &mut self,
        logging: DmaLogging<'_>,
        reply: Reply<'_>,
    ) -> Result<(), ServerError> {
        if let Err(error) = self.around.memory.start_tracking(MAX_LOG) {
            return self.refuse(reply, &error, error.errno());
        }
        let data_len = DmaLogging::LEN + 16 * logging.ranges().count();
        reply.with(|out| {
            emit_head(Feature::DmaLoggingStart, FeatureFlags::SET, data_len, out);
            logging.emit(DmaTable::PAGE_SIZE, out);
        })
    }

    fn report_logging(&mut self, report: DmaReport, reply: Reply<'_>) -> Result<(), ServerError> {
        match self.bitmap(report) {
            Ok(bitmap) => reply.with(|out| {
                let data_len = DmaReport::LEN + 8 * bitmap.len();
                emit_head(Feature::DmaLoggingReport, FeatureFlags::GET, data_len, out);
                report.emit(&bitmap, out);
            }),
            Err(error) => self.refuse(reply, &error, error.errno()),
        }
    }

    /// A bit for each of the client's pages, which may be larger or smaller than ours.
    fn bitmap(&self, report: DmaReport) -> Result<Vec<u64>, ReportError> {
        const PAGE_SIZE: u64 = DmaTable::PAGE_SIZE;
        let bits = report.bits();
        if bits.div_ceil(8) > MAX_LOG {
            return Err(ReportError::TooLong(bits));
        }
        let range = IovaRange::new(Iova(report.iova), report.length)
            .filter(|_| (report.iova | report.length).is_multiple_of(PAGE_SIZE))
            .ok_or(ReportError::NotPages)?;
        let dirty = self.around.memory.take_dirty(range)?;
        let mut bitmap = vec![0_u64; usize::try_from(bits.div_ceil(64)).unwrap_or(usize::MAX)];
        for page in dirty.pages() {
            let first = page * PAGE_SIZE / report.page_size;
            let last = (page * PAGE_SIZE + (PAGE_SIZE - 1)) / report.page_size;
            for bit in first..=last {
                if let Some(word) = bitmap.get_mut((bit / 64) as usize) {
                    *word |= 1 << (bit % 64);
                }
            }
        }
        Ok(bitmap)
    }
}
