//! What the process gives up before it reads the first byte of a client.
//!
//! A client is a VMM that a guest may have broken into, and what it sends may break in here. Then
//! this is what is left to it: its own device, its own guest's memory, and a process that can open,
//! start and reach nothing. In the order of a start:
//!
//! - [`environment`]: nobody's variables.
//! - [`limits`]: a control group, and bounds on descriptors, threads and memory.
//! - [`privileges`]: another user, no capabilities, none by starting a program, no debugger.
//! - [`filesystem`]: no file, by Landlock.
//!
//! All is done while there is one thread, from which the others have it.

pub(crate) mod environment;
mod filesystem;
mod limits;
mod privileges;

use std::os::fd::BorrowedFd;

use rustix::fs::Mode;

use worker::arguments::{SandboxArguments, SandboxMode};
use worker::protocol::{Landlock, Sandbox};

/// Gives up what belongs to a thread or the process. There must be one thread, and whatever files
/// it needs must be open. In `folders` it goes on removing files.
pub(crate) fn confine(
    arguments: &SandboxArguments,
    folders: &[BorrowedFd<'_>],
) -> anyhow::Result<Sandbox> {
    let mode = arguments.sandbox;
    if let Some(cgroup) = &arguments.cgroup {
        limits::join(cgroup)?;
    }
    limits::set(arguments)?;
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
        landlock = filesystem::close(folders)?;
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
    say(mode, &status);
    Ok(status)
}

/// Says aloud what is not as it should be.
fn say(mode: SandboxMode, status: &Sandbox) {
    if mode == SandboxMode::Off {
        tracing::warn!("the process is not confined");
        return;
    }
    match status.landlock {
        Landlock::Full => {}
        Landlock::Partial => {
            tracing::info!("this kernel's Landlock is an older one: it forbids less");
        }
        Landlock::None => {
            tracing::warn!("this kernel has no Landlock: files stay open to whoever breaks in");
        }
    }
}
