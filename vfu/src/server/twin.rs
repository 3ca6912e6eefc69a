//! The socket for the server's own commands.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, socketpair};

use super::FRAME_OVERHEAD;
use crate::socket::{BrokenStream, Received, Receiver, Sender};
use crate::wire::Header;
use crate::wire::header::MessageType;
use crate::wire::version::Capabilities;

/// The server's end of the socket for its own commands.
#[derive(Debug)]
pub(super) struct Twin {
    receiver: Receiver,
    sender: Sender,
}

impl Twin {
    /// Both ends of a fresh socket; the second is the client's.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        Ok((Self::new(ours), theirs))
    }

    pub(super) fn new(ours: OwnedFd) -> Self {
        let ours = Arc::new(ours);
        let max_data = usize::try_from(Capabilities::DEFAULT_MAX_DATA_XFER_SIZE);
        let max_frame = max_data
            .unwrap_or(usize::MAX)
            .saturating_add(FRAME_OVERHEAD);
        Self {
            receiver: Receiver::new(Arc::clone(&ours), max_frame),
            sender: Sender::new(ours),
        }
    }

    /// The writing end.
    pub(super) fn sender(&self) -> &Sender {
        &self.sender
    }

    /// Reads once: a client that never stops must not hold up what else there is to do. An error
    /// says that no more will come.
    pub(super) fn receive(
        &mut self,
        take: &mut impl FnMut(&Header, &[u8]),
    ) -> Result<Received, BrokenStream> {
        let received = self.receiver.receive(RecvFlags::DONTWAIT)?;
        if received == Received::Closed {
            return Err(BrokenStream::Truncated);
        }
        while let Some(frame) = self.receiver.next_frame()? {
            let is_reply = frame.header.message_type() == MessageType::Reply;
            if is_reply && frame.fds.is_empty() {
                take(&frame.header, frame.payload);
            }
        }
        Ok(received)
    }
}

impl AsFd for Twin {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}
