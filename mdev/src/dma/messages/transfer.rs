//! One DMA_READ or DMA_WRITE as bytes, in the two ways that clients lay them out.

use vfu::wire::dma::DmaAccess;
use vfu::wire::{Command, Header};

use super::MessageError;
use crate::dma::iova::{Iova, IovaRange};

/// How a client lays out DMA_READ and DMA_WRITE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// As the specification says: data after 16 bytes.
    Specified,
    /// QEMU 10: a 32-bit count, data after 12 bytes, replies to writes without a payload.
    Early,
}

impl Layout {
    const ALL: [Self; 2] = [Self::Specified, Self::Early];

    fn data_at(self) -> usize {
        match self {
            Self::Specified => DmaAccess::LEN,
            Self::Early => 12,
        }
    }

    /// The layout that a reply to a read of `len` bytes has, and its data.
    pub(super) fn of_read(reply: &[u8], len: usize) -> Result<(Self, &[u8]), MessageError> {
        let head = reply.len().checked_sub(len);
        let layout = Self::ALL.into_iter().find(|it| head == Some(it.data_at()));
        let layout = layout.ok_or(MessageError::Garbled)?;
        let data = reply.get(layout.data_at()..).unwrap_or_default();
        Ok((layout, data))
    }

    /// The layout that a reply to a write of `len` bytes has.
    pub(super) fn of_write(reply: &[u8], len: usize) -> Result<Self, MessageError> {
        if reply.is_empty() {
            return Ok(Self::Early);
        }
        match DmaAccess::parse(reply) {
            Ok((done, [])) if done.count == len as u64 => Ok(Self::Specified),
            _ => Err(MessageError::Garbled),
        }
    }
}

/// What one message carries.
pub(super) struct Transfer<'a> {
    pub(super) command: Command,
    at: Iova,
    len: usize,
    /// Empty for a read.
    data: &'a [u8],
}

impl<'a> Transfer<'a> {
    pub(super) fn read(at: Iova, len: usize) -> Self {
        Self {
            command: Command::DmaRead,
            at,
            len,
            data: &[],
        }
    }

    pub(super) fn write(at: Iova, data: &'a [u8]) -> Self {
        Self {
            command: Command::DmaWrite,
            at,
            len: data.len(),
            data,
        }
    }

    /// What is read or written; `None` where nothing is.
    pub(super) fn range(&self) -> Option<IovaRange> {
        IovaRange::new(self.at, self.len as u64)
    }

    pub(super) fn emit(&self, id: u16, layout: Layout) -> Vec<u8> {
        let fixed = layout.data_at();
        let header = Header::command(id, self.command, fixed + self.data.len());
        let mut message = Vec::with_capacity(Header::LEN + fixed + self.data.len());
        message.extend(header.to_bytes());
        match layout {
            Layout::Specified => DmaAccess {
                address: self.at.0,
                count: self.len as u64,
            }
            .emit(&mut message),
            Layout::Early => {
                message.extend(self.at.0.to_ne_bytes());
                message.extend((self.len as u32).to_ne_bytes());
            }
        }
        message.extend(self.data);
        message
    }
}
