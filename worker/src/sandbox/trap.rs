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
use std::sync::OnceLock;

use anyhow::Context;

use super::names;

/// What the process is called in the log.
static PROGRAM: OnceLock<&'static str> = OnceLock::new();

/// What the C library opens by itself.
const DONE_WITHOUT: [&CStr; 3] = [
    // malloc, before it gives memory of a thread's heap back: whether it must keep it reserved.
    c"/proc/sys/vm/overcommit_memory",
    // getrandom of glibc 2.41, for a guess at how many threads there will be.
    c"/sys/devices/system/cpu/online",
    c"/proc/stat",
];

/// `si_code` of a SIGSYS that stands for a refused call; `asm-generic/siginfo.h`.
const SYS_SECCOMP: c_int = 1;

/// Where a system call has its number and its first arguments.
const CALL: [c_int; 4] = [libc::REG_RAX, libc::REG_RDI, libc::REG_RSI, libc::REG_RDX];

/// Installs the handler, of a program of that name.
pub(super) fn install(program: &'static str) -> anyhow::Result<()> {
    // If it has a name already, that is the one.
    let _ = PROGRAM.set(program);
    // SAFETY: all-zero is a valid `sigaction`: no flags, an empty mask, the default action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handle as *const () as usize;
    // Without SA_NODEFER the signal is blocked while it is handled, for which see `end`.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    // SAFETY: `handle` has the signature that SA_SIGINFO asks for, and is async-signal-safe: it
    // reads constants and makes system calls. Nobody needs the old action.
    if unsafe { libc::sigaction(libc::SIGSYS, &raw const action, ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error()).context("cannot take SIGSYS");
    }
    Ok(())
}

extern "C" fn handle(_: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid `siginfo_t`.
    let is_refusal = unsafe { (*info).si_code } == SYS_SECCOMP;
    if is_refusal {
        // SAFETY: and the registers of the thread as they were at the call, in a `ucontext_t` that
        // is the handler's alone.
        let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
        let [number, first, second, third] = CALL.map(|register| registers[register as usize]);
        if number == libc::SYS_openat && is_done_without(second as usize) {
            registers[libc::REG_RAX as usize] = -i64::from(libc::ENOENT);
            return;
        }
        report(number, [first, second, third]);
    }
    end();
}

fn is_done_without(path: usize) -> bool {
    DONE_WITHOUT.iter().any(|file| is_path(file, path))
}

/// Whether the caller of `openat` names `file`.
fn is_path(file: &CStr, path: usize) -> bool {
    let path = ptr::with_exposed_provenance::<c_char>(path);
    // SAFETY: the C library passes a string. Whoever passes an address where nothing is mapped ends
    // the process here, and not a few lines later; nothing is read past the first difference.
    !path.is_null() && unsafe { libc::strcmp(path, file.as_ptr()) == 0 }
}

/// Writes one line. Formatting could allocate, and whatever holds the heap may be what was stopped.
fn report(number: i64, arguments: [i64; 3]) {
    let mut digits = [[0; 20]; 4];
    let [first, second, third, last] = &mut digits;
    let parts = [
        PROGRAM.get().copied().unwrap_or("vgpud").as_bytes(),
        b": stopped by the sandbox: the system call ",
        names::name(number).unwrap_or("without a name").as_bytes(),
        b" (",
        in_digits(number.cast_unsigned(), 10, last),
        b") of 0x",
        in_digits(arguments[0].cast_unsigned(), 16, first),
        b", 0x",
        in_digits(arguments[1].cast_unsigned(), 16, second),
        b", 0x",
        in_digits(arguments[2].cast_unsigned(), 16, third),
        b"\n",
    ];
    let mut line = [0; 200];
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

/// The digits of a number, at the end of `digits`. `base` is 16 at most.
fn in_digits(number: u64, base: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut rest = number;
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b"0123456789abcdef"[(rest % base) as usize];
        rest /= base;
        if rest == 0 {
            return &digits[start..];
        }
    }
}

/// Ends the process as an untrapped SIGSYS would have: the kernel kills a process that is refused a
/// call while the signal is blocked, and it is inside the handler. So the filter need let nobody
/// change what SIGSYS does.
fn end() {
    // SAFETY: both are async-signal-safe. The first is not on the list; what it would return is of
    // no use.
    unsafe {
        libc::getppid();
        libc::_exit(128 + libc::SIGSYS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_without_an_allocation() {
        for number in [0, 7, 10, 257, u64::MAX] {
            let mut digits = [0; 20];
            let decimal = in_digits(number, 10, &mut digits);
            assert_eq!(decimal, number.to_string().as_bytes());
            let hexadecimal = in_digits(number, 16, &mut digits);
            assert_eq!(hexadecimal, format!("{number:x}").as_bytes());
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
            assert_eq!(is_done_without(address), expected, "{path:?}");
        }
    }
}
