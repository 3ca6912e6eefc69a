//! Waiting until a descriptor can be read, among the other things that tokio waits for.

#![expect(
    unsafe_code,
    reason = "tokio cannot see that a borrowed descriptor stays open"
)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits until `fd` can be read: a pidfd from the end of its process on.
pub(crate) async fn wait(fd: &OwnedFd) -> io::Result<()> {
    // SAFETY: the borrow keeps the descriptor open, and the same, for as long as this value is
    // registered: it is dropped at the end of this function, which has the borrow.
    let registered = unsafe { AsyncFd::register_with_interest(fd.as_fd(), Interest::READABLE) };
    let registered = registered.map_err(io::Error::from)?;
    registered.readable().await.map(drop)
}

/// Waits until the other end of a socket is closed, whatever comes over it before.
pub(crate) async fn hung_up(fd: &OwnedFd) -> io::Result<()> {
    // SAFETY: as above.
    let registered = unsafe { AsyncFd::register_with_interest(fd.as_fd(), Interest::READABLE) };
    let registered = registered.map_err(io::Error::from)?;
    loop {
        let mut guard = registered.readable().await?;
        if guard.ready().is_read_closed() {
            return Ok(());
        }
        guard.clear_ready();
    }
}
