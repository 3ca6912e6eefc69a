//! What happens when the filter refuses a system call: the kernel sends SIGSYS in its place, the
//! handler names the call in the log, and the process ends by the same signal, so that whoever
//! started it can tell.
//!
//! A few files the C library tries to open by itself, at times nobody chooses, and does without.
//! Those it is told not to be there.

#![expect(unsafe_code, reason = "a signal handler")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr;

use anyhow::Context;

use super::names;

/// What the C library opens by itself.
const DONE_WITHOUT: [&CStr; 3] = [
    // malloc, before it gives memory of a thread's heap back: whether it must keep it reserved.
    c"/proc/sys/vm/overcommit_memory",
    // getrandom of glibc 2.41, for a guess at how many threads there will be.
    c"/sys/devices/system/cpu/online",
    c"/proc/stat",
];

/// Installs the handler.
pub(super) fn install() -> anyhow::Result<()> {
    // SAFETY: all-zero is a valid `sigaction`: no flags, an empty mask, the default action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handle as *const () as usize;
    // Not deferred: the end comes from inside the handler.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_NODEFER;
    // SAFETY: `handle` has the signature that SA_SIGINFO asks for, and is async-signal-safe: it
    // reads constants and makes system calls. Nobody needs the old action.
    if unsafe { libc::sigaction(libc::SIGSYS, &raw const action, ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error()).context("cannot take SIGSYS");
    }
    Ok(())
}

extern "C" fn handle(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes the registers of the thread as they were at the
    // call, in a `ucontext_t` that is the handler's alone.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let number = registers[libc::REG_RAX as usize];
    let path = registers[libc::REG_RSI as usize] as usize;
    if number == libc::SYS_openat && DONE_WITHOUT.iter().any(|file| is_path(file, path)) {
        registers[libc::REG_RAX as usize] = -i64::from(libc::ENOENT);
        return;
    }
    report(number);
    end();
}

/// Whether the caller of `openat` names `file`.
fn is_path(file: &CStr, path: usize) -> bool {
    let path = ptr::with_exposed_provenance::<c_char>(path);
    // SAFETY: the C library passes a string. Whoever passes an address where nothing is mapped ends
    // the process here, and not a few lines later; nothing is read past the first difference.
    !path.is_null() && unsafe { libc::strcmp(path, file.as_ptr()) == 0 }
}

/// Writes one line. Formatting could allocate, and whatever holds the heap may be what was stopped.
fn report(number: i64) {
    let mut digits = [0; 20];
    let name = names::name(number).unwrap_or("that has no name here");
    let parts = [
        b"vgpu-worker: stopped by the sandbox: the system call ",
        name.as_bytes(),
        b" (",
        decimal(number, &mut digits),
        b")\n",
    ];
    let mut line = [0; 160];
    let mut len = 0;
    for part in parts {
        let room = &mut line[len..];
        let count = part.len().min(room.len());
        room[..count].copy_from_slice(&part[..count]);
        len += count;
    }
    // SAFETY: nothing in this process closes standard error; if something did, the write fails.
    let log = unsafe { BorrowedFd::borrow_raw(libc::STDERR_FILENO) };
    let _ = rustix::io::write(log, &line[..len]);
}

/// The digits of a number, at the end of `digits`.
fn decimal(number: i64, digits: &mut [u8; 20]) -> &[u8] {
    let mut rest = number.unsigned_abs();
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return &digits[start..];
        }
    }
}

/// Ends the process as an untrapped SIGSYS would have.
fn end() {
    // SAFETY: both are async-signal-safe; the default action of SIGSYS is to end the process.
    unsafe {
        libc::signal(libc::SIGSYS, libc::SIG_DFL);
        libc::raise(libc::SIGSYS);
        libc::_exit(128 + libc::SIGSYS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_without_an_allocation() {
        for number in [0, 7, 10, 257, i64::MAX] {
            let mut digits = [0; 20];
            assert_eq!(decimal(number, &mut digits), number.to_string().as_bytes());
        }
    }

    #[test]
    fn only_what_the_c_library_does_without_is_refused_quietly() {
        for (path, expected) in [
            (c"/proc/sys/vm/overcommit_memory", true),
            (c"/proc/sys/vm/overcommit_memory2", false),
            (c"/proc/sys/vm/overcommit", false),
            (c"/etc/passwd", false),
            (c"", false),
        ] {
            let address = path.as_ptr().expose_provenance();
            let quiet = DONE_WITHOUT.iter().any(|file| is_path(file, address));
            assert_eq!(quiet, expected, "{path:?}");
        }
    }
}
