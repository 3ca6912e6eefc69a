//! Frames over a UNIX stream socket: whole messages, bounded, with their file descriptors.
//!
//! [`Receiver`] reads as much as has come in one system call and hands out message by message.
//! [`Sender`] writes one message in one system call; clones of it share a lock, so that a
//! device's threads may send too.

mod receiver;
mod sender;

pub use receiver::Receiver;
pub use sender::Sender;

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;

use crate::wire::Header;

pub use kept::SCM_MAX_FD;

/// Why a connection cannot go on. The stream may be out of step, so it is closed.
#[derive(Debug, thiserror::Error)]
pub enum BrokenStream {
    /// A frame announces a size that no message has.
    #[error("a message announces {size} bytes; between 16 and {max} are possible")]
    FrameSize {
        /// The header of it, to answer before closing.
        header: Header,
        /// What it announces.
        size: u32,
        /// The most that was agreed on.
        max: usize,
    },
    /// More file descriptors came than a message can use, or than this process may open.
    #[error("more file descriptors came with one message than can be taken")]
    TooManyFds,
    /// The other end closed in the middle of a message.
    #[error("the connection closed in the middle of a message")]
    Truncated,
    /// The kernel said no.
    #[error("the socket failed")]
    Os(#[source] io::Error),
}

/// What one attempt to read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Some bytes; perhaps a whole message.
    Some,
    /// Nothing there yet.
    Nothing,
    /// The other end has closed between two messages.
    Closed,
}

/// One whole message.
#[derive(Debug)]
pub struct Frame<'a> {
    /// Its header.
    pub header: Header,
    /// What follows the header.
    pub payload: &'a [u8],
    /// The file descriptors that came with it.
    pub fds: Vec<OwnedFd>,
    /// Where it lies in the stream, in bytes from the beginning.
    pub position: Range<u64>,
}
