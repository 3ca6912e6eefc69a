//! `vgpu run`: becomes a `vgpu-worker` with the same arguments.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, anyhow};
use vgpud::programs;

/// Returns only if the worker cannot be started. The arguments were checked by then: the worker
/// has the same.
pub(crate) fn run() -> anyhow::Result<()> {
    let worker = programs::find(programs::WORKER).context("cannot tell where vgpu itself is")?;
    let arguments = std::env::args_os().skip(2);
    let error = Command::new(&worker).args(arguments).exec();
    Err(anyhow!(error).context(format!("cannot start {}", worker.display())))
}
