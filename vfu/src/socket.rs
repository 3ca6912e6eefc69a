//! Frames over a UNIX stream socket: whole messages, bounded, with their file descriptors.
//!
//! [`Receiver`] reads as much as has come in one system call and hands out message by message.
//! [`Sender`] writes one message in one system call; clones of it share a lock, so that a
//! device's threads may send too.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg, sockopt,
};

use crate::wire::Header;

/// Most file descriptors the kernel passes with one message; `SCM_MAX_FD`.
pub const SCM_MAX_FD: usize = 253;

/// Bytes that are read at a time. Room for hundreds of register accesses.
const READ_LEN: usize = 64 << 10;

/// How long a peer may leave our messages unread before the connection is given up. A client
/// waits 5 s for a reply, so nobody is still waiting for one that leaves later than this.
const SEND_TIMEOUT: Duration = Duration::from_secs(4);

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
    /// More file descriptors came than a message can use.
    #[error("too many file descriptors came with one message")]
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
}

/// The reading end of a connection.
///
/// # Invariants
///
/// `start <= end <= buffer.len()`; the bytes between are received and not yet handed out, and
/// `start` is the first byte of a message.
#[derive(Debug)]
pub struct Receiver {
    socket: Arc<OwnedFd>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Where the last message begins of which anything was received.
    last_message: usize,
    /// Where the message begins that each descriptor belongs to.
    fds: Vec<(usize, OwnedFd)>,
    max_frame: usize,
}

impl Receiver {
    /// Reads from `socket`, and takes messages of up to `max_frame` bytes.
    pub fn new(socket: Arc<OwnedFd>, max_frame: usize) -> Self {
        Self {
            socket,
            buffer: vec![0; READ_LEN],
            start: 0,
            end: 0,
            last_message: 0,
            fds: Vec::new(),
            max_frame,
        }
    }

    /// Changes the largest message that is taken.
    pub fn set_max_frame(&mut self, max_frame: usize) {
        self.max_frame = max_frame;
    }

    /// Whether the front of a message is here and the rest is not.
    pub fn is_mid_message(&self) -> bool {
        self.start != self.end
    }

    /// The next message, if it is here whole.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, BrokenStream> {
        let Some(header) = self.header_at(self.start) else {
            return Ok(None);
        };
        let len = self.frame_len(&header)?;
        if self.end - self.start < len {
            return Ok(None);
        }
        let start = self.start;
        self.start += len;
        let fds = self.take_fds(start);
        Ok(Some(Frame {
            header,
            payload: &self.buffer[start + Header::LEN..start + len],
            fds,
        }))
    }

    /// Reads once, without waiting if `flags` say so.
    pub fn receive(&mut self, flags: RecvFlags) -> Result<Received, BrokenStream> {
        self.make_room()?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SCM_MAX_FD))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let room = &mut self.buffer[self.end..];
        let flags = flags | RecvFlags::CMSG_CLOEXEC;
        let message = match recvmsg(
            &*self.socket,
            &mut [IoSliceMut::new(room)],
            &mut ancillary,
            flags,
        ) {
            Ok(message) => message,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {
                return Ok(Received::Nothing);
            }
            Err(rustix::io::Errno::CONNRESET) => return self.closed(),
            Err(error) => return Err(BrokenStream::Os(error.into())),
        };
        self.end += message.bytes;
        self.find_last_message();
        self.keep_fds(ancillary)?;
        if message.flags.contains(ReturnFlags::CTRUNC) {
            return Err(BrokenStream::TooManyFds);
        }
        if message.bytes == 0 {
            return self.closed();
        }
        Ok(Received::Some)
    }

    fn closed(&self) -> Result<Received, BrokenStream> {
        if self.is_mid_message() {
            Err(BrokenStream::Truncated)
        } else {
            Ok(Received::Closed)
        }
    }

    fn header_at(&self, at: usize) -> Option<Header> {
        Header::parse(self.buffer.get(at..self.end)?).ok()
    }

    fn frame_len(&self, header: &Header) -> Result<usize, BrokenStream> {
        usize::try_from(header.size)
            .ok()
            .filter(|len| (Header::LEN..=self.max_frame).contains(len))
            .ok_or(BrokenStream::FrameSize {
                header: *header,
                size: header.size,
                max: self.max_frame,
            })
    }

    /// Moves what is left to the front, and makes the buffer as long as the message in it, or as
    /// short as usual.
    fn make_room(&mut self) -> Result<(), BrokenStream> {
        if self.start == self.end {
            self.move_to_front();
            if self.buffer.len() > READ_LEN {
                self.buffer = vec![0; READ_LEN];
            }
            return Ok(());
        }
        let len = match self.header_at(self.start) {
            Some(header) => self.frame_len(&header)?,
            None => Header::LEN,
        };
        if self.start + len > self.buffer.len() || self.end == self.buffer.len() {
            self.move_to_front();
            if len > self.buffer.len() {
                self.buffer.resize(len, 0);
            }
        }
        Ok(())
    }

    fn move_to_front(&mut self) {
        self.buffer.copy_within(self.start..self.end, 0);
        for (at, _) in &mut self.fds {
            *at -= self.start;
        }
        self.last_message = self.last_message.saturating_sub(self.start);
        self.end -= self.start;
        self.start = 0;
    }

    /// Descriptors belong to the last message that begins in a read: the kernel ends a read
    /// after the data that carried some, and a sender attaches them to a message's first byte.
    fn find_last_message(&mut self) {
        let mut at = self.last_message.max(self.start);
        while let Some(header) = self.header_at(at) {
            match self.frame_len(&header) {
                Ok(len) if at + len < self.end => at += len,
                _ => break,
            }
        }
        self.last_message = at;
    }

    fn keep_fds(&mut self, mut ancillary: RecvAncillaryBuffer<'_>) -> Result<(), BrokenStream> {
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                let at = self.last_message;
                self.fds.extend(rights.map(|fd| (at, fd)));
            }
        }
        // A sender could put some on every byte of one message.
        if self.fds.len() > SCM_MAX_FD {
            return Err(BrokenStream::TooManyFds);
        }
        Ok(())
    }

    fn take_fds(&mut self, start: usize) -> Vec<OwnedFd> {
        if self.fds.is_empty() {
            return Vec::new();
        }
        let (own, later) = self.fds.drain(..).partition(|(at, _)| *at == start);
        self.fds = later;
        own.into_iter().map(|(_, fd)| fd).collect()
    }
}

/// The writing end of a connection. Clones share it.
#[derive(Clone, Debug)]
pub struct Sender {
    socket: Arc<OwnedFd>,
    /// Held while one message is written, so that messages do not mix.
    turn: Arc<Mutex<()>>,
}

impl Sender {
    /// Writes to `socket`, whose send time-out it sets.
    pub fn new(socket: Arc<OwnedFd>) -> io::Result<Self> {
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(SEND_TIMEOUT))?;
        Ok(Self {
            socket,
            turn: Arc::default(),
        })
    }

    /// Sends one whole message and its file descriptors.
    ///
    /// Header, payload and descriptors leave in one system call: QEMU gives up on a header that
    /// comes in two parts, and looks for descriptors only where it reads the header. After an
    /// error part of the message may have left, so the connection must be closed.
    pub fn send(&self, message: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sent = self.send_once(message, fds)?;
        while let Some(rest) = message.get(sent..).filter(|rest| !rest.is_empty()) {
            sent += self.send_once(rest, &[])?;
        }
        Ok(())
    }

    fn send_once(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SCM_MAX_FD))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        loop {
            match sendmsg(
                &*self.socket,
                &[IoSlice::new(bytes)],
                &mut ancillary,
                SendFlags::NOSIGNAL,
            ) {
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
                other => return Ok(other?),
            }
        }
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
