//! The client's socket: sends in whatever pieces, and never waits for room without reading.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, sendmsg, shutdown,
};
use vfu::Errno;
use vfu::socket::{Received, Receiver, SCM_MAX_FD};
use vfu::wire::Header;

use crate::session::descriptors::Pool;

/// The largest answer: 1 MiB of data and its head.
const MAX_FRAME: usize = (1 << 20) + 64;

/// Longer than any answer takes.
const DEADLINE: Duration = Duration::from_secs(9);

pub(super) struct Transport {
    socket: Arc<OwnedFd>,
    receiver: Receiver,
    /// What came while there was no room to send.
    came: Vec<(Header, Vec<u8>, usize)>,
    held: Vec<u8>,
    split: Option<usize>,
    is_closed: bool,
}

impl Transport {
    pub(super) fn new(socket: OwnedFd) -> Self {
        let socket = Arc::new(socket);
        Self {
            receiver: Receiver::new(Arc::clone(&socket), MAX_FRAME),
            socket,
            came: Vec::new(),
            held: Vec::new(),
            split: None,
            is_closed: false,
        }
    }

    /// Whether there is nobody to talk to.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Cuts the next message in two.
    pub(super) fn split_next(&mut self, at: usize) {
        self.split = Some(at);
    }

    /// Sends bytes together with the next ones.
    pub(super) fn hold(&mut self, bytes: &[u8]) {
        self.held.extend(bytes);
    }

    /// Sends what is held.
    pub(super) fn flush(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.transmit(&held, &[]);
    }

    /// Sends bytes. Descriptors go with their first one.
    pub(super) fn send(&mut self, bytes: &[u8], fds: &[u8], pool: &mut Pool) {
        let split = self.split.take();
        if !fds.is_empty() || split.is_some() {
            self.flush();
        }
        let mut bytes = [&std::mem::take(&mut self.held)[..], bytes].concat();
        let rest = bytes.split_off(split.unwrap_or(bytes.len()).min(bytes.len()));
        let own = pool.all(fds);
        self.transmit(&bytes, &own);
        // Nothing goes with no byte at all.
        self.transmit(&rest, if bytes.is_empty() { &own } else { &[] });
    }

    fn transmit(&mut self, mut bytes: &[u8], mut fds: &[BorrowedFd<'_>]) {
        while !bytes.is_empty() && !self.is_closed {
            match send_once(&self.socket, bytes, fds) {
                Ok(sent) => {
                    bytes = &bytes[sent..];
                    fds = &[];
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.wait(PollFlags::IN | PollFlags::OUT, DEADLINE);
                    self.receive_now();
                    self.keep();
                }
                Err(Errno::PIPE | Errno::CONNRESET) => self.is_closed = true,
                Err(error) => panic!("a message cannot be sent: {error}"),
            }
        }
    }

    /// Waits for something to come.
    pub(super) fn receive(&mut self) {
        assert!(
            self.receive_within(DEADLINE),
            "neither an answer nor the end"
        );
    }

    /// The same, for some time.
    pub(super) fn receive_within(&mut self, time: Duration) -> bool {
        let has_come = !self.is_closed && self.wait(PollFlags::IN, time);
        self.receive_now();
        has_come
    }

    /// Takes what has come.
    pub(super) fn receive_now(&mut self) {
        if self.is_closed || !self.came.is_empty() {
            return;
        }
        match self.receiver.receive(RecvFlags::DONTWAIT) {
            Ok(Received::Some | Received::Nothing) => {}
            Ok(Received::Closed) => self.is_closed = true,
            Err(error) => panic!("the server's messages are well formed: {error}"),
        }
    }

    /// The next message: header, payload and the number of its descriptors.
    pub(super) fn next_message(&mut self) -> Option<(Header, Vec<u8>, usize)> {
        if self.came.is_empty() {
            self.keep();
        }
        (!self.came.is_empty()).then(|| self.came.remove(0))
    }

    /// Puts messages aside.
    fn keep(&mut self) {
        while let Some(frame) = self.receiver.next_frame().expect("well formed messages") {
            self.came
                .push((frame.header, frame.payload.to_vec(), frame.fds.len()));
        }
    }

    /// Sends no more.
    pub(super) fn hang_up(&mut self) {
        self.flush();
        // It fails where the server has closed.
        let _ = shutdown(&*self.socket, Shutdown::Write);
    }

    fn wait(&self, flags: PollFlags, time: Duration) -> bool {
        let time = Timespec::try_from(time).expect("a time");
        let mut fds = [PollFd::new(&*self.socket, flags)];
        loop {
            match poll(&mut fds, Some(&time)) {
                Ok(ready) => return ready > 0,
                Err(Errno::INTR) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn send_once(socket: &OwnedFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SCM_MAX_FD))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        assert!(
            ancillary.push(SendAncillaryMessage::ScmRights(fds)),
            "as many as are passed"
        );
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(
        socket.as_fd(),
        &[IoSlice::new(bytes)],
        &mut ancillary,
        flags,
    )
}
