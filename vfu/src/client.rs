//! The client's end of a connection, for tests and tools: one command at a time.
//!
//! It waits for each reply without a time-out of its own; a caller that wants one sets it on the
//! socket.

mod state;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use rustix::net::RecvFlags;

use crate::Errno;
use crate::socket::{BrokenStream, Received, Receiver, Sender};
use crate::wire::access::RegionAccess;
use crate::wire::device::DeviceInfo;
use crate::wire::dma::{DmaMap, DmaUnmap};
use crate::wire::header::MessageType;
use crate::wire::irq::{IrqData, IrqInfo, SetIrqs};
use crate::wire::region::{RegionInfo, RegionInfoRequest};
use crate::wire::version::{Capabilities, MAJOR, Version, VersionError};
use crate::wire::{Command, Header, Malformed};

/// The largest reply that is taken: what QEMU allows a server to announce, and a header.
const MAX_FRAME: usize = (64 << 20) + 32;

/// Why a command has no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server answered with an error.
    #[error("the server refused: {0}")]
    Refused(Errno),
    /// The server closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// No reply came in the time that is set on the socket.
    #[error("the server did not answer in time")]
    TimedOut,
    /// The stream failed.
    #[error(transparent)]
    Broken(#[from] BrokenStream),
    /// The command could not be sent.
    #[error("the command could not be sent")]
    Send(#[from] io::Error),
    /// The reply makes no sense.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The versions do not fit.
    #[error(transparent)]
    Version(#[from] VersionError),
}

/// A successful reply.
#[derive(Debug)]
pub struct Answer {
    /// What follows the header.
    pub payload: Vec<u8>,
    /// The file descriptors that came with it.
    pub fds: Vec<OwnedFd>,
}

/// The client's end of one connection.
#[derive(Debug)]
pub struct Client {
    receiver: Receiver,
    sender: Sender,
    next_id: u16,
    agreed: Version,
}

impl Client {
    /// Connects to the server at `path`, offering what QEMU offers.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let offer = Capabilities {
            max_msg_fds: Some(16),
            max_data_xfer_size: Some(1 << 20),
            max_dma_maps: Some(65_535),
            pgsizes: Some(4096),
            write_multiple: Some(true),
            twin_socket: None,
        };
        Self::negotiate(UnixStream::connect(path)?.into(), offer)
    }

    /// Agrees on a version with the server behind `socket`.
    pub fn negotiate(socket: OwnedFd, offer: Capabilities) -> Result<Self, ClientError> {
        let socket = Arc::new(socket);
        let version = Version {
            major: MAJOR,
            minor: 0,
            capabilities: offer,
        };
        let mut client = Self {
            receiver: Receiver::new(Arc::clone(&socket), MAX_FRAME),
            sender: Sender::new(socket),
            next_id: 0,
            agreed: version.clone(),
        };
        let answer = client.call(Command::Version, &[], |out| version.emit(out))?;
        client.agreed = Version::parse(&answer.payload)?;
        match client.agreed.major {
            MAJOR => Ok(client),
            major => Err(VersionError::Major(major, client.agreed.minor).into()),
        }
    }

    /// What the server answered to VERSION.
    pub fn agreed(&self) -> &Version {
        &self.agreed
    }

    /// Sends a command whose payload `emit` appends, and waits for its reply.
    pub fn call(
        &mut self,
        command: Command,
        fds: &[BorrowedFd<'_>],
        emit: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Answer, ClientError> {
        let id = self.send(command, false, fds, emit)?;
        self.wait(id)
    }

    /// Sends a command that wants no reply.
    pub fn post(
        &mut self,
        command: Command,
        fds: &[BorrowedFd<'_>],
        emit: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), ClientError> {
        self.send(command, true, fds, emit).map(drop)
    }

    fn send(
        &mut self,
        command: Command,
        no_reply: bool,
        fds: &[BorrowedFd<'_>],
        emit: impl FnOnce(&mut Vec<u8>),
    ) -> Result<u16, ClientError> {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        let mut message = vec![0; Header::LEN];
        emit(&mut message);
        let mut header = Header::command(id, command, message.len() - Header::LEN);
        if no_reply {
            header = header.without_reply();
        }
        message[..Header::LEN].copy_from_slice(&header.to_bytes());
        self.sender.send(&message, fds)?;
        Ok(id)
    }

    fn wait(&mut self, id: u16) -> Result<Answer, ClientError> {
        loop {
            while let Some(frame) = self.receiver.next_frame()? {
                let is_reply = frame.header.message_type() == MessageType::Reply;
                if !is_reply || frame.header.id != id {
                    continue;
                }
                return match frame.header.error() {
                    Some(errno) => Err(ClientError::Refused(errno)),
                    None => Ok(Answer {
                        payload: frame.payload.to_vec(),
                        fds: frame.fds,
                    }),
                };
            }
            match self.receiver.receive(RecvFlags::empty())? {
                Received::Some => {}
                Received::Nothing => return Err(ClientError::TimedOut),
                Received::Closed => return Err(ClientError::Closed),
            }
        }
    }

    /// DEVICE_GET_INFO.
    pub fn device_info(&mut self) -> Result<DeviceInfo, ClientError> {
        let request = DeviceInfo {
            flags: crate::wire::device::DeviceFlags::empty(),
            num_regions: 0,
            num_irqs: 0,
        };
        let answer = self.call(Command::DeviceGetInfo, &[], |out| request.emit(out))?;
        Ok(DeviceInfo::parse(&answer.payload)?)
    }

    /// DEVICE_GET_REGION_INFO, twice if the first answer says that there is more, as QEMU does.
    pub fn region_info(&mut self, index: u32) -> Result<(RegionInfo, Vec<OwnedFd>), ClientError> {
        let (info, fds, needed) = self.region_info_within(index, 32)?;
        if needed <= 32 {
            return Ok((info, fds));
        }
        drop(fds);
        let (info, fds, still_needed) = self.region_info_within(index, needed)?;
        if still_needed > needed {
            return Err(Malformed::Argsz(still_needed).into());
        }
        Ok((info, fds))
    }

    /// Asks once, and tells the `argsz` that the whole answer needs.
    fn region_info_within(
        &mut self,
        index: u32,
        argsz: u32,
    ) -> Result<(RegionInfo, Vec<OwnedFd>, u32), ClientError> {
        let request = RegionInfoRequest { argsz, index };
        let answer = self.call(Command::DeviceGetRegionInfo, &[], |out| request.emit(out))?;
        let (info, needed) = RegionInfo::parse(&answer.payload)?;
        Ok((info, answer.fds, needed))
    }

    /// DEVICE_GET_IRQ_INFO.
    pub fn irq_info(&mut self, index: u32) -> Result<IrqInfo, ClientError> {
        let request = IrqInfo {
            flags: crate::wire::irq::IrqFlags::empty(),
            index,
            count: 0,
        };
        let answer = self.call(Command::DeviceGetIrqInfo, &[], |out| request.emit(out))?;
        Ok(IrqInfo::parse(&answer.payload)?)
    }

    /// DEVICE_SET_IRQS, with the eventfds in `set`.
    pub fn set_irqs(&mut self, set: &SetIrqs<'_>) -> Result<(), ClientError> {
        let fds: Vec<_> = match &set.data {
            IrqData::Eventfd(fds) => fds.iter().flatten().map(AsFd::as_fd).collect(),
            IrqData::None | IrqData::Bool(_) => Vec::new(),
        };
        self.call(Command::DeviceSetIrqs, &fds, |out| set.emit(out))
            .map(drop)
    }

    /// REGION_READ of `data.len()` bytes.
    pub fn region_read(
        &mut self,
        region: u32,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), ClientError> {
        let access = access(region, offset, data.len())?;
        let answer = self.call(Command::RegionRead, &[], |out| access.emit(out))?;
        let (_, read) = RegionAccess::parse_write(&answer.payload)?;
        if read.len() != data.len() {
            return Err(Malformed::Range.into());
        }
        data.copy_from_slice(read);
        Ok(())
    }

    /// REGION_WRITE of `data`.
    pub fn region_write(
        &mut self,
        region: u32,
        offset: u64,
        data: &[u8],
    ) -> Result<(), ClientError> {
        let access = access(region, offset, data.len())?;
        self.call(Command::RegionWrite, &[], |out| {
            access.emit(out);
            out.extend(data);
        })
        .map(drop)
    }

    /// DMA_MAP, with the file that holds the memory, if it is shared.
    pub fn dma_map(&mut self, map: &DmaMap, fd: Option<BorrowedFd<'_>>) -> Result<(), ClientError> {
        self.call(Command::DmaMap, fd.as_slice(), |out| map.emit(out))
            .map(drop)
    }

    /// DMA_UNMAP.
    pub fn dma_unmap(&mut self, unmap: &DmaUnmap) -> Result<(), ClientError> {
        self.call(Command::DmaUnmap, &[], |out| unmap.emit(out))
            .map(drop)
    }

    /// DEVICE_RESET.
    pub fn reset(&mut self) -> Result<(), ClientError> {
        self.call(Command::DeviceReset, &[], |_| ()).map(drop)
    }
}

fn access(region: u32, offset: u64, len: usize) -> Result<RegionAccess, Malformed> {
    Ok(RegionAccess {
        offset,
        region,
        count: u32::try_from(len).map_err(|_| Malformed::Range)?,
    })
}
