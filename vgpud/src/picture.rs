//! A picture that a worker shows, as a PNG file.

use std::io::{self, Write};

use mdev::scanout::PixelFormat;
use worker::control::Picture;

/// The picture as a PNG file.
pub fn png(picture: &Picture) -> io::Result<Vec<u8>> {
    let mut file = Vec::new();
    write_png(&mut file, picture)?;
    Ok(file)
}

/// Writes the picture as a PNG file.
pub fn write_png(output: impl Write, picture: &Picture) -> io::Result<()> {
    let rgb = read_rgb(picture)?;
    let geometry = &picture.geometry;
    let mut encoder = png::Encoder::new(output, geometry.width, geometry.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header().map_err(io_error)?;
    writer.write_image_data(&rgb).map_err(io_error)?;
    writer.finish().map_err(io_error)
}

fn io_error(error: png::EncodingError) -> io::Error {
    match error {
        png::EncodingError::IoError(error) => error,
        other => io::Error::other(other),
    }
}

/// The picture as red, green, blue. The guest may be drawing meanwhile.
fn read_rgb(picture: &Picture) -> io::Result<Vec<u8>> {
    let geometry = &picture.geometry;
    let end = geometry
        .end()
        .ok_or_else(|| invalid("the picture has no size"))?;
    let memory = rustix::fs::fstat(&picture.memory)?;
    if !u64::try_from(memory.st_size).is_ok_and(|size| end <= size) {
        return Err(invalid("the picture does not lie in its memory"));
    }
    let mut line = vec![0; geometry.width as usize * 4];
    let mut rgb = Vec::with_capacity(line.len() * geometry.height as usize);
    for y in 0..u64::from(geometry.height) {
        let at = geometry.offset + y * u64::from(geometry.stride);
        read_exactly(picture, &mut line, at)?;
        for pixel in line.chunks_exact(4) {
            match geometry.format {
                PixelFormat::Xrgb8888 => rgb.extend([pixel[2], pixel[1], pixel[0]]),
                PixelFormat::Bgrx8888 => rgb.extend([pixel[1], pixel[2], pixel[3]]),
                PixelFormat::Xbgr8888 => rgb.extend([pixel[0], pixel[1], pixel[2]]),
                PixelFormat::Rgbx8888 => rgb.extend([pixel[3], pixel[2], pixel[1]]),
            }
        }
    }
    Ok(rgb)
}

fn read_exactly(picture: &Picture, mut line: &mut [u8], mut at: u64) -> io::Result<()> {
    while !line.is_empty() {
        let read = rustix::io::pread(&picture.memory, &mut *line, at)?;
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
