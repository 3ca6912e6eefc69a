//! What a process gives up before it reads the first byte of a client: the worker, and by the same
//! means others that serve strangers, with a list of system calls of their own.
//!
//! A client is a VMM that a guest may have broken into, and what it sends may break in here. Then
//! this is what is left to it: its own device, its own guest's memory, and a process that can open,
//! start and reach nothing. In the order of a start:
//!
//! - [`environment`]: nobody's variables.
//! - `limits`: a control group, and bounds on descriptors, threads and memory.
//! - `privileges`: another user, no capabilities, none by starting a program, no debugger.
//! - `filesystem`: no file, by Landlock.
//! - [`filter`]: few system calls, by seccomp; `trap` names the one that was refused, out of
//!   `names`.
//!
//! The first four are done while there is one thread, from which the others have them; the device
//! is built then, with threads of its own perhaps; the filter comes last and binds all of them.
//! `docs/sandbox.md` tells an administrator.

pub mod environment;
mod filesystem;
pub mod filter;
pub mod limits;
mod names;
mod privileges;
mod trap;

use std::os::fd::{AsRawFd, BorrowedFd};

use anyhow::Context;
use rustix::fs::Mode;

use crate::arguments::{SandboxArguments, SandboxMode};
use crate::protocol::{Landlock, Sandbox};
use limits::Bounds;

/// A process that has given up its rights, and may still make any system call.
#[must_use = "system calls are free until `filter` is called"]
#[derive(Debug)]
pub struct Confined<'a> {
    program: &'static str,
    mode: SandboxMode,
    /// Where the files of our own sockets lie.
    folders: Vec<BorrowedFd<'a>>,
    status: Sandbox,
}

/// Gives up what belongs to a thread or the process. There must be one thread, and whatever files
/// it needs must be open. In `folders` it goes on removing files. In the log it is `program`.
pub fn confine<'a>(
    program: &'static str,
    arguments: &SandboxArguments,
    folders: Vec<BorrowedFd<'a>>,
) -> anyhow::Result<Confined<'a>> {
    confine_within(program, arguments, folders, &Bounds::ONE)
}

/// The same, of a program that takes more, or less.
pub fn confine_within<'a>(
    program: &'static str,
    arguments: &SandboxArguments,
    folders: Vec<BorrowedFd<'a>>,
    bounds: &Bounds,
) -> anyhow::Result<Confined<'a>> {
    let mode = arguments.sandbox;
    if let Some(cgroup) = &arguments.cgroup {
        limits::join(cgroup)?;
    }
    limits::set(arguments, bounds)?;
    rustix::process::umask(Mode::from_raw_mode(0o077));
    if mode != SandboxMode::Off {
        privileges::shrink_bounding_set();
    }
    if let Some(owner) = arguments.user {
        privileges::become_user(owner)?;
    }
    let mut landlock = Landlock::None;
    if mode != SandboxMode::Off {
        privileges::give_up_capabilities()?;
        landlock = filesystem::close(&folders)?;
        if !arguments.debuggable {
            privileges::forbid_debuggers()?;
        }
    }
    let status = Sandbox {
        seccomp: SandboxMode::Off,
        landlock,
        no_new_privs: rustix::thread::no_new_privs()?,
        capabilities: privileges::capabilities_left()?,
        user: rustix::process::getuid().as_raw(),
    };
    Ok(Confined {
        program,
        mode,
        folders,
        status,
    })
}

impl Confined<'_> {
    /// From here on every thread makes the system calls of a worker and no others.
    pub fn filter(self) -> anyhow::Result<Sandbox> {
        let list = self.list()?;
        self.filter_by(list)
    }

    /// The list of a worker that has no device but its own.
    pub fn list(&self) -> anyhow::Result<filter::List> {
        let folders: Vec<_> = self.folders.iter().map(AsRawFd::as_raw_fd).collect();
        filter::of_a_worker(&folders).context(filter::UNSOUND)
    }

    /// From here on every thread makes these system calls and no others.
    pub fn filter_by(self, list: filter::List) -> anyhow::Result<Sandbox> {
        // Where the clock is in the process's memory is found out when it is first read, by a system
        // call that is on no list.
        mdev::engine::now();
        if self.mode == SandboxMode::On {
            trap::install(self.program)?;
        }
        filter::enter(self.mode, list)?;
        let status = Sandbox {
            seccomp: self.mode,
            ..self.status
        };
        say(&status);
        Ok(status)
    }
}

/// Says aloud what is not as it should be.
fn say(status: &Sandbox) {
    match status.seccomp {
        SandboxMode::On => {}
        SandboxMode::Log => {
            tracing::warn!("system calls that are not allowed are only logged, by the kernel");
        }
        SandboxMode::Off => {
            tracing::warn!("the process is not confined");
            return;
        }
    }
    match status.landlock {
        Landlock::Full => {}
        Landlock::Partial => {
            tracing::info!("this kernel's Landlock is an older one: it forbids less");
        }
        Landlock::None => {
            tracing::warn!("this kernel has no Landlock: only seccomp keeps files shut");
        }
    }
}
