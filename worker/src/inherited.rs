//! File descriptors that whoever started this process left open: the one for it, and any others.

#![expect(
    unsafe_code,
    reason = "only the command line knows that the descriptor is ours"
)]

use std::ffi::c_uint;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, ensure};
use rustix::io::{FdFlags, fcntl_setfd};

/// Descriptors that were taken. Two owners would each close it.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Closes every descriptor but the standard streams and `kept`. A program that starts workers from
/// several threads may leave one the socket of another, which must not be lost with it to whoever
/// breaks in. Called at the very start.
pub(crate) fn close_others(kept: Option<RawFd>) {
    let (first, last) = (3, c_uint::MAX);
    let close = |first: c_uint, last: c_uint| {
        if first <= last {
            // Kernels before 5.9 do not have it: there they stay open.
            // SAFETY: nothing in this process has opened a descriptor yet, so nobody owns any.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    };
    match kept.and_then(|kept| c_uint::try_from(kept).ok()) {
        Some(kept @ 3..) => {
            close(first, kept - 1);
            close(kept + 1, last);
        }
        _ => close(first, last),
    }
}

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
