//! The states of a device that migrates, MIG_DATA_READ and MIG_DATA_WRITE.

use super::{Malformed, Reader, check_argsz};

/// The states of VFIO's migration; `enum vfio_device_mig_state` in `linux/vfio.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum MigState {
    /// The device has failed; a reset makes it run again.
    Error = 0,
    /// It does nothing, and its state does not change.
    Stop = 1,
    /// It runs.
    Running = 2,
    /// It does nothing, and its state is read.
    StopCopy = 3,
    /// It does nothing, and takes a state.
    Resuming = 4,
    /// Not used in vfio-user.
    RunningP2p = 5,
    /// It runs, and its state is read.
    PreCopy = 6,
    /// Not used in vfio-user.
    PreCopyP2p = 7,
}

impl MigState {
    /// All states.
    pub const ALL: [Self; 8] = [
        Self::Error,
        Self::Stop,
        Self::Running,
        Self::StopCopy,
        Self::Resuming,
        Self::RunningP2p,
        Self::PreCopy,
        Self::PreCopyP2p,
    ];

    /// Bytes of `u32 device_state, u32 data_fd`.
    pub(super) const LEN: usize = 8;

    /// Takes the data of MIG_DEVICE_STATE. Its descriptor has no use in vfio-user.
    pub(super) fn parse(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let number = reader.u32()?;
        let _data_fd = reader.u32()?;
        Self::ALL
            .into_iter()
            .find(|state| *state as u32 == number)
            .ok_or(Malformed::Range)
    }

    /// Parses the data of a reply.
    pub fn parse_reply(data: &[u8]) -> Result<Self, Malformed> {
        Self::parse(&mut Reader::new(data))
    }

    /// Appends the data of MIG_DEVICE_STATE.
    pub fn emit(self, out: &mut Vec<u8>) {
        out.extend((self as u32).to_ne_bytes());
        out.extend([0; 4]);
    }
}

bitflags::bitflags! {
    /// Which states a device knows besides RUNNING and ERROR; `VFIO_MIGRATION_*` in
    /// `linux/vfio.h`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MigrationFlags: u64 {
        /// STOP, STOP_COPY and RESUMING.
        const STOP_COPY = 1 << 0;
        /// The states for devices that reach each other; not used in vfio-user.
        const P2P = 1 << 1;
        /// PRE_COPY.
        const PRE_COPY = 1 << 2;
    }
}

/// MIG_DATA_READ, as a client asks: `u32 argsz, u32 size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MigDataRead {
    /// Bytes of the stream that are asked for.
    pub size: u32,
}

/// Bytes before the data of MIG_DATA_READ's reply, and of MIG_DATA_WRITE.
pub const MIG_DATA_HEAD: usize = 8;

impl MigDataRead {
    /// Parses a request. The reply must have room for all that it asks for.
    pub fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        let argsz = reader.u32()?;
        let size = reader.u32()?;
        reader.end()?;
        let size_in_memory = usize::try_from(size).map_err(|_| Malformed::Range)?;
        check_argsz(argsz, MIG_DATA_HEAD.saturating_add(size_in_memory))?;
        Ok(Self { size })
    }

    /// Appends a request.
    pub fn emit(&self, out: &mut Vec<u8>) {
        emit_head(self.size, out);
    }

    /// Parses a reply: the data in it.
    pub fn parse_reply(payload: &[u8]) -> Result<&[u8], Malformed> {
        parse_data(payload)
    }

    /// Appends a reply.
    pub fn emit_reply(data: &[u8], out: &mut Vec<u8>) {
        emit_head(u32::try_from(data.len()).unwrap_or(u32::MAX), out);
        out.extend(data);
    }
}

/// MIG_DATA_WRITE: `u32 argsz, u32 size`, then that much of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MigDataWrite<'a> {
    /// The next part of the stream.
    pub data: &'a [u8],
}

impl<'a> MigDataWrite<'a> {
    /// Parses a request.
    pub fn parse(payload: &'a [u8]) -> Result<Self, Malformed> {
        parse_data(payload).map(|data| Self { data })
    }

    /// Appends a request.
    pub fn emit(&self, out: &mut Vec<u8>) {
        MigDataRead::emit_reply(self.data, out);
    }
}

/// `argsz` of a write bounds a reply that has no data, so it may count the head alone.
fn parse_data(payload: &[u8]) -> Result<&[u8], Malformed> {
    let mut reader = Reader::new(payload);
    check_argsz(reader.u32()?, MIG_DATA_HEAD)?;
    let size = usize::try_from(reader.u32()?).map_err(|_| Malformed::Range)?;
    let data = reader.bytes(size)?;
    reader.end()?;
    Ok(data)
}

fn emit_head(size: u32, out: &mut Vec<u8>) {
    out.extend(size.saturating_add(8).to_ne_bytes());
    out.extend(size.to_ne_bytes());
}
