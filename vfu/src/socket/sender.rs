//! The writing end: whole messages, one after the other.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, sendmsg, shutdown,
};

use super::SCM_MAX_FD;
use crate::Errno;

/// How long a peer may take to make room for one message before the connection is given up. A
/// client waits 5 s for a reply, so nobody is still waiting for one that leaves later than this.
const SEND_TIMEOUT: Duration = Duration::from_secs(4);

/// The writing end of a connection. Clones share it.
#[derive(Clone, Debug)]
pub struct Sender {
    socket: Arc<OwnedFd>,
    /// Held while one message is written, so that messages do not mix.
    turn: Arc<Mutex<()>>,
    timeout: Duration,
}

impl Sender {
    /// Writes to `socket`.
    pub fn new(socket: Arc<OwnedFd>) -> Self {
        Self::with_timeout(socket, SEND_TIMEOUT)
    }

    fn with_timeout(socket: Arc<OwnedFd>, timeout: Duration) -> Self {
        Self {
            socket,
            turn: Arc::default(),
            timeout,
        }
    }

    /// Sends one whole message and its file descriptors.
    ///
    /// Header, payload and descriptors leave in one system call: QEMU gives up on a header that
    /// comes in two parts, and looks for descriptors only where it reads the header. After an
    /// error part of the message may have left, so the socket is shut down, for every clone and
    /// for the reading end as well.
    pub fn send(&self, message: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        if fds.len() > SCM_MAX_FD {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.send_all(message, fds).inspect_err(|_| {
            // It fails if the connection is gone, and then there is nothing to shut down.
            let _ = shutdown(&*self.socket, Shutdown::Both);
        })
    }

    /// Does not wait in `sendmsg`, which waits anew for each piece of a large message: a peer
    /// that reads a little now and then would hold it up for minutes.
    fn send_all(&self, mut message: &[u8], mut fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let deadline = Instant::now() + self.timeout;
        while !message.is_empty() {
            match self.send_once(message, fds) {
                Ok(sent) => {
                    message = message.get(sent..).unwrap_or_default();
                    fds = &[];
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait_for_room(deadline)?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn send_once(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<usize, Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SCM_MAX_FD))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(Errno::INVAL);
        }
        sendmsg(
            &*self.socket,
            &[IoSlice::new(bytes)],
            &mut ancillary,
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        )
    }

    fn wait_for_room(&self, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut fds = [PollFd::new(&*self.socket, PollFlags::OUT)];
        match poll(&mut fds, Some(&left)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
