//! A client's command, parsed: what a session has to answer.

use std::os::fd::OwnedFd;

use super::access::{RegionAccess, WriteMulti};
use super::device::DeviceInfo;
use super::dma::{DmaMap, DmaUnmap};
use super::feature::DeviceFeature;
use super::header::MessageType;
use super::io_fds::RegionIoFdsRequest;
use super::irq::{IrqInfo, SetIrqs};
use super::migration::{MigDataRead, MigDataWrite};
use super::region::RegionInfoRequest;
use super::{Command, Header, Malformed};

/// One command of a client.
#[derive(Debug)]
pub enum Request<'a> {
    /// DMA_MAP, with the file if one came.
    DmaMap(DmaMap, Option<OwnedFd>),
    /// DMA_UNMAP.
    DmaUnmap(DmaUnmap),
    /// DEVICE_GET_INFO.
    DeviceGetInfo,
    /// DEVICE_GET_REGION_INFO.
    DeviceGetRegionInfo(RegionInfoRequest),
    /// DEVICE_GET_REGION_IO_FDS.
    DeviceGetRegionIoFds(RegionIoFdsRequest),
    /// DEVICE_GET_IRQ_INFO, of the group with this index.
    DeviceGetIrqInfo(u32),
    /// DEVICE_SET_IRQS.
    DeviceSetIrqs(SetIrqs<'a>),
    /// REGION_READ.
    RegionRead(RegionAccess),
    /// REGION_WRITE, with exactly as much data as the access says.
    RegionWrite(RegionAccess, &'a [u8]),
    /// REGION_WRITE_MULTI.
    RegionWriteMulti(WriteMulti<'a>),
    /// DEVICE_RESET.
    DeviceReset,
    /// DEVICE_FEATURE.
    DeviceFeature(DeviceFeature<'a>),
    /// MIG_DATA_READ.
    MigDataRead(MigDataRead),
    /// MIG_DATA_WRITE.
    MigDataWrite(MigDataWrite<'a>),
    /// The reply to a DMA_READ or DMA_WRITE of the server's own, and its payload. It is not
    /// answered.
    DmaReply(Header, &'a [u8]),
}

impl<'a> Request<'a> {
    /// Parses a command that came after the version was agreed on. On error `fds` are closed.
    pub fn parse(header: &Header, payload: &'a [u8], fds: Vec<OwnedFd>) -> Result<Self, Malformed> {
        match header.message_type() {
            MessageType::Command => {}
            MessageType::Reply => return Self::dma_reply(header, payload, &fds),
            MessageType::Unknown => return Err(Malformed::Flags(header.flags)),
        }
        let command = Command::try_from(header.command)?;
        match command {
            Command::DmaMap => Self::dma_map(payload, fds),
            Command::DeviceSetIrqs => SetIrqs::parse(payload, fds).map(Self::DeviceSetIrqs),
            _ if !fds.is_empty() => Err(Malformed::Fds(fds.len(), "none")),
            _ => Self::parse_without_fds(command, payload),
        }
    }

    fn dma_reply(header: &Header, payload: &'a [u8], fds: &[OwnedFd]) -> Result<Self, Malformed> {
        match Command::try_from(header.command) {
            Ok(Command::DmaRead | Command::DmaWrite) if fds.is_empty() => {
                Ok(Self::DmaReply(*header, payload))
            }
            _ => Err(Malformed::UnexpectedReply),
        }
    }

    fn dma_map(payload: &[u8], fds: Vec<OwnedFd>) -> Result<Self, Malformed> {
        let received = fds.len();
        let mut fds = fds.into_iter();
        match (fds.next(), fds.next()) {
            (fd, None) => Ok(Self::DmaMap(DmaMap::parse(payload)?, fd)),
            _ => Err(Malformed::Fds(received, "at most one")),
        }
    }

    fn parse_without_fds(command: Command, payload: &'a [u8]) -> Result<Self, Malformed> {
        Ok(match command {
            Command::DmaUnmap => Self::DmaUnmap(DmaUnmap::parse(payload)?),
            Command::DeviceGetInfo => {
                DeviceInfo::parse_request(payload)?;
                Self::DeviceGetInfo
            }
            Command::DeviceGetRegionInfo => {
                Self::DeviceGetRegionInfo(RegionInfoRequest::parse(payload)?)
            }
            Command::DeviceGetRegionIoFds => {
                Self::DeviceGetRegionIoFds(RegionIoFdsRequest::parse(payload)?)
            }
            Command::DeviceGetIrqInfo => Self::DeviceGetIrqInfo(IrqInfo::parse_request(payload)?),
            Command::RegionRead => Self::RegionRead(RegionAccess::parse_read(payload)?),
            Command::RegionWrite => {
                let (access, data) = RegionAccess::parse_write(payload)?;
                Self::RegionWrite(access, data)
            }
            Command::RegionWriteMulti => Self::RegionWriteMulti(WriteMulti::parse(payload)?),
            Command::DeviceReset if payload.is_empty() => Self::DeviceReset,
            Command::DeviceReset => return Err(Malformed::TooLong),
            Command::DeviceFeature => Self::DeviceFeature(DeviceFeature::parse(payload)?),
            Command::MigDataRead => Self::MigDataRead(MigDataRead::parse(payload)?),
            Command::MigDataWrite => Self::MigDataWrite(MigDataWrite::parse(payload)?),
            Command::Version => return Err(Malformed::VersionAgain),
            other => return Err(Malformed::Unsupported(other as u16)),
        })
    }
}
