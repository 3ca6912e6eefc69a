//! The 16 bytes that open every message.

use super::{Malformed, Reader};
use crate::Errno;

/// Commands; `enum vfio_user_command` in the specification, section "Commands".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Command {
    Version = 1,
    DmaMap = 2,
    DmaUnmap = 3,
    DeviceGetInfo = 4,
    DeviceGetRegionInfo = 5,
    DeviceGetRegionIoFds = 6,
    DeviceGetIrqInfo = 7,
    DeviceSetIrqs = 8,
    RegionRead = 9,
    RegionWrite = 10,
    DmaRead = 11,
    DmaWrite = 12,
    DeviceReset = 13,
    RegionWriteMulti = 15,
    DeviceFeature = 16,
    MigDataRead = 17,
    MigDataWrite = 18,
}

impl Command {
    /// All commands; 14 was DIRTY_PAGES and is no longer in the specification.
    pub const ALL: [Self; 17] = [
        Self::Version,
        Self::DmaMap,
        Self::DmaUnmap,
        Self::DeviceGetInfo,
        Self::DeviceGetRegionInfo,
        Self::DeviceGetRegionIoFds,
        Self::DeviceGetIrqInfo,
        Self::DeviceSetIrqs,
        Self::RegionRead,
        Self::RegionWrite,
        Self::DmaRead,
        Self::DmaWrite,
        Self::DeviceReset,
        Self::RegionWriteMulti,
        Self::DeviceFeature,
        Self::MigDataRead,
        Self::MigDataWrite,
    ];
}

impl TryFrom<u16> for Command {
    type Error = Malformed;

    fn try_from(number: u16) -> Result<Self, Malformed> {
        Self::ALL
            .into_iter()
            .find(|command| *command as u16 == number)
            .ok_or(Malformed::Unsupported(number))
    }
}

/// Whether a message asks or answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageType {
    /// Bits 0–3 of the flags are 0.
    Command,
    /// Bits 0–3 of the flags are 1.
    Reply,
    /// Anything else.
    Unknown,
}

/// The header: `u16 id, u16 command, u32 size, u32 flags, u32 errno`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Chosen by the sender of a command, echoed by the reply.
    pub id: u16,
    /// The command's number, as it came: it may be one that [`Command`] does not know.
    pub command: u16,
    /// Bytes of the whole message, this header included.
    pub size: u32,
    /// Type, No_reply and Error.
    pub flags: u32,
    /// Set with the Error flag.
    pub errno: u32,
}

impl Header {
    /// Bytes of a header.
    pub const LEN: usize = 16;
    const TYPE_MASK: u32 = 0xf;
    const TYPE_REPLY: u32 = 1;
    const NO_REPLY: u32 = 1 << 4;
    const ERROR: u32 = 1 << 5;

    /// The header of a command with `payload` bytes after it.
    pub fn command(id: u16, command: Command, payload: usize) -> Self {
        Self {
            id,
            command: command as u16,
            size: Self::size_of(payload),
            flags: 0,
            errno: 0,
        }
    }

    /// The header of a reply to `self`, with `payload` bytes after it.
    pub fn reply(&self, payload: usize) -> Self {
        Self {
            size: Self::size_of(payload),
            flags: Self::TYPE_REPLY,
            errno: 0,
            ..*self
        }
    }

    /// The header of an error reply to `self`. It has no payload.
    pub fn error_reply(&self, errno: Errno) -> Self {
        Self {
            size: Self::size_of(0),
            flags: Self::TYPE_REPLY | Self::ERROR,
            errno: errno.raw_os_error().unsigned_abs(),
            ..*self
        }
    }

    /// The same command, with no reply wanted.
    #[must_use]
    pub fn without_reply(self) -> Self {
        Self {
            flags: self.flags | Self::NO_REPLY,
            ..self
        }
    }

    fn size_of(payload: usize) -> u32 {
        u32::try_from(payload.saturating_add(Self::LEN)).unwrap_or(u32::MAX)
    }

    /// Whether this is a command or a reply.
    pub fn message_type(&self) -> MessageType {
        match self.flags & Self::TYPE_MASK {
            0 => MessageType::Command,
            Self::TYPE_REPLY => MessageType::Reply,
            _ => MessageType::Unknown,
        }
    }

    /// Whether the sender wants no reply, not even an error.
    pub fn is_no_reply(&self) -> bool {
        self.flags & Self::NO_REPLY != 0
    }

    /// The errno of an error reply. A server may set the flag and leave the errno 0: that is EIO.
    pub fn error(&self) -> Option<Errno> {
        if self.flags & Self::ERROR == 0 {
            return None;
        }
        match i32::try_from(self.errno) {
            Ok(errno) if (1..4096).contains(&errno) => Some(Errno::from_raw_os_error(errno)),
            _ => Some(Errno::IO),
        }
    }

    /// Parses the front of `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        Ok(Self {
            id: reader.u16()?,
            command: reader.u16()?,
            size: reader.u32()?,
            flags: reader.u32()?,
            errno: reader.u32()?,
        })
    }

    /// The header's bytes.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let fields = self
            .id
            .to_ne_bytes()
            .into_iter()
            .chain(self.command.to_ne_bytes())
            .chain(self.size.to_ne_bytes())
            .chain(self.flags.to_ne_bytes())
            .chain(self.errno.to_ne_bytes());
        for (byte, value) in bytes.iter_mut().zip(fields) {
            *byte = value;
        }
        bytes
    }
}
