//! The reading end: bytes in, whole messages out.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::ioctl_fionread;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, RecvMsg, ReturnFlags, recvmsg,
};

use super::{BrokenStream, Frame, Received, SCM_MAX_FD};
use crate::Errno;
use crate::wire::Header;

/// Bytes that are read at a time. Room for hundreds of register accesses.
const READ_LEN: usize = 64 << 10;

/// The reading end of a connection.
///
/// # Invariants
///
/// `start <= end <= buffer.len()`; the bytes between are received and not yet handed out, and
/// `start` is the first byte of a message. `fds` is in the order of the messages.
#[derive(Debug)]
pub struct Receiver {
    socket: Arc<OwnedFd>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Where the message begins that each descriptor belongs to.
    fds: Vec<(usize, OwnedFd)>,
    max_frame: usize,
    may_have_more: bool,
}

impl Receiver {
    /// Reads from `socket`, and takes messages of up to `max_frame` bytes.
    pub fn new(socket: Arc<OwnedFd>, max_frame: usize) -> Self {
        Self {
            socket,
            buffer: vec![0; READ_LEN],
            start: 0,
            end: 0,
            fds: Vec::new(),
            max_frame,
            may_have_more: false,
        }
    }

    /// Changes the largest message that is taken.
    pub fn set_max_frame(&mut self, max_frame: usize) {
        self.max_frame = max_frame;
    }

    /// Whether bytes are here that were not handed out: once [`Self::next_frame`] has no more,
    /// the front of a message whose rest is still to come.
    pub fn is_mid_message(&self) -> bool {
        self.start != self.end
    }

    /// Whether the socket may hold more than the last read took: the kernel ends a read where the
    /// room ends, and after data that carried descriptors.
    pub fn may_have_more(&self) -> bool {
        self.may_have_more
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

    /// Reads once, without waiting if `flags` say so. Reads nothing while a whole message is
    /// here: [`Self::next_frame`] comes first, so that no more than one read is ever held.
    pub fn receive(&mut self, flags: RecvFlags) -> Result<Received, BrokenStream> {
        let len = self.next_len()?;
        if self.end - self.start >= len {
            return Ok(Received::Some);
        }
        self.make_room(len);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SCM_MAX_FD))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let message = match self.read(flags, &mut ancillary) {
            Ok(message) => message,
            Err(Errno::AGAIN) => {
                self.may_have_more = false;
                return Ok(Received::Nothing);
            }
            Err(Errno::CONNRESET) => return self.closed(),
            Err(error) => return Err(BrokenStream::Os(error.into())),
        };
        let fds_before = self.fds.len();
        self.end += message.bytes;
        self.keep_fds(ancillary)?;
        self.may_have_more = if self.fds.len() > fds_before {
            // Less than a read that finds nothing; and a client that maps waits for the answer.
            ioctl_fionread(&self.socket).map_or(true, |unread| unread > 0)
        } else {
            self.end == self.buffer.len()
        };
        if message.flags.contains(ReturnFlags::CTRUNC) {
            return Err(BrokenStream::TooManyFds);
        }
        if message.bytes == 0 {
            return self.closed();
        }
        Ok(Received::Some)
    }

    fn read(
        &mut self,
        flags: RecvFlags,
        ancillary: &mut RecvAncillaryBuffer<'_>,
    ) -> Result<RecvMsg, Errno> {
        let flags = flags | RecvFlags::CMSG_CLOEXEC;
        loop {
            let mut room = [IoSliceMut::new(&mut self.buffer[self.end..])];
            match recvmsg(&*self.socket, &mut room, ancillary, flags) {
                Err(Errno::INTR) => {}
                other => return other,
            }
        }
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

    /// Bytes of the next message, as far as is known.
    fn next_len(&self) -> Result<usize, BrokenStream> {
        match self.header_at(self.start) {
            Some(header) => self.frame_len(&header),
            None => Ok(Header::LEN),
        }
    }

    /// Makes room for the rest of the next message, which has `len` bytes and is not here whole.
    ///
    /// A byte moves at most once: only if its message does not fit where it began.
    fn make_room(&mut self, len: usize) {
        if self.start == self.end {
            let was_large = self.end > READ_LEN;
            (self.start, self.end) = (0, 0);
            // The buffer stays long for as long as large messages come.
            if self.buffer.len() > READ_LEN && !was_large {
                self.buffer = vec![0; READ_LEN];
            }
        }
        if self.start + len > self.buffer.len() {
            self.move_to_front();
            if len > self.buffer.len() {
                self.buffer.resize(len, 0);
            }
        }
    }

    fn move_to_front(&mut self) {
        self.buffer.copy_within(self.start..self.end, 0);
        for (at, _) in &mut self.fds {
            *at -= self.start;
        }
        self.end -= self.start;
        self.start = 0;
    }

    /// Where the message begins that holds the last byte.
    fn last_message(&self) -> usize {
        let mut at = self.start;
        while let Some(header) = self.header_at(at)
            && let Ok(len) = self.frame_len(&header)
            && at + len < self.end
        {
            at += len;
        }
        at
    }

    /// Descriptors belong to the last message that begins in a read: the kernel ends a read
    /// after the data that carried some, and a sender attaches them to a message's first byte.
    fn keep_fds(&mut self, mut ancillary: RecvAncillaryBuffer<'_>) -> Result<(), BrokenStream> {
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                let at = self.last_message();
                self.fds.extend(rights.map(|fd| (at, fd)));
                // A sender could put some on every byte of one message.
                let earlier = self.fds.partition_point(|(of, _)| *of < at);
                if self.fds.len() - earlier > SCM_MAX_FD {
                    return Err(BrokenStream::TooManyFds);
                }
            }
        }
        Ok(())
    }

    fn take_fds(&mut self, start: usize) -> Vec<OwnedFd> {
        let own = self.fds.partition_point(|(at, _)| *at <= start);
        self.fds.drain(..own).map(|(_, fd)| fd).collect()
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;
    use crate::wire::Command;

    #[test]
    fn the_buffer_is_long_only_while_large_messages_come() {
        let (peer, socket) = UnixStream::pair().unwrap();
        let mut receiver = Receiver::new(Arc::new(socket.into()), 1 << 20);
        let large = (1 << 20) - Header::LEN;
        for (len, expected) in [
            (100, READ_LEN),
            (large, 1 << 20),
            (large, 1 << 20),
            (100, 1 << 20),
            (100, READ_LEN),
        ] {
            let header = Header::command(0, Command::RegionWrite, len);
            let message = [&header.to_bytes()[..], &vec![0; len]].concat();
            let mut writer = peer.try_clone().unwrap();
            let writer = thread::spawn(move || writer.write_all(&message).unwrap());
            while receiver.next_frame().unwrap().is_none() {
                receiver.receive(RecvFlags::empty()).unwrap();
            }
            writer.join().unwrap();
            assert_eq!(receiver.buffer.len(), expected, "{len}");
        }
    }

    #[test]
    fn a_byte_is_moved_once_at_most() {
        let (mut peer, socket) = UnixStream::pair().unwrap();
        let mut receiver = Receiver::new(Arc::new(socket.into()), READ_LEN);
        // Messages of a third and a bit: every third does not fit where it begins.
        let len = READ_LEN / 3 + 100;
        let header = Header::command(0, Command::RegionWrite, len - Header::LEN);
        let mut message = header.to_bytes().to_vec();
        message.resize(len, 0);
        let mut moves = 0;
        for piece in message.repeat(9).chunks(100) {
            peer.write_all(piece).unwrap();
            let before = receiver.start;
            receiver.receive(RecvFlags::DONTWAIT).unwrap();
            moves += usize::from(receiver.start < before);
            while receiver.next_frame().unwrap().is_some() {}
        }
        assert!((1..9).contains(&moves), "{moves} moves for 9 messages");
    }
}
