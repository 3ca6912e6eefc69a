//! Waiting for a process, among the other things that tokio waits for.

#![expect(
    unsafe_code,
    reason = "tokio cannot see that a borrowed descriptor stays open"
)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits until the process behind `pidfd` has ended: from then on it can be read.
pub(crate) async fn wait(pidfd: &OwnedFd) -> io::Result<()> {
    // SAFETY: the borrow keeps the descriptor open, and the same, for as long as this value is
    // registered: it is dropped at the end of this function, which has the borrow.
    let registered = unsafe { AsyncFd::register_with_interest(pidfd.as_fd(), Interest::READABLE) };
    let registered = registered.map_err(io::Error::from)?;
    registered.readable().await.map(drop)
}
