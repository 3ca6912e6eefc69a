//! `vgpu run`: becomes a `vgpu-worker` with the same arguments.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, anyhow};

/// Returns only if the worker cannot be started. The arguments were checked by then: the worker
/// has the same.
pub(crate) fn run() -> anyhow::Result<()> {
    let worker = worker_path()?;
    let arguments = std::env::args_os().skip(2);
    let error = Command::new(&worker).args(arguments).exec();
    Err(anyhow!(error).context(format!("cannot start {}", worker.display())))
}

/// The worker of the same build: it lies beside this program.
fn worker_path() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell where vgpu itself is")?;
    Ok(own.with_file_name("vgpu-worker"))
}
