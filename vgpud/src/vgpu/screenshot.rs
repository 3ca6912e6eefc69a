//! `vgpu screenshot`: what a vGPU shows, as a PNG file.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;
use vgpud::api::View;
use vgpud::picture::Shot;

use crate::output::{print, save as save_file};
use crate::target::{Api, Target, Way};

#[derive(clap::Args)]
#[command(allow_missing_positional = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Where to save the picture; '-' for standard output
    #[arg(value_name = "FILE", required = true)]
    file: PathBuf,
    /// Of which head, from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    head: u32,
    /// With the cursor over it, where the device has one
    #[arg(long)]
    cursor: bool,
    /// Print what was saved as JSON
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    /// Print nothing
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    api: Api,
}

/// What is printed of a picture.
#[derive(Serialize)]
struct Saved<'a> {
    file: &'a Path,
    width: u32,
    height: u32,
    /// Counts the pictures that were shown; only a worker tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
}

pub(crate) fn save(arguments: &Arguments) -> anyhow::Result<()> {
    let file = arguments.file.as_path();
    let view = View {
        head: arguments.head,
        cursor: arguments.cursor,
    };
    let saved = match arguments.target.reach(&arguments.api)? {
        Way::Daemon(client, uuid) => {
            let png = client.screenshot(uuid, view)?;
            let (width, height) = png_size(&png).context("the daemon sent no picture")?;
            save_file(file, |output| Ok(output.write_all(&png)?))?;
            Saved {
                file,
                width,
                height,
                sequence: None,
            }
        }
        Way::Worker(control) => {
            let shot = Shot::take(&control, view)?;
            save_file(file, |output| Ok(shot.write_png(output)?))?;
            let picture = shot.picture;
            Saved {
                file,
                width: picture.geometry.width,
                height: picture.geometry.height,
                sequence: Some(picture.sequence),
            }
        }
    };
    print_saved(arguments, &saved)
}

/// Width and height of a PNG file: they stand first (PNG specification, 5.6 and 11.2.1).
fn png_size(png: &[u8]) -> Option<(u32, u32)> {
    let header = png.strip_prefix(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR")?;
    let (width, rest) = header.split_first_chunk()?;
    let (height, _) = rest.split_first_chunk()?;
    Some((u32::from_be_bytes(*width), u32::from_be_bytes(*height)))
}

fn print_saved(arguments: &Arguments, saved: &Saved<'_>) -> anyhow::Result<()> {
    if arguments.quiet || saved.file == Path::new("-") {
        return Ok(());
    }
    let text = if arguments.json {
        serde_json::to_string(saved)?
    } else {
        format!("{}: {}x{}", saved.file.display(), saved.width, saved.height)
    };
    Ok(print(&format!("{text}\n"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pictures_size_stands_in_its_file() {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, 3, 2);
        encoder.set_color(png::ColorType::Grayscale);
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&[0; 6]).unwrap();
        drop(writer);
        assert_eq!(png_size(&file), Some((3, 2)));
        assert_eq!(png_size(&file[..20]), None);
        assert_eq!(png_size(b"not a picture, not a picture"), None);
    }
}
