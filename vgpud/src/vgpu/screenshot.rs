//! `vgpu screenshot`: what a worker shows, as a PNG file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use mdev::scanout::PixelFormat;
use serde::Serialize;
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
    let rgb = read_rgb(&picture)?;
    let file = arguments.file.as_path();
    if file == Path::new("-") {
        write_png(io::stdout().lock(), &picture, &rgb)?;
        return Ok(());
    }
    let output = File::create(file).with_context(|| format!("cannot create {}", file.display()))?;
    write_png(output, &picture, &rgb)
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

/// The picture as red, green, blue. The guest may be drawing meanwhile.
fn read_rgb(picture: &Picture) -> anyhow::Result<Vec<u8>> {
    let geometry = &picture.geometry;
    let end = geometry.end().context("the picture has no size")?;
    let memory = rustix::fs::fstat(&picture.memory).context("cannot ask for the memory's size")?;
    ensure!(
        u64::try_from(memory.st_size).is_ok_and(|size| end <= size),
        "the picture does not lie in its memory"
    );
    let mut line = vec![0; geometry.width as usize * 4];
    let mut rgb = Vec::with_capacity(line.len() * geometry.height as usize);
    for y in 0..u64::from(geometry.height) {
        let at = geometry.offset + y * u64::from(geometry.stride);
        read_exactly(picture, &mut line, at)?;
        for pixel in line.chunks_exact(4) {
            match geometry.format {
                PixelFormat::Xrgb8888 => rgb.extend([pixel[2], pixel[1], pixel[0]]),
                PixelFormat::Bgrx8888 => rgb.extend([pixel[1], pixel[2], pixel[3]]),
            }
        }
    }
    Ok(rgb)
}

fn read_exactly(picture: &Picture, mut line: &mut [u8], mut at: u64) -> anyhow::Result<()> {
    while !line.is_empty() {
        let read = rustix::io::pread(&picture.memory, &mut *line, at)
            .context("cannot read the picture's memory")?;
        ensure!(read > 0, "the picture's memory ended early");
        line = &mut line[read..];
        at += read as u64;
    }
    Ok(())
}

fn write_png(output: impl Write, picture: &Picture, rgb: &[u8]) -> anyhow::Result<()> {
    let geometry = &picture.geometry;
    let mut encoder = png::Encoder::new(BufWriter::new(output), geometry.width, geometry.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(rgb)?;
    writer.finish()?;
    Ok(())
}
