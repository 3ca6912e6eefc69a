//! `vgpu screenshot`: what a worker shows, as a PNG file.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;
use vgpud::picture::write_png;
use worker::control::Picture;

use crate::ask::ControlArguments;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    worker: ControlArguments,
    /// Where to save the picture; '-' for standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print what was saved as JSON
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    /// Print nothing
    #[arg(short, long)]
    quiet: bool,
}

/// What is printed of a picture.
#[derive(Serialize)]
struct Saved<'a> {
    file: &'a Path,
    width: u32,
    height: u32,
    sequence: u64,
}

pub(crate) fn save(arguments: &Arguments) -> anyhow::Result<()> {
    let picture = arguments.worker.connect()?.scanout()?;
    let file = arguments.file.as_path();
    if file == Path::new("-") {
        write_png(BufWriter::new(io::stdout().lock()), &picture)?;
        return Ok(());
    }
    let output = File::create(file).with_context(|| format!("cannot create {}", file.display()))?;
    write_png(BufWriter::new(output), &picture)
        .with_context(|| format!("cannot write {}", file.display()))?;
    print_saved(arguments, &picture)
}

fn print_saved(arguments: &Arguments, picture: &Picture) -> anyhow::Result<()> {
    let saved = Saved {
        file: &arguments.file,
        width: picture.geometry.width,
        height: picture.geometry.height,
        sequence: picture.sequence,
    };
    if arguments.json {
        println!("{}", serde_json::to_string(&saved)?);
    } else if !arguments.quiet {
        let (width, height) = (saved.width, saved.height);
        println!("{}: {width}x{height}", saved.file.display());
    }
    Ok(())
}
