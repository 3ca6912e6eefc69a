//! A picture that a worker shows, as a PNG file.

use std::io::{self, Write};
use std::os::fd::OwnedFd;

use mdev::scanout::{Geometry, PixelFormat};
use worker::control::{Control, ControlError, Picture, Pointer};

use crate::api::View;

/// Longest side of a cursor: what a worker says is not believed.
const MAX_CURSOR: u32 = 512;

/// A picture, and the cursor that lies over it if it is wanted.
#[derive(Debug)]
pub struct Shot {
    /// The picture.
    pub picture: Picture,
    /// The cursor.
    pub pointer: Option<Pointer>,
}

impl Shot {
    /// Asks a worker for what is shown.
    pub fn take(control: &Control, view: View) -> Result<Self, ControlError> {
        let picture = control.scanout(view.head)?;
        let pointer = view.cursor.then(|| control.cursor(view.head)).transpose()?;
        Ok(Self { picture, pointer })
    }

    /// The picture as a PNG file.
    pub fn png(&self) -> io::Result<Vec<u8>> {
        let mut file = Vec::new();
        self.write_png(&mut file)?;
        Ok(file)
    }

    /// Writes the picture as a PNG file.
    pub fn write_png(&self, output: impl Write) -> io::Result<()> {
        let geometry = &self.picture.geometry;
        let mut rgb = Vec::new();
        read(&self.picture.memory, geometry, |[red, green, blue, _]| {
            rgb.extend([red, green, blue]);
        })?;
        if let Some(pointer) = &self.pointer {
            overlay(&mut rgb, geometry, pointer)?;
        }
        let mut encoder = png::Encoder::new(output, geometry.width, geometry.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::Fast);
        let mut writer = encoder.write_header().map_err(io_error)?;
        writer.write_image_data(&rgb).map_err(io_error)?;
        writer.finish().map_err(io_error)
    }
}

fn io_error(error: png::EncodingError) -> io::Error {
    match error {
        png::EncodingError::IoError(error) => error,
        other => io::Error::other(other),
    }
}

/// Hands out the pixels, a line after the other: red, green, blue, and the byte that a picture does not
/// use and a cursor has its alpha in. The guest may be drawing meanwhile.
fn read(memory: &OwnedFd, geometry: &Geometry, mut see: impl FnMut([u8; 4])) -> io::Result<()> {
    let end = geometry
        .end()
        .ok_or_else(|| invalid("the picture has no size"))?;
    let size = rustix::fs::fstat(memory)?.st_size;
    if !u64::try_from(size).is_ok_and(|size| end <= size) {
        return Err(invalid("the picture does not lie in its memory"));
    }
    let mut line = vec![0; geometry.width as usize * 4];
    for y in 0..u64::from(geometry.height) {
        let at = geometry.offset + y * u64::from(geometry.stride);
        read_exactly(memory, &mut line, at)?;
        for &[first, second, third, fourth] in line.as_chunks().0 {
            see(match geometry.format {
                PixelFormat::Xrgb8888 => [third, second, first, fourth],
                PixelFormat::Bgrx8888 => [second, third, fourth, first],
                PixelFormat::Xbgr8888 => [first, second, third, fourth],
                PixelFormat::Rgbx8888 => [fourth, third, second, first],
            });
        }
    }
    Ok(())
}

/// Lays a cursor over a picture, as far as it is inside. Its colours are multiplied by its alpha.
fn overlay(rgb: &mut [u8], picture: &Geometry, pointer: &Pointer) -> io::Result<()> {
    let Some((image, memory)) = &pointer.image else {
        return Ok(());
    };
    let Geometry { width, height, .. } = image.geometry;
    if width > MAX_CURSOR || height > MAX_CURSOR {
        return Err(invalid("no cursor is as large"));
    }
    let mut pixels = Vec::new();
    read(memory, &image.geometry, |pixel| pixels.push(pixel))?;
    let place = |start: i32, at: u32, end: u32| {
        let place = i64::from(start) + i64::from(at);
        u32::try_from(place).ok().filter(|place| *place < end)
    };
    for (y, line) in (0..).zip(pixels.chunks_exact(width as usize)) {
        for (x, [red, green, blue, alpha]) in (0..).zip(line) {
            let place = place(pointer.x, x, picture.width).zip(place(pointer.y, y, picture.height));
            let Some((x, y)) = place else {
                continue;
            };
            let at = (y as usize * picture.width as usize + x as usize) * 3;
            for (below, above) in rgb[at..].iter_mut().zip([red, green, blue]) {
                let through = u16::from(*below) * u16::from(255 - alpha) / 255;
                *below = above.saturating_add(u8::try_from(through).unwrap_or(u8::MAX));
            }
        }
    }
    Ok(())
}

fn read_exactly(memory: &OwnedFd, mut line: &mut [u8], mut at: u64) -> io::Result<()> {
    while !line.is_empty() {
        let read = rustix::io::pread(memory, &mut *line, at)?;
        if read == 0 {
            return Err(invalid("the picture's memory ended early"));
        }
        line = &mut line[read..];
        at += read as u64;
    }
    Ok(())
}

fn invalid(words: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, words)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, memfd_create};
    use worker::protocol::CursorImage;

    use super::*;

    const FORMAT: PixelFormat = PixelFormat::Xrgb8888;

    /// A memory file with pixels as `0xAARRGGBB`.
    fn memory(pixels: &[u32]) -> OwnedFd {
        let memory = memfd_create("picture", MemfdFlags::CLOEXEC).unwrap();
        let bytes: Vec<_> = pixels
            .iter()
            .flat_map(|pixel| pixel.to_le_bytes())
            .collect();
        assert_eq!(rustix::io::pwrite(&memory, &bytes, 0), Ok(bytes.len()));
        memory
    }

    fn geometry(width: u32, height: u32, format: PixelFormat) -> Geometry {
        Geometry {
            width,
            height,
            stride: width * 4,
            offset: 0,
            format,
        }
    }

    fn pointer(x: i32, y: i32, side: u32, pixels: &[u32]) -> Pointer {
        let image = CursorImage {
            geometry: geometry(side, side, FORMAT),
            hot_x: 0,
            hot_y: 0,
            sequence: 1,
        };
        Pointer {
            image: Some((image, memory(pixels))),
            x,
            y,
            sequence: 1,
        }
    }

    #[test]
    fn pixels_are_read_as_their_format_says() {
        for (format, rgb) in [
            (PixelFormat::Xrgb8888, [3, 2, 1, 4]),
            (PixelFormat::Bgrx8888, [2, 3, 4, 1]),
            (PixelFormat::Xbgr8888, [1, 2, 3, 4]),
            (PixelFormat::Rgbx8888, [4, 3, 2, 1]),
        ] {
            let mut seen = Vec::new();
            let geometry = geometry(1, 1, format);
            read(&memory(&[0x0403_0201]), &geometry, |pixel| seen.push(pixel)).unwrap();
            assert_eq!(seen, [rgb], "{format:?}");
        }
    }

    #[test]
    fn a_cursor_lies_over_the_picture_as_far_as_it_is_inside() {
        let picture = geometry(3, 2, FORMAT);
        let pixels = [0xff11_1111, 0x8040_0000, 0, 0xff22_2222];
        let below = [100; 18];
        let blended = [0x40 + 49, 49, 49];
        for (x, y, changed) in [
            (0, 0, vec![(0, [0x11; 3]), (1, blended), (4, [0x22; 3])]),
            (2, 1, vec![(5, [0x11; 3])]),
            (-1, -1, vec![(0, [0x22; 3])]),
            (-1, 0, vec![(0, blended), (3, [0x22; 3])]),
            (3, 0, vec![]),
            (i32::MIN, i32::MAX, vec![]),
        ] {
            let mut expected = below;
            for (pixel, rgb) in changed {
                expected[pixel * 3..][..3].copy_from_slice(&rgb);
            }
            let mut rgb = below;
            overlay(&mut rgb, &picture, &pointer(x, y, 2, &pixels)).unwrap();
            assert_eq!(rgb, expected, "{x} {y}");
        }
        let large = pointer(0, 0, MAX_CURSOR + 1, &[]);
        overlay(&mut [0; 18], &picture, &large).unwrap_err();
        let cut_off = pointer(0, 0, 3, &pixels);
        overlay(&mut [0; 18], &picture, &cut_off).unwrap_err();
    }
}
