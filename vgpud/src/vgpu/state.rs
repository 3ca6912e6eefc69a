//! `vgpu save`, `vgpu restore`: the state of a running vGPU, into a file and out of it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use worker::state_file;

use crate::ask::ControlArguments;

#[derive(clap::Args)]
pub(crate) struct SaveArguments {
    #[command(flatten)]
    worker: ControlArguments,
    /// Where to save the state; '-' for standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(clap::Args)]
pub(crate) struct RestoreArguments {
    #[command(flatten)]
    worker: ControlArguments,
    /// What `save` has saved; '-' for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(crate) fn save(arguments: &SaveArguments) -> anyhow::Result<()> {
    let mut state = arguments.worker.connect()?.save()?;
    let file = arguments.file.as_path();
    if file == Path::new("-") {
        io::copy(&mut state, &mut io::stdout().lock()).context("cannot write the state")?;
        return Ok(());
    }
    write_whole(file, &mut state).with_context(|| format!("cannot write {}", file.display()))
}

/// Writes a file that is there whole or not at all.
fn write_whole(path: &Path, from: &mut File) -> io::Result<()> {
    let mut beside = OsString::from(path);
    beside.push(format!(".{}.part", std::process::id()));
    let written = File::create_new(&beside).and_then(|mut to| {
        io::copy(from, &mut to)?;
        to.sync_all()
    });
    let renamed = written.and_then(|()| fs::rename(&beside, path));
    if renamed.is_err() {
        // What went wrong before is what is to be told.
        let _ = fs::remove_file(&beside);
    }
    renamed
}

pub(crate) fn restore(arguments: &RestoreArguments) -> anyhow::Result<()> {
    let file = arguments.file.as_path();
    let mut state = state_file::create().context("cannot make a memory file")?;
    let read = if file == Path::new("-") {
        io::copy(&mut io::stdin().lock(), &mut state)
    } else {
        File::open(file).and_then(|mut from| io::copy(&mut from, &mut state))
    };
    read.with_context(|| format!("cannot read {}", file.display()))?;
    arguments.worker.connect()?.restore(&state)?;
    Ok(())
}
