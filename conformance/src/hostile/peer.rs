//! A connection that is written and read without ever waiting long, whatever the server does.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;

use crate::check::Unmet;
use crate::connection::{Connection, Received, receive_some, send_some, wait};
use crate::ensure;
use crate::negotiated::OFFER;
use crate::payload::{self, version};
use crate::target::Target;

/// What became of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// The kernel has them all.
    All,
    /// The server has closed, or this end gave up on it.
    Closed,
}

/// A hostile client.
#[derive(Debug)]
pub(super) struct Peer {
    connection: Connection,
    /// Whether it takes what comes back.
    pub(super) reads: bool,
    room: Vec<u8>,
}

impl Peer {
    pub(super) fn new(target: &Target) -> Result<Self, Unmet> {
        Ok(Self {
            connection: target.connect()?,
            reads: true,
            room: vec![0; 64 << 10],
        })
    }

    /// Agrees on a version, so that what follows is taken for commands; `false` if the server
    /// lets it go: it may still be busy with the one before.
    pub(super) fn agree(&mut self, target: &Target) -> Result<bool, Unmet> {
        let text = [OFFER.as_bytes(), b"\0"].concat();
        let message = payload::message(0, 1, 0, &version(0, 0, &text));
        if !self.connection.send_while_taken(&message, &[])? {
            return Ok(false);
        }
        match self.connection.receive_within(target.patience())? {
            Some(Received::Message(message)) => Ok(message.header.flags & payload::ERROR == 0),
            Some(Received::Closed) => Ok(false),
            None => Err(Unmet::fail("VERSION is not answered any more")),
        }
    }

    /// Sends bytes with `fds` on the first of them, taking meanwhile what comes back.
    pub(super) fn send(
        &mut self,
        mut bytes: &[u8],
        mut fds: &[BorrowedFd<'_>],
    ) -> Result<Sent, Unmet> {
        let deadline = Instant::now() + self.connection.patience();
        while !bytes.is_empty() {
            match send_some(self.connection.as_fd(), bytes, fds) {
                Ok(sent) => (bytes, fds) = (bytes.get(sent..).unwrap_or_default(), &[]),
                Err(Errno::INTR) => {}
                // Too many descriptors are on their way.
                Err(Errno::TOOMANYREFS) => fds = &[],
                Err(Errno::AGAIN) if !self.reads => return Ok(Sent::Closed),
                Err(Errno::AGAIN) => {
                    if !self.drain()? {
                        return Ok(Sent::Closed);
                    }
                    ensure!(
                        Instant::now() < deadline,
                        "the server does not read any more"
                    );
                    // Short: what makes it stop may be what was not yet taken.
                    let soon = Instant::now() + Duration::from_millis(20);
                    let events = PollFlags::OUT | PollFlags::IN;
                    wait(self.connection.as_fd(), events, soon.min(deadline))?;
                }
                Err(Errno::PIPE | Errno::CONNRESET) => return Ok(Sent::Closed),
                Err(error) => return Err(error.into()),
            }
        }
        if self.reads && !self.drain()? {
            return Ok(Sent::Closed);
        }
        Ok(Sent::All)
    }

    /// Takes what has come, and closes the descriptors in it; `false` at the end.
    fn drain(&mut self) -> Result<bool, Unmet> {
        // A bound: a server could send for ever.
        for _ in 0..1000 {
            let mut fds = Vec::new();
            match receive_some(self.connection.as_fd(), &mut self.room, &mut fds) {
                Ok(0) | Err(Errno::CONNRESET) => return Ok(false),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }
}
