//! Which system calls a process makes, by seccomp: [`List`]; and those of a worker, also of one with a
//! physical device (`device`). Whatever is not there it has no use for.
//!
//! Two filters, of whose answers the kernel takes the stricter: one that sends the C library from
//! `clone3` back to `clone`, whose arguments can be looked at, and the list.

mod device;

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
use seccompiler::SeccompCmpOp::{Eq, MaskedEq, Ne};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter_all_threads,
};

use crate::arguments::SandboxMode;

pub use device::{DeviceFds, with_a_device, with_sockets};

/// What is said of a list that cannot be made, for a mistake in it.
pub const UNSOUND: &str = "the filter of system calls is not sound";

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

/// System calls that are allowed.
#[derive(Debug)]
pub struct List(BTreeMap<i64, Vec<SeccompRule>>);

impl List {
    /// These, whatever their arguments are.
    pub fn of(calls: &[i64]) -> Self {
        Self(calls.iter().map(|&call| (call, vec![])).collect())
    }

    /// What threads take, whatever the program: to be started and named, memory that is never run,
    /// an end by abort.
    pub fn with_threads(mut self) -> Result<Self, BackendError> {
        // The other filter has an answer.
        self.0.insert(SYS_clone3, vec![]);
        let is_thread = is(0, Qword, A_THREAD)?;
        self.0.insert(SYS_clone, vec![all(&[is_thread])?]);
        let is_own = is(0, Dword, own_pid())?;
        self.0.insert(SYS_tgkill, vec![all(&[is_own])?]);
        // Nothing that can be written is ever run.
        self.with_one_of(SYS_prctl, 0, &PRCTL)?
            .with_one_of(SYS_rt_sigaction, 0, &HANDLED_SIGNALS)?
            .with_no_bits(SYS_mmap, &[(2, libc::PROT_EXEC)])?
            .with_no_bits(SYS_mprotect, &[(2, libc::PROT_EXEC)])
    }

    /// A call whose argument of that number, from 0, is one of `values`.
    pub fn with_one_of(
        mut self,
        call: i64,
        argument: u8,
        values: &[i32],
    ) -> Result<Self, BackendError> {
        let rule = |&value| all(&[is(argument, Dword, value)?]);
        let rules: Result<_, _> = values.iter().map(rule).collect();
        self.0.insert(call, rules?);
        Ok(self)
    }

    /// A call whose arguments are these as well, each with its number, from 0: beside what it may be
    /// already.
    pub fn or_with(mut self, call: i64, arguments: &[(u8, i32)]) -> Result<Self, BackendError> {
        let conditions: Result<Vec<_>, _> = arguments
            .iter()
            .map(|&(argument, value)| is(argument, Dword, value))
            .collect();
        self.0.entry(call).or_default().push(all(&conditions?)?);
        Ok(self)
    }

    /// A call whose argument of that number, from 0, is any but `value`.
    pub fn with_any_but(
        mut self,
        call: i64,
        argument: u8,
        value: i32,
    ) -> Result<Self, BackendError> {
        let other = u64::from(value.cast_unsigned());
        let other = SeccompCondition::new(argument, Dword, Ne, other)?;
        self.0.insert(call, vec![all(&[other])?]);
        Ok(self)
    }

    /// A call whose arguments of these numbers, from 0, have none of these bits.
    pub fn with_no_bits(
        mut self,
        call: i64,
        arguments: &[(u8, i32)],
    ) -> Result<Self, BackendError> {
        let conditions: Result<Vec<_>, _> = arguments
            .iter()
            .map(|&(argument, bits)| {
                let bits = u64::from(bits.cast_unsigned());
                SeccompCondition::new(argument, Qword, MaskedEq(bits), 0)
            })
            .collect();
        self.0.insert(call, vec![all(&conditions?)?]);
        Ok(self)
    }
}

/// What a worker makes. In `folders` files are removed: those of our own sockets, at the end.
pub fn of_a_worker(folders: &[RawFd]) -> Result<List, BackendError> {
    let mut list = List::of(ANY_ARGUMENTS)
        .with_threads()?
        .with_one_of(SYS_ioctl, 1, &IOCTL)?
        .with_one_of(SYS_fcntl, 1, &FCNTL)?
        // The twin socket, whose other end goes to the client.
        .with_one_of(SYS_socketpair, 0, &[libc::AF_UNIX])?;
    if !folders.is_empty() {
        // A path may lead out of the folder; Landlock lets it remove nothing there.
        list =
            list.with_one_of(SYS_newfstatat, 0, folders)?
                .with_one_of(SYS_unlinkat, 0, folders)?;
    }
    Ok(list)
}

/// Binds every thread.
pub(super) fn enter(mode: SandboxMode, list: List) -> anyhow::Result<()> {
    let refused = match mode {
        SandboxMode::On => SeccompAction::Trap,
        SandboxMode::Log => SeccompAction::Log,
        SandboxMode::Off => return Ok(()),
    };
    let list = compile(list.0, refused).context(UNSOUND)?;
    let detour = no_clone3().context(UNSOUND)?;
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

fn compile(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    refused: SeccompAction,
) -> Result<BpfProgram, BackendError> {
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
