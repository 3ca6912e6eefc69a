//! The client's end of migration, of the log of DMA writes and of region I/O by descriptors.

use std::os::fd::OwnedFd;

use super::{Answer, Client, ClientError};
use crate::wire::feature::{DmaReport, Feature, FeatureFlags, FeatureHead};
use crate::wire::io_fds::{RegionIoFds, RegionIoFdsRequest};
use crate::wire::migration::{MigDataRead, MigDataWrite, MigState, MigrationFlags};
use crate::wire::{Command, Malformed, Reader};

impl Client {
    /// DEVICE_GET_REGION_IO_FDS, twice if the first answer says that there is more.
    pub fn region_io_fds(
        &mut self,
        index: u32,
    ) -> Result<(RegionIoFds, Vec<OwnedFd>), ClientError> {
        let (_, _, needed) = self.region_io_fds_within(index, 16)?;
        let (fds, descriptors, _) = self.region_io_fds_within(index, needed)?;
        Ok((fds, descriptors))
    }

    fn region_io_fds_within(
        &mut self,
        index: u32,
        argsz: u32,
    ) -> Result<(RegionIoFds, Vec<OwnedFd>, u32), ClientError> {
        let request = RegionIoFdsRequest { argsz, index };
        let answer = self.call(Command::DeviceGetRegionIoFds, &[], |out| request.emit(out))?;
        let (fds, needed) = RegionIoFds::parse(&answer.payload)?;
        Ok((fds, answer.fds, needed))
    }

    /// Which states the device knows.
    pub fn migration_flags(&mut self) -> Result<MigrationFlags, ClientError> {
        let answer = self.feature(Feature::Migration, FeatureFlags::GET, 8, |_| ())?;
        let (_, data) = FeatureHead::parse(&answer.payload)?;
        let flags = Reader::new(data).u64()?;
        Ok(MigrationFlags::from_bits_retain(flags))
    }

    /// In which state the device is.
    pub fn mig_state(&mut self) -> Result<MigState, ClientError> {
        let answer = self.feature(Feature::MigDeviceState, FeatureFlags::GET, 8, |_| ())?;
        let (_, data) = FeatureHead::parse(&answer.payload)?;
        Ok(MigState::parse_reply(data)?)
    }

    /// Takes the device to a state.
    pub fn set_mig_state(&mut self, state: MigState) -> Result<(), ClientError> {
        let emit = |out: &mut Vec<u8>| state.emit(out);
        self.feature(Feature::MigDeviceState, FeatureFlags::SET, 8, emit)
            .map(drop)
    }

    /// MIG_DATA_READ of at most `size` bytes; fewer are all that there are.
    pub fn mig_data_read(&mut self, size: u32) -> Result<Vec<u8>, ClientError> {
        let request = MigDataRead { size };
        let answer = self.call(Command::MigDataRead, &[], |out| request.emit(out))?;
        Ok(MigDataRead::parse_reply(&answer.payload)?.to_vec())
    }

    /// MIG_DATA_WRITE.
    pub fn mig_data_write(&mut self, data: &[u8]) -> Result<(), ClientError> {
        let request = MigDataWrite { data };
        self.call(Command::MigDataWrite, &[], |out| request.emit(out))
            .map(drop)
    }

    /// Has the pages noted that the device writes, wherever they are.
    pub fn start_dma_logging(&mut self, page_size: u64) -> Result<(), ClientError> {
        let emit = |out: &mut Vec<u8>| {
            out.extend(page_size.to_ne_bytes());
            out.extend([0; 8]);
        };
        self.feature(Feature::DmaLoggingStart, FeatureFlags::SET, 16, emit)
            .map(drop)
    }

    /// Has them noted no longer.
    pub fn stop_dma_logging(&mut self) -> Result<(), ClientError> {
        self.feature(Feature::DmaLoggingStop, FeatureFlags::SET, 0, |_| ())
            .map(drop)
    }

    /// The bitmap of the pages that were written since the last report.
    pub fn report_dma_logging(&mut self, report: DmaReport) -> Result<Vec<u64>, ClientError> {
        let bitmap = usize::try_from(report.bits().div_ceil(64) * 8);
        let len = DmaReport::LEN + bitmap.map_err(|_| Malformed::Range)?;
        let emit = |out: &mut Vec<u8>| report.emit(&[], out);
        let answer = self.feature(Feature::DmaLoggingReport, FeatureFlags::GET, len, emit)?;
        let (_, data) = FeatureHead::parse(&answer.payload)?;
        let bitmap = data.get(DmaReport::LEN..).ok_or(Malformed::Short)?;
        let words = bitmap.as_chunks().0.iter().copied();
        Ok(words.map(u64::from_ne_bytes).collect())
    }

    /// DEVICE_FEATURE, whose reply has at most `reply_len` bytes of data.
    fn feature(
        &mut self,
        feature: Feature,
        flags: FeatureFlags,
        reply_len: usize,
        emit: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Answer, ClientError> {
        let argsz = u32::try_from(FeatureHead::LEN + reply_len).map_err(|_| Malformed::Range)?;
        let head = FeatureHead {
            argsz,
            feature,
            flags,
        };
        self.call(Command::DeviceFeature, &[], |out| {
            head.emit(out);
            emit(out);
        })
    }
}
