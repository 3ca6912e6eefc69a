//! A client that has agreed on a version, with the commands that most checks need.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use serde_json::Value;
use vfu::wire::Command;
use vfu::wire::access::RegionAccess;
use vfu::wire::device::DeviceInfo;
use vfu::wire::irq::IrqInfo;
use vfu::wire::region::RegionInfo;

use crate::check::{Unmet, Verdict, Within};
use crate::connection::{Connection, Message};
use crate::ensure;
use crate::payload;

/// What most checks offer: all that QEMU offers.
pub const OFFER: &str = concat!(
    r#"{"capabilities":{"max_msg_fds":16,"max_data_xfer_size":1048576,"max_dma_maps":65535,"#,
    r#""pgsizes":4096,"write_multiple":true,"migration":{"pgsize":4096}}}"#
);

/// `VFIO_PCI_CONFIG_REGION_INDEX` in `linux/vfio.h`.
pub const CONFIG: u32 = 7;
/// Interrupt Line: a byte of PCI config space that holds what is written, and does nothing.
pub const SCRATCH: u64 = 0x3c;

/// The answer to DEVICE_GET_REGION_INFO, with what `vfu` makes of it.
#[derive(Debug)]
pub struct RegionAnswer {
    /// The fields, and the sparse areas if the whole of them came.
    pub info: RegionInfo,
    /// What the whole answer needs.
    pub argsz: u32,
    /// Where capabilities begin.
    pub cap_offset: u32,
    /// As it came.
    pub payload: Vec<u8>,
    /// What came with it.
    pub fds: Vec<OwnedFd>,
}

/// A connection on which VERSION was answered.
#[derive(Debug)]
pub struct Client {
    /// The bytes below.
    pub connection: Connection,
    /// Of the server's VERSION.
    pub major: u16,
    /// Of the server's VERSION.
    pub minor: u16,
    /// The whole JSON of the server's VERSION; null if there was none.
    pub document: Value,
    /// Descriptors that came with the server's VERSION.
    pub fds: Vec<OwnedFd>,
}

impl Client {
    /// Offers `json` in version 0.`minor`.
    pub fn negotiate(mut connection: Connection, minor: u16, json: &str) -> Result<Self, Unmet> {
        let text = [json.as_bytes(), b"\0"].concat();
        let offer = payload::version(0, minor, &text);
        let message = connection.accepts(Command::Version as u16, &offer, &[])?;
        Self::agreed(connection, message)
    }

    /// Goes on from the server's reply to VERSION.
    pub fn agreed(connection: Connection, message: Message) -> Result<Self, Unmet> {
        let Some(([a, b, c, d], text)) = message.payload.split_first_chunk() else {
            return Err(Unmet::fail("the reply to VERSION has no version"));
        };
        let document = match text {
            [] => Value::Null,
            [json @ .., 0] => serde_json::from_slice(json).map_err(|error| {
                Unmet::fail(format!("the reply to VERSION has no valid JSON: {error}"))
            })?,
            _ => return Err(Unmet::fail("the reply to VERSION does not end with a NUL")),
        };
        Ok(Self {
            connection,
            major: u16::from_ne_bytes([*a, *b]),
            minor: u16::from_ne_bytes([*c, *d]),
            document,
            fds: message.fds,
        })
    }

    /// The capabilities of the reply to VERSION; null if there are none.
    pub fn capabilities(&self) -> &Value {
        self.document.get("capabilities").unwrap_or(&Value::Null)
    }

    /// Most data of one access that the server takes.
    pub fn max_data_xfer_size(&self) -> u64 {
        let named = self.capabilities().get("max_data_xfer_size");
        named.and_then(Value::as_u64).unwrap_or(1 << 20)
    }

    /// Sends a command that must succeed, without descriptors.
    pub fn accepts(&mut self, command: Command, payload: &[u8]) -> Result<Message, Unmet> {
        self.connection.accepts(command as u16, payload, &[])
    }

    /// Sends a command that must be answered with an error, without descriptors.
    pub fn refuses(&mut self, command: Command, payload: &[u8]) -> Result<Option<Errno>, Unmet> {
        self.connection.refuses(command as u16, payload, &[])
    }

    /// Sends a command that must be answered with an error, with descriptors.
    pub fn refuses_fds(
        &mut self,
        command: Command,
        payload: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Result<Option<Errno>, Unmet> {
        self.connection.refuses(command as u16, payload, fds)
    }

    /// Sends a command that wants no reply.
    pub fn post(&mut self, command: Command, payload: &[u8]) -> Verdict {
        let id = self.connection.take_id();
        let message = payload::message(id, command as u16, payload::NO_REPLY, payload);
        self.connection.send(&message, &[])
    }

    /// A correct request is answered correctly: each end still knows where a message begins.
    pub fn is_in_step(&mut self) -> Verdict {
        self.device_info().within("afterwards").map(drop)
    }

    /// DEVICE_GET_INFO.
    pub fn device_info(&mut self) -> Result<DeviceInfo, Unmet> {
        let request = payload::words(&[16, 0, 0, 0]);
        let message = self.accepts(Command::DeviceGetInfo, &request)?;
        DeviceInfo::parse(&message.payload)
            .map_err(|error| Unmet::fail(format!("the reply to DEVICE_GET_INFO: {error}")))
    }

    /// DEVICE_GET_REGION_INFO, asked twice if the first answer says that there is more.
    pub fn region_info(&mut self, index: u32) -> Result<RegionAnswer, Unmet> {
        let first = self.region_info_within(index, 32)?;
        if first.argsz <= 32 {
            return Ok(first);
        }
        let second = self.region_info_within(index, first.argsz)?;
        ensure!(
            second.argsz == first.argsz,
            "region {index} needs argsz {} and, asked with it, {}",
            first.argsz,
            second.argsz
        );
        Ok(second)
    }

    /// DEVICE_GET_REGION_INFO, asked once with this `argsz`.
    pub fn region_info_within(&mut self, index: u32, argsz: u32) -> Result<RegionAnswer, Unmet> {
        let request = payload::region_info(argsz, index);
        let message = self.accepts(Command::DeviceGetRegionInfo, &request)?;
        let (info, argsz) = RegionInfo::parse(&message.payload).map_err(|error| {
            Unmet::fail(format!("the reply to DEVICE_GET_REGION_INFO: {error}"))
        })?;
        let cap_offset = message.payload.get(12..).and_then(<[u8]>::first_chunk);
        Ok(RegionAnswer {
            info,
            argsz,
            cap_offset: cap_offset.map_or(0, |bytes| u32::from_ne_bytes(*bytes)),
            payload: message.payload,
            fds: message.fds,
        })
    }

    /// All regions that have bytes.
    pub fn regions(&mut self) -> Result<Vec<RegionAnswer>, Unmet> {
        let mut regions = Vec::new();
        // Far more than any device has; a server may say 4 billion.
        for index in 0..self.device_info()?.num_regions.min(256) {
            let region = self.region_info(index)?;
            if region.info.size > 0 {
                regions.push(region);
            }
        }
        Ok(regions)
    }

    /// DEVICE_GET_IRQ_INFO.
    pub fn irq_info(&mut self, index: u32) -> Result<IrqInfo, Unmet> {
        let request = payload::words(&[16, 0, index, 0]);
        let message = self.accepts(Command::DeviceGetIrqInfo, &request)?;
        IrqInfo::parse(&message.payload)
            .map_err(|error| Unmet::fail(format!("the reply to DEVICE_GET_IRQ_INFO: {error}")))
    }

    /// REGION_READ, whose reply must repeat the access and have all of the data.
    pub fn read(&mut self, region: u32, offset: u64, count: u32) -> Result<Vec<u8>, Unmet> {
        let request = payload::access(region, offset, count, &[]);
        let message = self.accepts(Command::RegionRead, &request)?;
        let head = message.payload.get(..RegionAccess::LEN);
        ensure!(
            head == Some(&request),
            "the reply to REGION_READ does not repeat offset, region and count"
        );
        let data = message.payload.get(RegionAccess::LEN..).unwrap_or_default();
        ensure!(
            u32::try_from(data.len()) == Ok(count),
            "{count} bytes were asked for, {} came",
            data.len()
        );
        Ok(data.to_vec())
    }

    /// REGION_WRITE, whose reply must repeat the access.
    pub fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Verdict {
        let count = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let request = payload::access(region, offset, count, data);
        let message = self.accepts(Command::RegionWrite, &request)?;
        ensure!(
            message.payload == request.get(..RegionAccess::LEN).unwrap_or_default(),
            "the reply to REGION_WRITE does not repeat offset, region and count"
        );
        Ok(())
    }

    /// Reads a byte that holds what is written to it.
    pub fn scratch(&mut self) -> Result<u8, Unmet> {
        let data = self.read(CONFIG, SCRATCH, 1)?;
        data.first()
            .copied()
            .ok_or_else(|| Unmet::fail("no data came"))
    }

    /// DEVICE_RESET.
    pub fn reset(&mut self) -> Verdict {
        self.accepts(Command::DeviceReset, &[]).map(drop)
    }
}
