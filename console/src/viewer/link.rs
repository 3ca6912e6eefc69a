//! A viewer's socket. Nothing here waits but [`Link::wait`], and what is built on it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::Gone;
use crate::wake::Bell;

/// A viewer's socket.
#[derive(Debug)]
pub(super) struct Link(OwnedFd);

/// What can be done without waiting.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ready {
    pub(super) can_read: bool,
    pub(super) can_write: bool,
    pub(super) rings: bool,
}

impl Link {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Sends what goes at once: how many bytes.
    pub(super) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        match send(&self.0, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(count) => Ok(count),
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// What has come: how many bytes, 0 at the end.
    pub(super) fn receive(&self, bytes: &mut [u8]) -> io::Result<Option<usize>> {
        match recv(&self.0, bytes, RecvFlags::DONTWAIT) {
            Ok((count, _)) => Ok(Some(count)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(Errno::CONNRESET) => Ok(Some(0)),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until something can be read, or sent if that is wanted, or the bell rings; no longer
    /// than `patience`.
    pub(super) fn wait(
        &self,
        to_send: bool,
        bell: Option<&Bell>,
        patience: Option<Duration>,
    ) -> io::Result<Ready> {
        let mut events = PollFlags::IN;
        events.set(PollFlags::OUT, to_send);
        let mut fds = vec![PollFd::new(&self.0, events)];
        fds.extend(bell.map(|bell| PollFd::from_borrowed_fd(bell.as_fd(), PollFlags::IN)));
        let patience = patience.and_then(|patience| Timespec::try_from(patience).ok());
        match poll(&mut fds, patience.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Ready::default()),
            Err(error) => return Err(error.into()),
        }
        let socket = fds.first().map_or(PollFlags::empty(), PollFd::revents);
        let bell = fds.get(1).map_or(PollFlags::empty(), PollFd::revents);
        Ok(Ready {
            // An error or the end is told by reading.
            can_read: socket.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR),
            can_write: to_send && socket.contains(PollFlags::OUT),
            rings: !bell.is_empty(),
        })
    }

    /// Sends all of it before `deadline`.
    pub(super) fn send_all(&self, mut bytes: &[u8], deadline: Instant) -> Result<(), Gone> {
        loop {
            let sent = self.send(bytes)?;
            bytes = bytes.get(sent..).unwrap_or_default();
            if bytes.is_empty() {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Gone::Slow);
            }
            self.wait(true, None, Some(left))?;
        }
    }

    /// Receives exactly so many bytes before `deadline`.
    pub(super) fn receive_exactly<const N: usize>(
        &self,
        deadline: Instant,
    ) -> Result<[u8; N], Gone> {
        let mut bytes = [0; N];
        let mut rest = bytes.as_mut_slice();
        while !rest.is_empty() {
            match self.receive(rest)? {
                Some(0) => return Err(Gone::Left),
                Some(count) => rest = rest.get_mut(count..).unwrap_or_default(),
                None => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(Gone::Slow);
                    }
                    self.wait(false, None, Some(left))?;
                }
            }
        }
        Ok(bytes)
    }
}
