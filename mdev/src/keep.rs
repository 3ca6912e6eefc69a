//! What outlives the process that serves a device: descriptors that are parked elsewhere.

use std::io;
use std::os::fd::BorrowedFd;

/// Who holds duplicates of a process's descriptors, so that they outlive it.
pub trait Park: Send {
    /// Holds these, each under its number. One that was there under that number goes.
    fn park(&mut self, fds: &[(u32, BorrowedFd<'_>)]) -> io::Result<()>;

    /// Lets these go.
    fn release(&mut self, ids: &[u32]) -> io::Result<()>;
}
