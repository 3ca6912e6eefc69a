//! A file descriptor that whoever started this process left open for it.

#![expect(
    unsafe_code,
    reason = "only the command line knows that the descriptor is ours"
)]

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, ensure};
use rustix::io::{FdFlags, fcntl_setfd};

/// Descriptors that were taken. Two owners would each close it.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes the descriptor that was inherited under `number`, once in the life of the process.
pub(crate) fn take(number: RawFd) -> anyhow::Result<OwnedFd> {
    ensure!(number > 2, "--fd {number}: 0 to 2 are the standard streams");
    ensure!(
        !TAKEN.swap(true, Ordering::Relaxed),
        "--fd can be taken once"
    );
    // SAFETY: borrowed only to ask the kernel about it; if nothing is open there, the kernel says
    // so and the borrow ends.
    let probe = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_setfd(probe, FdFlags::CLOEXEC)
        .with_context(|| format!("--fd {number} is not an open descriptor"))?;
    // SAFETY: it is open, was open before `main` (nothing here opens descriptors under a number
    // from the command line), and is taken once: from now on this is its only owner.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
