//! An eventfd that a client gave us to interrupt it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, readlink};
use rustix::time::Timespec;

use crate::keep::Held;

/// A client's eventfd.
#[derive(Debug)]
pub struct Eventfd {
    fd: OwnedFd,
    /// The client did not make it non-blocking. We do not either: the flag would be the client's
    /// too, whose reads may count on waiting.
    may_block: bool,
    /// While it outlives this process.
    held: Option<Held>,
}

impl Eventfd {
    /// Takes `fd` if it is an eventfd; closes it if it is anything else.
    pub fn from_client(fd: OwnedFd) -> Option<Self> {
        let link = readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new()).ok()?;
        if link.as_bytes() != b"anon_inode:[eventfd]" {
            return None;
        }
        let may_block = !fcntl_getfl(&fd).ok()?.contains(OFlags::NONBLOCK);
        Some(Self {
            fd,
            may_block,
            held: None,
        })
    }

    /// It is held by this.
    pub(super) fn held_by(&mut self, held: Held) {
        self.held = Some(held);
    }

    /// The number under which it is held.
    pub(super) fn held_id(&self) -> Option<u32> {
        self.held.as_ref().map(Held::id)
    }

    /// Adds 1 to the counter, unless that would wait: a counter near its end has been signalled
    /// often enough.
    pub fn signal(&self) {
        if self.may_block && !self.is_writable() {
            return;
        }
        let _ = rustix::io::write(&self.fd, &1_u64.to_ne_bytes());
    }

    fn is_writable(&self) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::OUT)];
        let now = Timespec::default();
        poll(&mut fds, Some(&now)).is_ok_and(|ready| ready == 1)
    }
}

impl AsFd for Eventfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
