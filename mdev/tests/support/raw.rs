//! A client of bytes, which sends what no client would.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::RecvFlags;
use vfu::Errno;
use vfu::socket::{Received, Receiver, Sender};
use vfu::wire::version::{Capabilities, Version};
use vfu::wire::{Command, Header};

use super::offer;

/// What came back for a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A successful reply with this payload.
    Success(Vec<u8>),
    /// An error reply.
    Refused(Errno),
    /// The connection was closed.
    Closed,
}

/// A client of bytes: it sends what no client would.
pub(crate) struct Raw {
    pub(crate) socket: Arc<OwnedFd>,
    sender: Sender,
    receiver: Receiver,
    /// The descriptors that came last.
    pub(crate) fds: Vec<OwnedFd>,
}

impl Raw {
    pub(crate) fn new(socket: UnixStream) -> Self {
        let socket: Arc<OwnedFd> = Arc::new(socket.into());
        Self {
            sender: Sender::new(Arc::clone(&socket)),
            receiver: Receiver::new(Arc::clone(&socket), 64 << 20),
            fds: Vec::new(),
            socket,
        }
    }

    pub(crate) fn agree(&mut self) {
        self.agree_on(offer());
    }

    pub(crate) fn agree_on(&mut self, capabilities: Capabilities) {
        let version = Version {
            major: 0,
            minor: 0,
            capabilities,
        };
        let mut payload = Vec::new();
        version.emit(&mut payload);
        let answer = self.ask(Command::Version as u16, &payload, &[]);
        assert!(matches!(answer, Outcome::Success(_)), "{answer:?}");
    }

    /// Sends bytes as they are. What the other end has closed swallows them.
    pub(crate) fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        let _ = self.sender.send(bytes, fds);
    }

    /// Sends a command and waits for what comes of it.
    pub(crate) fn ask(&mut self, command: u16, payload: &[u8], fds: &[BorrowedFd<'_>]) -> Outcome {
        self.send(&message(7, command, payload), fds);
        let (header, outcome) = self.receive();
        if let Some(header) = header {
            assert_eq!((header.id, header.command), (7, command));
        }
        outcome
    }

    /// Whether a message comes within some time.
    pub(crate) fn has_message(&mut self, within: Duration) -> bool {
        let within = Timespec::try_from(within).unwrap();
        let mut fds = [PollFd::new(&*self.socket, PollFlags::IN)];
        let is_buffered = self.receiver.is_mid_message();
        is_buffered || poll(&mut fds, Some(&within)).unwrap() > 0
    }

    /// The next message, or the end.
    pub(crate) fn receive(&mut self) -> (Option<Header>, Outcome) {
        loop {
            if let Some(frame) = self.receiver.next_frame().unwrap() {
                if !frame.fds.is_empty() {
                    self.fds = frame.fds;
                }
                let outcome = match frame.header.error() {
                    Some(errno) => {
                        assert!(frame.payload.is_empty(), "an error has no payload");
                        Outcome::Refused(errno)
                    }
                    None => Outcome::Success(frame.payload.to_vec()),
                };
                return (Some(frame.header), outcome);
            }
            match self.receiver.receive(RecvFlags::empty()) {
                Ok(Received::Some) => {}
                Ok(Received::Nothing) => panic!("neither an answer nor the end"),
                Ok(Received::Closed) | Err(_) => return (None, Outcome::Closed),
            }
        }
    }

    /// Whether a correct request is answered rightly: the stream is in step.
    pub(crate) fn is_in_step(&mut self) -> bool {
        // The vendor ID of the fake.
        let read = access(0, 7, 2, &[]);
        let mut right = read.clone();
        right.extend([0xfe, 0xff]);
        self.ask(Command::RegionRead as u16, &read, &[]) == Outcome::Success(right)
    }
}

/// A whole command.
pub(crate) fn message(id: u16, command: u16, payload: &[u8]) -> Vec<u8> {
    header(id, command, 16 + payload.len() as u32, 0)
        .into_iter()
        .chain(payload.iter().copied())
        .collect()
}

/// A header that says this, be it right or wrong.
pub(crate) fn header(id: u16, command: u16, size: u32, flags: u32) -> [u8; 16] {
    let header = Header {
        id,
        command,
        size,
        flags,
        errno: 0,
    };
    header.to_bytes()
}

/// Integers of 4 bytes, in a row.
pub(crate) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// The payload of a region access.
pub(crate) fn access(offset: u64, region: u32, count: u32, data: &[u8]) -> Vec<u8> {
    let mut payload = offset.to_ne_bytes().to_vec();
    payload.extend(words(&[region, count]));
    payload.extend(data);
    payload
}

/// The payload of DMA_MAP, or with `offset` left out, of DMA_UNMAP.
pub(crate) fn dma(argsz: u32, flags: u32, longs: &[u64]) -> Vec<u8> {
    let mut payload = words(&[argsz, flags]);
    payload.extend(longs.iter().flat_map(|long| long.to_ne_bytes()));
    payload
}
