//! Which system calls a worker makes, by seccomp. Whatever is not here it has no use for.
//!
//! Two filters, of whose answers the kernel takes the stricter: one that sends the C library from
//! `clone3` back to `clone`, whose arguments can be looked at, and the list.

use std::collections::BTreeMap;
use std::os::fd::RawFd;

use anyhow::Context;
use libc::{
    SYS_accept4, SYS_brk, SYS_clock_gettime, SYS_clock_nanosleep, SYS_clone, SYS_clone3, SYS_close,
    SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait, SYS_epoll_pwait2, SYS_eventfd2, SYS_exit,
    SYS_exit_group, SYS_fallocate, SYS_fcntl, SYS_fstat, SYS_fstatfs, SYS_ftruncate, SYS_futex,
    SYS_getpid, SYS_getrandom, SYS_gettid, SYS_ioctl, SYS_lseek, SYS_madvise, SYS_memfd_create,
    SYS_mmap, SYS_mprotect, SYS_mremap, SYS_munmap, SYS_newfstatat, SYS_ppoll, SYS_prctl,
    SYS_pread64, SYS_pwrite64, SYS_read, SYS_readlinkat, SYS_recvfrom, SYS_recvmmsg, SYS_recvmsg,
    SYS_restart_syscall, SYS_rseq, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn,
    SYS_sched_getaffinity, SYS_sched_yield, SYS_sendmmsg, SYS_sendmsg, SYS_sendto,
    SYS_set_robust_list, SYS_shutdown, SYS_sigaltstack, SYS_socketpair, SYS_tgkill, SYS_unlinkat,
    SYS_write, SYS_writev,
};
use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{Eq, MaskedEq};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter_all_threads,
};

use worker::arguments::SandboxMode;

/// Whatever their arguments are, they reach nothing that is not open already.
const ANY_ARGUMENTS: &[i64] = &[
    // Messages of clients and askers, with descriptors; the log, mail, interrupts, saved states.
    SYS_accept4,
    SYS_recvmmsg,
    SYS_recvmsg,
    SYS_recvfrom,
    SYS_sendmmsg,
    SYS_sendmsg,
    SYS_sendto,
    SYS_shutdown,
    SYS_read,
    SYS_write,
    SYS_writev,
    SYS_close,
    // Waiting for them.
    SYS_epoll_create1,
    SYS_epoll_ctl,
    SYS_epoll_pwait,
    SYS_epoll_pwait2,
    SYS_ppoll,
    SYS_eventfd2,
    // Memory that a client maps, and states on their way: files that have no path.
    SYS_memfd_create,
    SYS_ftruncate,
    SYS_fallocate,
    SYS_lseek,
    SYS_pread64,
    SYS_pwrite64,
    // What a client claims of its own files is looked at before they are mapped; of an eventfd,
    // only the link in /proc/self/fd tells that it is one. The last tells of links elsewhere as
    // well where they lead, which no filter can see and Landlock lets pass.
    SYS_fstat,
    SYS_fstatfs,
    SYS_readlinkat,
    // Memory of the process; how it is mapped is below.
    SYS_brk,
    SYS_munmap,
    SYS_mremap,
    SYS_madvise,
    // Threads: one for each asker. How they are started is below.
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
    // Signals: the end on SIGTERM, a truncated file's SIGBUS, a panic's SIGABRT.
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_restart_syscall,
    // Time, where the kernel does not tell it without a call, and keys of hash tables.
    SYS_clock_gettime,
    SYS_clock_nanosleep,
    SYS_getrandom,
];

/// What `pthread_create` passes to `clone`: glibc, `sysdeps/unix/sysv/linux/createthread.c`. A
/// process would not share all of it.
const A_THREAD: i32 = libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SYSVSEM
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SETTLS
    | libc::CLONE_PARENT_SETTID
    | libc::CLONE_CHILD_CLEARTID;

/// Of descriptors. Not `F_SETOWN`, which has a signal sent to others, nor `F_SETFL`: the flags of a
/// client's file are the client's too.
const FCNTL: [i32; 5] = [
    libc::F_GETFD,
    libc::F_GETFL,
    libc::F_GET_SEALS,
    libc::F_ADD_SEALS,
    libc::F_DUPFD_CLOEXEC,
];

/// A bus error that cannot be mended, an abort and a stack that overflowed each put back what the
/// signal does by default; glibc takes the last two with the first thread it starts. Not SIGSYS.
const HANDLED_SIGNALS: [i32; 5] = [
    libc::SIGBUS,
    libc::SIGABRT,
    libc::SIGSEGV,
    32, // SIGCANCEL: glibc, `internal-signals.h`
    33, // SIGSETXID: there
];

/// How many bytes wait in a client's socket.
const IOCTL: [i32; 1] = [libc::FIONREAD as i32];

/// Of the process, only the name of a thread, for `top -H`.
const PRCTL: [i32; 1] = [libc::PR_SET_NAME];

/// Binds every thread. In `folders` files are removed: those of our own sockets, at the end.
pub(super) fn enter(mode: SandboxMode, folders: &[RawFd]) -> anyhow::Result<()> {
    let refused = match mode {
        SandboxMode::On => SeccompAction::Trap,
        SandboxMode::Log => SeccompAction::Log,
        SandboxMode::Off => return Ok(()),
    };
    let list = list(refused, folders).context("the filter of system calls is not sound")?;
    let detour = no_clone3().context("the filter of system calls is not sound")?;
    for filter in [detour, list] {
        apply_filter_all_threads(&filter).context("cannot enter the filter of system calls")?;
    }
    Ok(())
}

fn no_clone3() -> Result<BpfProgram, BackendError> {
    let rules = BTreeMap::from([(SYS_clone3, Vec::new())]);
    let absent = SeccompAction::Errno(libc::ENOSYS as u32);
    SeccompFilter::new(rules, SeccompAction::Allow, absent, TargetArch::x86_64)?.try_into()
}

fn list(refused: SeccompAction, folders: &[RawFd]) -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<_, _> = ANY_ARGUMENTS.iter().map(|&call| (call, vec![])).collect();
    // The other filter has an answer.
    rules.insert(SYS_clone3, vec![]);
    rules.insert(SYS_clone, vec![all(&[is(0, Qword, A_THREAD)?])?]);
    rules.insert(SYS_tgkill, vec![all(&[is(0, Dword, own_pid())?])?]);
    rules.insert(SYS_ioctl, one_of(1, &IOCTL)?);
    rules.insert(SYS_fcntl, one_of(1, &FCNTL)?);
    rules.insert(SYS_prctl, one_of(0, &PRCTL)?);
    rules.insert(SYS_rt_sigaction, one_of(0, &HANDLED_SIGNALS)?);
    // The twin socket, whose other end goes to the client.
    rules.insert(SYS_socketpair, one_of(0, &[libc::AF_UNIX])?);
    // Nothing that can be written is ever run.
    let is_data = SeccompCondition::new(2, Qword, MaskedEq(libc::PROT_EXEC as u64), 0)?;
    for call in [SYS_mmap, SYS_mprotect] {
        rules.insert(call, vec![all(std::slice::from_ref(&is_data))?]);
    }
    if !folders.is_empty() {
        // A path may lead out of the folder; Landlock lets it remove nothing there.
        rules.insert(SYS_newfstatat, one_of(0, folders)?);
        rules.insert(SYS_unlinkat, one_of(0, folders)?);
    }
    SeccompFilter::new(rules, refused, SeccompAction::Allow, TargetArch::x86_64)?.try_into()
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

fn all(conditions: &[SeccompCondition]) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions.to_vec())
}

fn is(
    argument: u8,
    len: seccompiler::SeccompCmpArgLen,
    value: i32,
) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, len, Eq, u64::from(value.cast_unsigned()))
}

fn one_of(argument: u8, values: &[i32]) -> Result<Vec<SeccompRule>, BackendError> {
    let rule = |&value| all(&[is(argument, Dword, value)?]);
    values.iter().map(rule).collect()
}
