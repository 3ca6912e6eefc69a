//! Bytes to values and back: one file for each group of commands.
//!
//! Integers travel in the byte order of the host. Each message type has `parse`, which takes a
//! payload (what follows the [`Header`]) and never panics, and `emit`, which appends it.

#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation
)]

pub mod access;
pub mod device;
pub mod dma;
pub mod feature;
pub mod header;
pub mod io_fds;
pub mod irq;
pub mod migration;
pub mod region;
pub mod request;
pub mod version;

pub use header::{Command, Header};
pub use request::Request;

use crate::Errno;

/// What is wrong with a message. The frame around it was whole, so the stream is in step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The payload ends before the fixed part of the message.
    #[error("the message is too short")]
    Short,
    /// The payload is longer than what the message announces.
    #[error("the message is longer than what it announces")]
    TooLong,
    /// `argsz` is less than the fixed part of the structure.
    #[error("argsz {0} is less than the structure")]
    Argsz(u32),
    /// A flag that is not known, or two that exclude each other.
    #[error("flags {0:#x} are not valid here")]
    Flags(u32),
    /// A count or a range that wraps, or is more than a message may carry.
    #[error("a count or range is out of bounds")]
    Range,
    /// More, or fewer, file descriptors than the message takes.
    #[error("{0} file descriptors came with a message that takes {1}")]
    Fds(usize, &'static str),
    /// A command that is not known, or not supported.
    #[error("command {0} is not supported")]
    Unsupported(u16),
    /// DEVICE_FEATURE of a feature that is not known.
    #[error("there is no device feature {0}")]
    Feature(u16),
    /// VERSION came a second time.
    #[error("VERSION came after the version was agreed on")]
    VersionAgain,
    /// A reply to nothing that was asked.
    #[error("a reply came that nobody waits for")]
    UnexpectedReply,
}

impl Malformed {
    /// What the sender is told.
    pub fn errno(self) -> Errno {
        Errno::INVAL
    }
}

/// Takes fixed-size integers off the front of a payload.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.take().map(u16::from_ne_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.take().map(u32::from_ne_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.take().map(u64::from_ne_bytes)
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(head)
    }

    /// Whatever is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Ends the parse of a message that has an exact length.
    pub(crate) fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed::TooLong)
        }
    }
}

/// `argsz` of a structure whose fixed part has `len` bytes.
pub(crate) fn check_argsz(argsz: u32, len: usize) -> Result<u32, Malformed> {
    if usize::try_from(argsz).is_ok_and(|argsz| argsz >= len) {
        Ok(argsz)
    } else {
        Err(Malformed::Argsz(argsz))
    }
}
