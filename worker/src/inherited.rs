//! File descriptors that whoever started this process left open: the one for it, and any others.

#![expect(
    unsafe_code,
    reason = "only the command line knows that the descriptor is ours"
)]

use std::ffi::c_uint;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, ensure};
use rustix::io::{FdFlags, fcntl_setfd};

/// Descriptors that may be taken still. Two owners would each close one.
static LEFT: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// Closes every descriptor but the standard streams and `kept`. A program that starts workers from
/// several threads may leave one the socket of another, which must not be lost with it to whoever
/// breaks in. Called at the very start.
pub fn close_others(kept: impl IntoIterator<Item = RawFd>) {
    let mut kept: Vec<_> = kept.into_iter().filter(|fd| *fd > 2).collect();
    kept.sort_unstable();
    kept.dedup();
    let mut first: c_uint = 3;
    for &fd in &kept {
        // All of them are above 2.
        let fd = c_uint::try_from(fd).unwrap_or(first);
        close(first, fd.saturating_sub(1));
        first = fd + 1;
    }
    close(first, c_uint::MAX);
    *LEFT.lock().unwrap_or_else(PoisonError::into_inner) = kept;
}

fn close(first: c_uint, last: c_uint) {
    if first <= last {
        // Kernels before 5.9 do not have it: there they stay open.
        // SAFETY: nothing in this process has opened a descriptor yet, so nobody owns any.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    }
}

/// Takes the descriptor that was inherited under `number` for `option`, once in the life of the
/// process.
pub fn take(option: &str, number: RawFd) -> anyhow::Result<OwnedFd> {
    ensure!(
        number > 2,
        "{option} {number}: 0 to 2 are the standard streams"
    );
    let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    let place = left.iter().position(|fd| *fd == number);
    let place = place.with_context(|| format!("{option} {number} was taken already"))?;
    left.remove(place);
    // SAFETY: borrowed only to ask the kernel about it; if nothing is open there, the kernel says
    // so and the borrow ends.
    let probe = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_setfd(probe, FdFlags::CLOEXEC)
        .with_context(|| format!("{option} {number} is not an open descriptor"))?;
    // SAFETY: it is open, was open before `main` (nothing here opens descriptors under a number
    // from the command line), and is taken once: from now on this is its only owner.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
