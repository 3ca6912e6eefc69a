//! `vgpu save`, `vgpu restore`: the state of a running vGPU, into a file and out of it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use worker::state_file;

use crate::output::save as save_file;
use crate::target::{Api, Target, Way};

#[derive(clap::Args)]
#[command(allow_missing_positional = true)]
pub(crate) struct SaveArguments {
    #[command(flatten)]
    target: Target,
    /// Where to save the state; '-' for standard output
    #[arg(value_name = "FILE", required = true)]
    file: PathBuf,
    #[command(flatten)]
    api: Api,
}

#[derive(clap::Args)]
#[command(allow_missing_positional = true)]
pub(crate) struct RestoreArguments {
    #[command(flatten)]
    target: Target,
    /// What `save` has saved; '-' for standard input
    #[arg(value_name = "FILE", required = true)]
    file: PathBuf,
    #[command(flatten)]
    api: Api,
}

pub(crate) fn save(arguments: &SaveArguments) -> anyhow::Result<()> {
    let way = arguments.target.reach(&arguments.api)?;
    save_file(&arguments.file, |mut output| match way {
        Way::Daemon(client, uuid) => Ok(client.save_state(uuid, &mut output)?),
        Way::Worker(control) => {
            io::copy(&mut control.save()?, output).context("cannot write the state")?;
            Ok(())
        }
    })
}

pub(crate) fn restore(arguments: &RestoreArguments) -> anyhow::Result<()> {
    let what = || format!("cannot read {}", arguments.file.display());
    let mut input: Box<dyn Read> = match arguments.file.as_path() {
        file if file == Path::new("-") => Box::new(io::stdin().lock()),
        file => Box::new(File::open(file).with_context(what)?),
    };
    match arguments.target.reach(&arguments.api)? {
        Way::Daemon(client, uuid) => {
            // A refusal before all is sent would read as a broken connection.
            client.instance(uuid)?;
            client.restore_state(uuid, &mut input)?;
        }
        Way::Worker(control) => {
            let mut state = state_file::create().context("cannot make a memory file")?;
            io::copy(&mut input, &mut state).with_context(what)?;
            control.restore(&state)?;
        }
    }
    Ok(())
}
