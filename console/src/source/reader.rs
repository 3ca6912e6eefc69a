//! Pixels out of a memory file, which the guest may be writing meanwhile, and its worker may cut off.
//!
//! They are read by `pread`, and not through a mapping: a file that has become shorter is then an
//! error and no SIGBUS, and what was read is our own, looked at as often as one likes.

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;

use mdev::scanout::{Geometry, PixelFormat, Rect};
use rustix::fs::FileType;
use worker::control::Picture;
use worker::protocol::CursorImage;

use crate::cursor::{Image, MAX_SIDE as MAX_SIDE_OF_CURSOR};
use crate::frame::{MAX_PIXELS, MAX_SIDE, TILE};
use crate::hub::Hub;

/// Lines whose starts lie further apart than so many times their length are read one by one.
const MAX_GAP: u64 = 2;

/// Larger than any picture.
const EVERYTHING: Rect = Rect {
    x: 0,
    y: 0,
    width: u32::MAX,
    height: u32::MAX,
};

/// The picture that is read.
#[derive(Debug)]
pub(super) struct Reader {
    picture: Option<Picture>,
    /// What may have changed since it was looked at, of a device that tells what is drawn.
    drawn: Rect,
    bytes: Vec<u8>,
    pixels: Vec<u32>,
}

/// Tiles that lie side by side, and the lines of them.
#[derive(Clone, Copy, Debug)]
struct Part {
    left: u32,
    top: u32,
    width: u32,
    height: u32,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            picture: None,
            drawn: EVERYTHING,
            bytes: Vec::new(),
            pixels: Vec::new(),
        }
    }
}

impl Reader {
    /// Reads this one from now on: its size.
    pub(super) fn take(&mut self, picture: Picture) -> io::Result<(u16, u16)> {
        let size = check(&picture)?;
        if let Some(drawn) = picture.drawn {
            self.drawn = self.drawn.union(drawn);
        }
        self.picture = Some(picture);
        Ok(size)
    }

    /// Reads none from now on. The next one is looked at as a whole.
    pub(super) fn forget(&mut self) {
        self.picture = None;
        self.drawn = EVERYTHING;
    }

    /// Whether a look could find something new. Of a device that does not tell what is drawn it
    /// always could.
    pub(super) fn may_have_changed(&self) -> bool {
        let picture = self.picture.as_ref();
        picture.is_some_and(|picture| picture.drawn.is_none() || !self.drawn.is_empty())
    }

    /// Looks at what may have changed, and takes over what is new. Whether anything is.
    pub(super) fn look(&mut self, hub: &Hub) -> io::Result<bool> {
        let Some(picture) = &self.picture else {
            return Ok(false);
        };
        let Geometry { width, height, .. } = picture.geometry;
        let whole = Rect::whole(width, height);
        let drawn = std::mem::take(&mut self.drawn);
        let area = picture.drawn.map_or(whole, |_| drawn.intersection(whole));
        let columns = tiles(area.x, area.width);
        let left = columns.start * TILE as u32;
        let mut has_changed = false;
        for row in tiles(area.y, area.height) {
            let top = row * TILE as u32;
            let part = Part {
                left,
                top,
                width: (columns.end * TILE as u32).min(width) - left,
                height: (TILE as u32).min(height - top),
            };
            self.pixels.clear();
            read_part(picture, part, &mut self.bytes, &mut self.pixels)?;
            let (pixels, columns) = (&self.pixels, columns.start as usize..columns.end as usize);
            has_changed |= hub.with_frame(|frame| frame.take_tiles(row as usize, columns, pixels));
        }
        Ok(has_changed)
    }
}

/// The tiles that a stretch touches.
fn tiles(start: u32, length: u32) -> Range<u32> {
    let tile = TILE as u32;
    match length {
        0 => 0..0,
        _ => start / tile..(start + length).div_ceil(tile),
    }
}

/// Whether a picture can be: what the worker says of it is not believed.
fn check(picture: &Picture) -> io::Result<(u16, u16)> {
    let Geometry { width, height, .. } = picture.geometry;
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || width > MAX_SIDE || height > MAX_SIDE || pixels > MAX_PIXELS {
        return Err(invalid("no picture has that size"));
    }
    check_memory(&picture.geometry, &picture.memory)?;
    // Both are at most MAX_SIDE.
    let small = |side: u32| u16::try_from(side).unwrap_or(u16::MAX);
    Ok((small(width), small(height)))
}

fn check_memory(geometry: &Geometry, memory: &OwnedFd) -> io::Result<()> {
    let file = rustix::fs::fstat(memory)?;
    if FileType::from_raw_mode(file.st_mode) != FileType::RegularFile {
        return Err(invalid("the picture does not lie in memory"));
    }
    let end = geometry.end();
    if !end.is_some_and(|end| u64::try_from(file.st_size).is_ok_and(|size| end <= size)) {
        return Err(invalid("the picture does not lie in its memory"));
    }
    Ok(())
}

/// Appends a part of a picture, as `0x00RRGGBB`.
fn read_part(
    picture: &Picture,
    part: Part,
    bytes: &mut Vec<u8>,
    pixels: &mut Vec<u32>,
) -> io::Result<()> {
    let geometry = &picture.geometry;
    let (line, stride) = (u64::from(part.width) * 4, u64::from(geometry.stride));
    let start = geometry.offset + u64::from(part.left) * 4;
    let is_dense = (line..=line * MAX_GAP).contains(&stride);
    let at_a_time = if is_dense { part.height } else { 1 };
    for first in (part.top..part.top + part.height).step_by(at_a_time as usize) {
        let length = stride * u64::from(at_a_time - 1) + line;
        // Twice 64 lines of MAX_SIDE pixels at most.
        bytes.resize(usize::try_from(length).unwrap_or(0), 0);
        read_exactly(&picture.memory, bytes, start + stride * u64::from(first))?;
        let step = if is_dense { stride } else { line };
        for start in bytes.chunks(usize::try_from(step).unwrap_or(usize::MAX)) {
            let line = start.as_chunks().0.iter().take(part.width as usize);
            append(line, geometry.format, pixels);
        }
    }
    Ok(())
}

fn append<'a>(line: impl Iterator<Item = &'a [u8; 4]>, format: PixelFormat, pixels: &mut Vec<u32>) {
    match format {
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

/// Reads how a cursor looks: its pixels with their alpha.
pub(super) fn read_cursor(image: &CursorImage, memory: &OwnedFd) -> io::Result<Image> {
    let geometry = &image.geometry;
    let (width, height) = (geometry.width, geometry.height);
    if !(1..=MAX_SIDE_OF_CURSOR).contains(&width) || !(1..=MAX_SIDE_OF_CURSOR).contains(&height) {
        return Err(invalid("no cursor has that size"));
    }
    check_memory(geometry, memory)?;
    let mut pixels = Vec::new();
    let mut bytes = vec![0; width as usize * 4];
    for line in 0..height {
        let at = geometry.offset + u64::from(geometry.stride) * u64::from(line);
        read_exactly(memory, &mut bytes, at)?;
        let words = bytes.as_chunks().0.iter();
        pixels.extend(words.map(|&pixel| match geometry.format {
            PixelFormat::Xrgb8888 => u32::from_le_bytes(pixel),
            PixelFormat::Bgrx8888 => u32::from_be_bytes(pixel),
            PixelFormat::Xbgr8888 => u32::from_be_bytes(pixel).rotate_right(8),
            PixelFormat::Rgbx8888 => u32::from_le_bytes(pixel).rotate_right(8),
        }));
    }
    // All of them are at most MAX_SIDE_OF_CURSOR.
    let small = |side: u32| u16::try_from(side).unwrap_or(u16::MAX);
    Ok(Image {
        width: small(width),
        height: small(height),
        hot: (
            small(image.hot_x.min(width - 1)),
            small(image.hot_y.min(height - 1)),
        ),
        pixels,
    })
}

fn read_exactly(memory: &OwnedFd, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let read = rustix::io::pread(memory, &mut *bytes, at)?;
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
