//! An eventfd that a client gave us to interrupt it.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, readlink};
use rustix::time::Timespec;

/// A client's eventfd.
#[derive(Debug)]
pub struct Eventfd {
    fd: OwnedFd,
    /// The client did not make it non-blocking. We do not either: the flag would be the client's
    /// too, whose reads may count on waiting.
    may_block: bool,
}

impl Eventfd {
    /// Takes `fd` if it is an eventfd; closes it if it is anything else.
    pub fn from_client(fd: OwnedFd) -> Option<Self> {
        let link = readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new()).ok()?;
        if link.as_bytes() != b"anon_inode:[eventfd]" {
            return None;
        }
        let may_block = !fcntl_getfl(&fd).ok()?.contains(OFlags::NONBLOCK);
        Some(Self { fd, may_block })
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
