//! Process 1: mounts, modules, then the agent, or another system.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::thread;

use guest::wire::FromGuest;
use rustix::mount::{MountFlags, mount};

use crate::agent::Agent;
use crate::switch;

/// Written by the host: the modules to load, one path a line, in order.
const MODULE_LIST: &str = "/etc/modules";

/// Brings the guest up and serves it. Never returns: the kernel panics when process 1 ends.
pub(crate) fn run() -> ! {
    if let Err(error) = bring_up() {
        eprintln!("init: {error}");
    }
    loop {
        thread::park();
    }
}

/// Mounts what programs expect, loads the modules, and serves the host.
fn bring_up() -> io::Result<()> {
    for (kind, target) in [
        ("devtmpfs", "/dev"),
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("tmpfs", "/tmp"),
    ] {
        mount(kind, target, kind, MountFlags::empty(), None)?;
    }
    let problems = load_modules();
    if let Some(disk) = switch::root() {
        for problem in problems {
            eprintln!("init: {problem}");
        }
        return switch::switch(&disk);
    }
    let mut agent = Agent::open()?;
    for problem in problems {
        eprintln!("init: {problem}");
        agent.tell(&FromGuest::Problem(problem))?;
    }
    agent.serve()
}

/// Loads the listed modules; returns what went wrong, a line each.
fn load_modules() -> Vec<String> {
    let list = fs::read_to_string(MODULE_LIST).unwrap_or_default();
    list.lines()
        .filter_map(|path| {
            let error = insmod(Path::new(path)).err()?;
            Some(format!("{path}: {error}"))
        })
        .collect()
}

/// Loads one module file.
fn insmod(path: &Path) -> io::Result<()> {
    rustix::system::finit_module(File::open(path)?, c"", 0)?;
    Ok(())
}
