//! A real worker's picture, as viewers see it.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::pwrite;
use tempfile::TempDir;
use vfu::client::Client;
use worker::control::Control;

use crate::programs::{client, start_console, start_worker, viewer};
use crate::vnc::{DESKTOP_SIZE, EXTENDED_DESKTOP_SIZE, RAW, Viewer, ZRLE};

/// A guest that draws.
struct Guest {
    client: Client,
    memory: OwnedFd,
    width: u32,
}

impl Guest {
    fn new(folder: &TempDir) -> Self {
        let mut client = client(folder);
        let (_, mut files) = client.region_info(0).unwrap();
        Self {
            memory: files.remove(0),
            client,
            width: 0,
        }
    }

    /// Sets a mode (Bochs' display interface, `VBE_DISPI`).
    fn set_mode(&mut self, width: u16, height: u16) {
        self.width = width.into();
        for (index, value) in [
            (4, 0),
            (1, width),
            (2, height),
            (3, 32),
            (6, width),
            (4, 0x41),
        ] {
            let at = 0x500 + 2 * index;
            self.client
                .region_write(2, at, &value.to_le_bytes())
                .unwrap();
        }
    }

    /// Draws lines of pixels from a place on.
    fn draw(&self, (x, y): (u32, u32), width: usize, pixels: &[u32]) {
        for (line, pixels) in (y..).zip(pixels.chunks(width)) {
            let bytes: Vec<u8> = pixels
                .iter()
                .flat_map(|pixel| pixel.to_le_bytes())
                .collect();
            let at = u64::from(line * self.width + x) * 4;
            assert_eq!(pwrite(&self.memory, &bytes, at), Ok(bytes.len()));
        }
    }
}

/// What a screenshot would show: the worker's picture, read by its handle.
fn picture(folder: &TempDir) -> (usize, Vec<u32>) {
    let control = Control::connect(&folder.path().join("control")).unwrap();
    let picture = control.scanout(0).unwrap();
    let geometry = picture.geometry;
    let mut pixels = Vec::new();
    for line in 0..u64::from(geometry.height) {
        let mut bytes = vec![0; geometry.width as usize * 4];
        let at = geometry.offset + line * u64::from(geometry.stride);
        rustix::io::pread(picture.memory.as_fd(), &mut bytes, at).unwrap();
        let words = bytes.as_chunks().0.iter();
        pixels.extend(words.map(|&word| u32::from_le_bytes(word) & 0xff_ff_ff));
    }
    (geometry.width as usize, pixels)
}

/// Parts of every kind: one colour, few, runs, noise; with something in the unused byte.
pub(crate) fn pattern(width: usize, height: usize, seed: u32) -> Vec<u32> {
    let pixel = |x: usize, y: usize| {
        let place = (y * width + x) as u32;
        match (x / 80 + y / 50) % 5 {
            0 => 0x33_66_99 ^ seed,
            1 => (x as u32 / 3 % 3) * 0x40_50_60,
            2 => (y as u32 / 7) * 0x01_02_03,
            3 => (place ^ seed).wrapping_mul(0x9e37_79b9),
            _ => (x as u32 % 14) * 0x11_00_11 + seed,
        }
    };
    let lines = (0..height).flat_map(|y| (0..width).map(move |x| pixel(x, y)));
    lines
        .map(|pixel| pixel & 0xff_ff_ff | 0x5a00_0000)
        .collect()
}

fn sees(viewer: &mut Viewer, folder: &TempDir) {
    let (width, pixels) = picture(folder);
    viewer
        .wait_until(100, |viewer| {
            viewer.width == width && viewer.pixels == pixels
        })
        .unwrap();
}

#[test]
fn a_viewer_sees_what_the_guest_draws_pixel_for_pixel() {
    let folder = tempfile::tempdir().unwrap();
    let _worker = start_worker(&folder, "bochs-16m");
    let _console = start_console(&folder, &[]);
    let mut guest = Guest::new(&folder);
    let mut viewers = [
        viewer(&folder, &[RAW, DESKTOP_SIZE]),
        viewer(&folder, &[ZRLE, EXTENDED_DESKTOP_SIZE]),
    ];
    // The last is no multiple of tiles, either way.
    for (seed, (width, height)) in (1..).zip([(640, 480), (1024, 768), (800, 600), (1000, 330)]) {
        guest.set_mode(width, height);
        let (width, height) = (usize::from(width), usize::from(height));
        guest.draw((0, 0), width, &pattern(width, height, seed));
        for viewer in &mut viewers {
            sees(viewer, &folder);
        }
        // A part of it.
        guest.draw((131, 67), 200, &pattern(200, 150, seed + 100));
        for viewer in &mut viewers {
            sees(viewer, &folder);
        }
    }
}
