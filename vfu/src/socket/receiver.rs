//! The reading end: bytes in, whole messages out.

use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use kept::Inbox;
use rustix::io::ioctl_fionread;
use rustix::net::RecvFlags;

use super::{BrokenStream, Frame, Received, SCM_MAX_FD};
use crate::Errno;
use crate::wire::Header;

/// Bytes that are read at a time. Room for hundreds of register accesses.
const READ_LEN: usize = 64 << 10;

/// The reading end of a connection.
///
/// # Invariants
///
/// The inbox begins with a message that was not handed out. `fds` is in the order of the messages.
#[derive(Debug)]
pub struct Receiver {
    socket: Arc<OwnedFd>,
    inbox: Inbox,
    /// The position of the message that each descriptor belongs to.
    fds: Vec<(u64, OwnedFd)>,
    max_frame: usize,
    may_have_more: bool,
    /// Whether a message came lately that is longer than a read.
    was_large: bool,
}

impl Receiver {
    /// Reads from `socket`, and takes messages of up to `max_frame` bytes.
    pub fn new(socket: Arc<OwnedFd>, max_frame: usize) -> Self {
        Self::resume(socket, max_frame, Inbox::private(2 * READ_LEN))
    }

    /// Goes on with what has come on `socket` before. Of an inbox in kept memory the capacity is
    /// [`Self::kept_capacity`].
    pub fn resume(socket: Arc<OwnedFd>, max_frame: usize, inbox: Inbox) -> Self {
        Self {
            socket,
            inbox,
            fds: Vec::new(),
            max_frame,
            may_have_more: true,
            was_large: false,
        }
    }

    /// The capacity of an inbox that never has to be moved for messages of up to `max_frame` bytes.
    pub const fn kept_capacity(max_frame: usize) -> usize {
        2 * (max_frame + READ_LEN)
    }

    /// Changes the largest message that is taken.
    pub fn set_max_frame(&mut self, max_frame: usize) {
        self.max_frame = max_frame;
    }

    /// What has come.
    pub fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Whether bytes are here that were not handed out: once [`Self::next_frame`] has no more,
    /// the front of a message whose rest is still to come.
    pub fn is_mid_message(&self) -> bool {
        self.inbox.next() != self.inbox.end()
    }

    /// Whether the socket may hold more than the last read took: the kernel ends a read where the
    /// room ends, and after data that carried descriptors.
    pub fn may_have_more(&self) -> bool {
        self.may_have_more
    }

    /// The next message, if it is here whole. The one before is dealt with.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, BrokenStream> {
        self.next_frame_if(|_| true)
    }

    /// The next message, if it is here whole and `is_wanted` says so of where it lies.
    pub fn next_frame_if(
        &mut self,
        is_wanted: impl FnOnce(&Range<u64>) -> bool,
    ) -> Result<Option<Frame<'_>>, BrokenStream> {
        self.inbox.deal();
        let unread = self.inbox.unread();
        let Ok(header) = Header::parse(unread) else {
            return Ok(None);
        };
        let len = self.frame_len(&header)?;
        if unread.len() < len {
            return Ok(None);
        }
        let start = self.inbox.next();
        let position = start..start + len as u64;
        if !is_wanted(&position) {
            return Ok(None);
        }
        let fds = self.take_fds(start);
        let frame = self.inbox.hand_out(len);
        Ok(Some(Frame {
            header,
            payload: &frame[Header::LEN..],
            fds,
            position,
        }))
    }

    /// A message that was handed out once and is still here: the first from `position` on. `None`
    /// from [`Inbox::start`] on.
    pub fn past_frame(&self, position: u64) -> Option<Frame<'_>> {
        let head = position.checked_add(Header::LEN as u64)?;
        let header = Header::parse(self.inbox.bytes(position..head)?).ok()?;
        let end = position.checked_add(self.frame_len(&header).ok()? as u64)?;
        if end > self.inbox.start() {
            return None;
        }
        Some(Frame {
            header,
            payload: self.inbox.bytes(head..end)?,
            fds: Vec::new(),
            position: position..end,
        })
    }

    /// Reads once, without waiting if `flags` say so. Reads nothing while a whole message is
    /// here: [`Self::next_frame`] comes first, so that no more than one read is ever held.
    pub fn receive(&mut self, flags: RecvFlags) -> Result<Received, BrokenStream> {
        let len = self.next_len()?;
        let unread = self.inbox.unread().len();
        if unread >= len {
            return Ok(Received::Some);
        }
        self.make_room(len)?;
        let received = loop {
            let most = READ_LEN.max(len - unread);
            match self.inbox.receive(&*self.socket, most, flags) {
                Ok(received) => break received,
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::INTR) => {}
                    Some(Errno::AGAIN) => {
                        self.may_have_more = false;
                        return Ok(Received::Nothing);
                    }
                    Some(Errno::CONNRESET) => return self.closed(),
                    _ => return Err(BrokenStream::Os(error)),
                },
            }
        };
        self.may_have_more = if received.fds.is_empty() {
            received.is_full
        } else {
            // Less than a read that finds nothing; and a client that maps waits for the answer.
            ioctl_fionread(&self.socket).map_or(true, |unread| unread > 0)
        };
        self.keep_fds(received.fds)?;
        if received.is_cut_off {
            return Err(BrokenStream::TooManyFds);
        }
        if received.bytes == 0 {
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

    /// Bytes of the next message, as far as is known.
    fn next_len(&self) -> Result<usize, BrokenStream> {
        match Header::parse(self.inbox.unread()) {
            Ok(header) => self.frame_len(&header),
            Err(_) => Ok(Header::LEN),
        }
    }

    /// Makes room for the rest of the next message, which has `len` bytes and is not here whole.
    fn make_room(&mut self, len: usize) -> Result<(), BrokenStream> {
        self.inbox.deal();
        if 2 * len > self.inbox.capacity() {
            self.inbox = self.inbox.moved(Self::kept_capacity(len));
        }
        self.inbox.make_room(len);
        // Memory is given back once large messages come no more.
        let is_large = len > READ_LEN;
        if self.was_large && !is_large && !self.is_mid_message() {
            self.inbox.shrink(READ_LEN);
        }
        self.was_large = is_large || (self.was_large && self.is_mid_message());
        Ok(())
    }

    /// Where the message begins that holds the last byte.
    fn last_message(&self) -> u64 {
        let mut at = self.inbox.next();
        let end = self.inbox.end();
        while let Some(bytes) = self.inbox.bytes(at..end)
            && let Ok(header) = Header::parse(bytes)
            && let Ok(len) = self.frame_len(&header)
            && at + (len as u64) < end
        {
            at += len as u64;
        }
        at
    }

    /// Descriptors belong to the last message that begins in a read: the kernel ends a read
    /// after the data that carried some, and a sender attaches them to a message's first byte.
    fn keep_fds(&mut self, fds: Vec<OwnedFd>) -> Result<(), BrokenStream> {
        if fds.is_empty() {
            return Ok(());
        }
        let at = self.last_message();
        self.fds.extend(fds.into_iter().map(|fd| (at, fd)));
        // A sender could put some on every byte of one message.
        let earlier = self.fds.partition_point(|(of, _)| *of < at);
        match self.fds.len() - earlier {
            0..=SCM_MAX_FD => Ok(()),
            _ => Err(BrokenStream::TooManyFds),
        }
    }

    fn take_fds(&mut self, start: u64) -> Vec<OwnedFd> {
        let own = self.fds.partition_point(|(at, _)| *at <= start);
        self.fds.drain(..own).map(|(_, fd)| fd).collect()
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
