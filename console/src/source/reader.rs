//! Pixels out of a memory file, which the guest may be writing meanwhile, and its worker may cut off.
//!
//! They are read by `pread`, and not through a mapping: a file that has become shorter is then an
//! error and no SIGBUS, and what was read is our own, looked at as often as one likes.

use std::io;

use mdev::scanout::{Geometry, PixelFormat};
use rustix::fs::FileType;
use worker::control::Picture;

use crate::frame::{MAX_PIXELS, MAX_SIDE, TILE};
use crate::hub::Hub;

/// Lines whose starts lie further apart than so many times their length are read one by one.
const MAX_GAP: u64 = 2;

/// The picture that is read.
#[derive(Debug, Default)]
pub(super) struct Reader {
    picture: Option<Picture>,
    bytes: Vec<u8>,
    pixels: Vec<u32>,
}

impl Reader {
    /// Reads this one from now on: its size.
    pub(super) fn take(&mut self, picture: Picture) -> io::Result<(u16, u16)> {
        let size = check(&picture)?;
        self.picture = Some(picture);
        Ok(size)
    }

    /// Reads none from now on.
    pub(super) fn forget(&mut self) {
        self.picture = None;
    }

    /// Looks at the picture, and takes over what is new. Whether anything is.
    pub(super) fn look(&mut self, hub: &Hub) -> io::Result<bool> {
        let Some(picture) = &self.picture else {
            return Ok(false);
        };
        let geometry = picture.geometry;
        let mut has_changed = false;
        for (row, top) in (0..geometry.height).step_by(TILE).enumerate() {
            // A tile is 64 lines.
            let lines = (TILE as u32).min(geometry.height - top);
            self.pixels.clear();
            read_lines(picture, top, lines, &mut self.bytes, &mut self.pixels)?;
            let pixels = &self.pixels;
            has_changed |= hub.with_frame(|frame| frame.take_band(row, pixels));
        }
        Ok(has_changed)
    }
}

/// Whether a picture can be: what the worker says of it is not believed.
fn check(picture: &Picture) -> io::Result<(u16, u16)> {
    let Geometry { width, height, .. } = picture.geometry;
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || width > MAX_SIDE || height > MAX_SIDE || pixels > MAX_PIXELS {
        return Err(invalid("no picture has that size"));
    }
    let file = rustix::fs::fstat(&picture.memory)?;
    if FileType::from_raw_mode(file.st_mode) != FileType::RegularFile {
        return Err(invalid("the picture does not lie in memory"));
    }
    let end = picture.geometry.end();
    if !end.is_some_and(|end| u64::try_from(file.st_size).is_ok_and(|size| end <= size)) {
        return Err(invalid("the picture does not lie in its memory"));
    }
    // Both are at most MAX_SIDE.
    let small = |side: u32| u16::try_from(side).unwrap_or(u16::MAX);
    Ok((small(width), small(height)))
}

/// Appends lines of a picture, as `0x00RRGGBB`.
fn read_lines(
    picture: &Picture,
    top: u32,
    lines: u32,
    bytes: &mut Vec<u8>,
    pixels: &mut Vec<u32>,
) -> io::Result<()> {
    let geometry = &picture.geometry;
    let (line, stride) = (u64::from(geometry.width) * 4, u64::from(geometry.stride));
    let is_dense = (line..=line * MAX_GAP).contains(&stride);
    let at_a_time = if is_dense { lines } else { 1 };
    for first in (top..top + lines).step_by(at_a_time as usize) {
        let length = stride * u64::from(at_a_time - 1) + line;
        // Twice 64 lines of MAX_SIDE pixels at most.
        bytes.resize(usize::try_from(length).unwrap_or(0), 0);
        read_exactly(picture, bytes, geometry.offset + stride * u64::from(first))?;
        let step = if is_dense { stride } else { line };
        for start in bytes.chunks(usize::try_from(step).unwrap_or(usize::MAX)) {
            let line = start.as_chunks().0.iter().take(geometry.width as usize);
            match geometry.format {
                PixelFormat::Xrgb8888 => {
                    pixels.extend(line.map(|&pixel| u32::from_le_bytes(pixel) & 0xff_ff_ff));
                }
                PixelFormat::Bgrx8888 => {
                    pixels.extend(line.map(|&pixel| u32::from_be_bytes(pixel) & 0xff_ff_ff));
                }
                PixelFormat::Xbgr8888 => {
                    pixels.extend(line.map(|&pixel| u32::from_be_bytes(pixel) >> 8));
                }
                PixelFormat::Rgbx8888 => {
                    pixels.extend(line.map(|&pixel| u32::from_le_bytes(pixel) >> 8));
                }
            }
        }
    }
    Ok(())
}

fn read_exactly(picture: &Picture, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let read = rustix::io::pread(&picture.memory, &mut *bytes, at)?;
        if read == 0 {
            return Err(invalid("its memory ended early"));
        }
        bytes = bytes.get_mut(read..).unwrap_or_default();
        at += read as u64;
    }
    Ok(())
}

fn invalid(words: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, words)
}
