//! What the process that viewers talk to gives up before it reads their first byte: what a worker
//! does (`worker::sandbox`), and more. It opens no socket and connects to none; of memory files it
//! can only read.

use anyhow::Context;
use libc::{
    SYS_accept4, SYS_brk, SYS_clock_gettime, SYS_clock_nanosleep, SYS_close, SYS_exit,
    SYS_exit_group, SYS_fcntl, SYS_fstat, SYS_futex, SYS_getpid, SYS_getrandom, SYS_gettid,
    SYS_madvise, SYS_mmap, SYS_mremap, SYS_munmap, SYS_poll, SYS_ppoll, SYS_pread64, SYS_read,
    SYS_recvfrom, SYS_recvmsg, SYS_restart_syscall, SYS_rseq, SYS_rt_sigprocmask, SYS_rt_sigreturn,
    SYS_sched_getaffinity, SYS_sched_yield, SYS_sendmsg, SYS_sendto, SYS_set_robust_list,
    SYS_sigaltstack, SYS_socketpair, SYS_write, SYS_writev,
};
use rustix::process::Resource;
use worker::arguments::SandboxArguments;
use worker::protocol::Sandbox;
use worker::sandbox::filter::{List, UNSOUND};
use worker::sandbox::limits::at_most;

/// Most descriptors: three of each viewer, and some ten.
const DESCRIPTORS: u64 = 128;

/// Most memory of the process: the largest picture, what is read of it at a time, and a few MiB of
/// each viewer.
const MEMORY: u64 = 512 << 20;

/// How much lower its priority is than that of workers and VMMs.
pub const NICENESS: i32 = 10;

/// Whatever their arguments are, they reach nothing that is not open already, and change no file.
const ANY_ARGUMENTS: &[i64] = &[
    // Viewers come and go; they, and the worker, send and are sent to.
    SYS_accept4,
    SYS_recvfrom,
    SYS_recvmsg,
    SYS_sendto,
    SYS_sendmsg,
    SYS_poll,
    SYS_ppoll,
    // The picture, and what tells of another.
    SYS_pread64,
    SYS_fstat,
    SYS_read,
    // Memory of the process; how it is mapped is below.
    SYS_brk,
    SYS_munmap,
    SYS_mremap,
    SYS_madvise,
    // Threads.
    SYS_futex,
    SYS_set_robust_list,
    SYS_rseq,
    SYS_sigaltstack,
    SYS_sched_getaffinity,
    SYS_sched_yield,
    SYS_gettid,
    SYS_getpid,
    SYS_exit,
    SYS_exit_group,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_restart_syscall,
    // Time, and challenges.
    SYS_clock_gettime,
    SYS_clock_nanosleep,
    SYS_getrandom,
];

/// Of descriptors: what the standard library asks, and nothing that changes a file or sends signals.
const FCNTL: [i32; 3] = [libc::F_GETFD, libc::F_GETFL, libc::F_DUPFD_CLOEXEC];

/// Gives up what there is to give up. There must be one thread.
pub fn confine(arguments: &SandboxArguments) -> anyhow::Result<Sandbox> {
    let confined = worker::sandbox::confine("vgpu-console", arguments, Vec::new())?;
    at_most(Resource::Nofile, DESCRIPTORS)?;
    at_most(Resource::Data, MEMORY)?;
    let list = List::of(ANY_ARGUMENTS)
        .with_threads()
        .and_then(|list| {
            list.with_one_of(SYS_fcntl, 1, &FCNTL)?
                // To wake a thread.
                .with_one_of(SYS_socketpair, 0, &[libc::AF_UNIX])?
                // The log, and not the memory file: it can be written to for the worker's sake.
                .with_one_of(SYS_write, 0, &[libc::STDERR_FILENO])?
                .with_one_of(SYS_writev, 0, &[libc::STDERR_FILENO])?
                // Else the memory file could become what the log was.
                .with_any_but(SYS_close, 0, libc::STDERR_FILENO)?
                .with_no_bits(SYS_mmap, &[(2, libc::PROT_EXEC), (3, libc::MAP_SHARED)])
        })
        .context(UNSOUND)?;
    confined.filter_by(list)
}
