//! A device that tries what the sandbox forbids, to test that it does. Built only with the feature
//! `forbidden`, which nothing but the tests of this crate turn on.
//!
//! A write of four bytes to BAR0 makes the attempt of that number; a read of eight tells what came
//! of it: what the system call returned, or its errno below zero.

#![expect(unsafe_code, reason = "system calls that no library would make")]

use std::ffi::CStr;
use std::io;

use libc::c_long;
use mdev::device::{BuildError, Fault, Reset};
use mdev::pci::{Bar, Class, ConfigSpace, Identity};
use mdev::region::{RegionIndex, Regions};
use mdev::{Attributes, Driver, MediatedDevice, Services, TypeSpec};

use crate::fake_parent::{NOT_ON_ITS_FILES, ON_ITS_FILES};

/// The type's name.
pub const TYPE: &str = "forbidden";

/// Something that is not allowed: the system call's name, and how it is made.
pub type Attempt = (&'static str, fn() -> c_long);

/// Every attempt, in the order of their numbers.
pub const ATTEMPTS: &[Attempt] = &[
    // Files.
    ("openat", || {
        call(libc::SYS_openat, &[CWD, path(c"/etc/passwd")])
    }),
    ("open", || call(libc::SYS_open, &[path(c"/etc/passwd")])),
    ("openat2", || {
        call(libc::SYS_openat2, &[CWD, path(c"/etc/passwd")])
    }),
    ("open_by_handle_at", || {
        call(libc::SYS_open_by_handle_at, &[CWD])
    }),
    ("unlink", || call(libc::SYS_unlink, &[path(NO_FILE)])),
    ("unlinkat", || {
        call(libc::SYS_unlinkat, &[CWD, path(NO_FILE)])
    }),
    ("newfstatat", || {
        call(libc::SYS_newfstatat, &[CWD, path(NO_FILE)])
    }),
    ("rename", || {
        call(libc::SYS_rename, &[path(NO_FILE), path(NO_FILE)])
    }),
    ("symlink", || {
        call(libc::SYS_symlink, &[path(NO_FILE), path(NO_FILE)])
    }),
    ("chmod", || call(libc::SYS_chmod, &[path(NO_FILE), 0o777])),
    ("mkdir", || call(libc::SYS_mkdir, &[path(NO_FILE)])),
    ("truncate", || call(libc::SYS_truncate, &[path(NO_FILE)])),
    ("mount", || call(libc::SYS_mount, &[])),
    ("chroot", || call(libc::SYS_chroot, &[path(c"/")])),
    // Others, on this machine and elsewhere.
    ("socket", || {
        call(
            libc::SYS_socket,
            &[libc::AF_INET.into(), libc::SOCK_STREAM.into()],
        )
    }),
    ("socketpair", || {
        call(
            libc::SYS_socketpair,
            &[libc::AF_INET.into(), libc::SOCK_STREAM.into()],
        )
    }),
    ("connect", || call(libc::SYS_connect, &[-1])),
    ("bind", || call(libc::SYS_bind, &[-1])),
    ("listen", || call(libc::SYS_listen, &[-1])),
    ("shmget", || call(libc::SYS_shmget, &[0, 4096])),
    ("msgget", || call(libc::SYS_msgget, &[0])),
    ("mq_open", || call(libc::SYS_mq_open, &[path(c"queue")])),
    // Other processes.
    ("kill", || call(libc::SYS_kill, &[INIT, 0])),
    ("tgkill", || call(libc::SYS_tgkill, &[INIT, INIT])),
    ("tkill", || call(libc::SYS_tkill, &[INIT])),
    ("rt_sigqueueinfo", || {
        call(libc::SYS_rt_sigqueueinfo, &[INIT])
    }),
    ("pidfd_open", || call(libc::SYS_pidfd_open, &[INIT])),
    ("pidfd_send_signal", || {
        call(libc::SYS_pidfd_send_signal, &[-1])
    }),
    ("ptrace", || call(libc::SYS_ptrace, &[0])),
    ("process_vm_readv", || {
        call(libc::SYS_process_vm_readv, &[INIT])
    }),
    ("fcntl", || {
        call(libc::SYS_fcntl, &[0, libc::F_SETOWN.into(), INIT])
    }),
    // Other programs.
    ("execve", || call(libc::SYS_execve, &[path(c"/bin/true")])),
    ("execveat", || {
        call(libc::SYS_execveat, &[CWD, path(c"/bin/true")])
    }),
    ("fork", || call(libc::SYS_fork, &[])),
    ("clone", || call(libc::SYS_clone, &[libc::SIGCHLD.into()])),
    ("unshare", || {
        call(libc::SYS_unshare, &[libc::CLONE_NEWUSER.into()])
    }),
    ("setns", || call(libc::SYS_setns, &[-1])),
    ("mmap", || executable_memory(libc::SYS_mmap)),
    ("mprotect", || executable_memory(libc::SYS_mprotect)),
    ("pkey_mprotect", || {
        executable_memory(libc::SYS_pkey_mprotect)
    }),
    // More rights.
    ("setuid", || call(libc::SYS_setuid, &[0])),
    ("capset", || call(libc::SYS_capset, &[])),
    ("prctl", || {
        call(libc::SYS_prctl, &[libc::PR_SET_DUMPABLE.into(), 1])
    }),
    ("seccomp", || call(libc::SYS_seccomp, &[0])),
    ("prlimit64", || call(libc::SYS_prlimit64, &[0])),
    ("personality", || {
        call(libc::SYS_personality, &[libc::READ_IMPLIES_EXEC.into()])
    }),
    ("rt_sigaction", || {
        call(libc::SYS_rt_sigaction, &[libc::SIGTERM.into()])
    }),
    ("rt_sigaction", || {
        call(libc::SYS_rt_sigaction, &[libc::SIGSYS.into()])
    }),
    // Corners of the kernel that break-ins go through.
    ("bpf", || call(libc::SYS_bpf, &[])),
    ("io_uring_setup", || call(libc::SYS_io_uring_setup, &[1])),
    ("userfaultfd", || call(libc::SYS_userfaultfd, &[])),
    ("perf_event_open", || call(libc::SYS_perf_event_open, &[])),
    ("keyctl", || call(libc::SYS_keyctl, &[])),
    ("add_key", || call(libc::SYS_add_key, &[])),
    ("modify_ldt", || call(libc::SYS_modify_ldt, &[])),
    ("init_module", || call(libc::SYS_init_module, &[])),
    ("kexec_load", || call(libc::SYS_kexec_load, &[])),
    ("ioctl", || call(libc::SYS_ioctl, &[0, libc::TCGETS as i64])),
    ("splice", || call(libc::SYS_splice, &[-1])),
    ("timer_create", || call(libc::SYS_timer_create, &[])),
];

/// Attempts that the process survives. The C library makes the first two by itself, and does
/// without; the third counts the variables of the environment.
pub const QUIET_ATTEMPTS: &[Attempt] = &[
    ("clone3", || call(libc::SYS_clone3, &[])),
    ("openat", || {
        let file = c"/proc/sys/vm/overcommit_memory";
        call(libc::SYS_openat, &[CWD, path(file)])
    }),
    ("getenv", || std::env::vars_os().count() as c_long),
];

/// Not an attempt: the device panics.
pub const PANIC: u32 = u32::MAX;

/// Not an attempt: the stack of the device's thread overflows.
pub const OVERFLOW: u32 = u32::MAX - 1;

/// The number of a [`QUIET_ATTEMPTS`] is this much higher.
pub const QUIET: u32 = 1000;

/// The number of a call on a physical device's files is this much higher, and
/// [`NOT_ON_FILES`] that of one that none makes.
pub const ON_FILES: u32 = 2000;
/// See [`ON_FILES`].
pub const NOT_ON_FILES: u32 = 3000;

const NO_FILE: &CStr = c"/nowhere/nothing";

/// Another process that is always there.
const INIT: i64 = 1;

/// `AT_FDCWD`, as an argument.
const CWD: i64 = libc::AT_FDCWD as i64;

fn path(path: &'static CStr) -> i64 {
    path.as_ptr().expose_provenance().cast_signed() as i64
}

/// Makes a system call, the rest of whose arguments is 0.
pub(crate) fn call(number: c_long, arguments: &[i64]) -> c_long {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    let [a, b, c, d, e, f] = all;
    // SAFETY: under the sandbox none of these calls is made. Without it they fail or harm nobody,
    // given these arguments, but for `fork` and `clone`, whose child would go on here.
    match unsafe { libc::syscall(number, a, b, c, d, e, f) } {
        -1 => -c_long::from(errno()),
        result => result,
    }
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Asks for memory to run code in; of all three calls the third argument is the protection.
fn executable_memory(number: c_long) -> c_long {
    let protection = libc::PROT_READ | libc::PROT_EXEC;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    call(number, &[0, 4096, protection.into(), flags.into(), -1, 0])
}

/// Returns once there is no stack left.
#[expect(unconditional_recursion, reason = "on purpose")]
fn overflow(depth: c_long) -> c_long {
    let frame = std::hint::black_box([depth; 512]);
    overflow(depth + 1) + frame[0]
}

/// Builds the device.
#[derive(Clone, Copy, Debug)]
pub struct ForbiddenDriver;

impl Driver for ForbiddenDriver {
    fn name(&self) -> &'static str {
        TYPE
    }

    fn types(&self) -> Vec<TypeSpec> {
        vec![TypeSpec {
            name: TYPE.to_owned(),
            title: TYPE.to_owned(),
            description: "Tries what is forbidden".to_owned(),
            video_memory: 0,
        }]
    }

    fn build(
        &self,
        _: &TypeSpec,
        _: &Attributes,
        _: Services,
    ) -> Result<Box<dyn MediatedDevice>, BuildError> {
        let config = ConfigSpace::new(IDENTITY).with_bar(RegionIndex::Bar0, BAR);
        Ok(Box::new(ForbiddenDevice {
            regions: Regions::of(&config),
            config,
            result: 0,
        }))
    }
}

/// No vendor has this number.
const IDENTITY: Identity = Identity {
    vendor: 0xfffe,
    device: 0x0002,
    subsystem_vendor: 0xfffe,
    subsystem: 0x0002,
    revision: 1,
    class: Class {
        base: 0xff,
        sub: 0,
        interface: 0,
    },
};

const BAR: Bar = Bar::Memory32 {
    size: 4096,
    prefetchable: false,
};

struct ForbiddenDevice {
    config: ConfigSpace,
    regions: Regions,
    result: c_long,
}

impl MediatedDevice for ForbiddenDevice {
    fn config(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn regions(&self) -> &Regions {
        &self.regions
    }

    fn read(&mut self, _: RegionIndex, _: u64, data: &mut [u8]) -> Result<(), Fault> {
        let result = self.result.to_le_bytes();
        data.copy_from_slice(result.get(..data.len()).ok_or(Fault("too long"))?);
        Ok(())
    }

    fn write(&mut self, _: RegionIndex, _: u64, data: &[u8]) -> Result<(), Fault> {
        let number = data.try_into().map_err(|_| Fault("not four bytes"))?;
        let number = u32::from_le_bytes(number);
        assert_ne!(number, PANIC, "a panic on purpose");
        if number == OVERFLOW {
            self.result = overflow(1);
        }
        let (first, attempts) = match number {
            NOT_ON_FILES.. => (NOT_ON_FILES, NOT_ON_ITS_FILES),
            ON_FILES.. => (ON_FILES, ON_ITS_FILES),
            QUIET.. => (QUIET, QUIET_ATTEMPTS),
            _ => (0, ATTEMPTS),
        };
        let attempt = attempts.get((number - first) as usize);
        let (_, attempt) = attempt.ok_or(Fault("no such attempt"))?;
        self.result = attempt();
        Ok(())
    }

    fn reset(&mut self, _: Reset) {}
}
