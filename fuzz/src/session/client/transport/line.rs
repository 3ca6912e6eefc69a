//! One socket, both directions.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, sendmsg, shutdown,
};
use vfu::Errno;
use vfu::socket::{Received, Receiver, SCM_MAX_FD};

use super::Came;

/// The largest answer: a report on what was written.
const MAX_FRAME: usize = (32 << 20) + 64;

pub(super) struct Line {
    socket: Arc<OwnedFd>,
    receiver: Receiver,
    pub(super) is_closed: bool,
}

impl Line {
    pub(super) fn new(socket: OwnedFd) -> Self {
        let socket = Arc::new(socket);
        Self {
            receiver: Receiver::new(Arc::clone(&socket), MAX_FRAME),
            socket,
            is_closed: false,
        }
    }

    /// Takes what has come, without waiting.
    pub(super) fn receive(&mut self, is_twin: bool, came: &mut VecDeque<Came>) {
        if self.is_closed {
            return;
        }
        match self.receiver.receive(RecvFlags::DONTWAIT) {
            Ok(Received::Some | Received::Nothing) => {}
            Ok(Received::Closed) => self.is_closed = true,
            Err(error) => panic!("the server's messages are well formed: {error}"),
        }
        while let Some(frame) = self.receiver.next_frame().expect("well formed messages") {
            came.push_back(Came {
                header: frame.header,
                payload: frame.payload.to_vec(),
                fds: frame.fds,
                is_twin,
            });
        }
    }

    /// Sends what there is room for.
    pub(super) fn send_once(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<usize, Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SCM_MAX_FD))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let rights = SendAncillaryMessage::ScmRights(fds);
        assert!(
            fds.is_empty() || ancillary.push(rights),
            "as many as are passed"
        );
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(&*self.socket, &[IoSlice::new(bytes)], &mut ancillary, flags)
    }

    /// Sends no more.
    pub(super) fn hang_up(&self) {
        // It fails where the server has closed.
        let _ = shutdown(&*self.socket, Shutdown::Write);
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
