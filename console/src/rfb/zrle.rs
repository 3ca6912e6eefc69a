//! ZRLE: tiles of 64 by 64 pixels, each as short as one of a few ways makes it, and all of that
//! through zlib (RFC 6143, 7.7.6). The stream goes on through the life of a connection.

use flate2::{Compress, Compression, FlushCompress};

use super::format::Packer;

/// Pixels of a tile, each way.
const TILE: usize = 64;

/// Most colours of a tile that has a palette and no runs.
const MAX_PALETTE: usize = 16;

/// A tile of one colour.
const SOLID: u8 = 1;

/// A tile of runs.
const RUNS: u8 = 128;

/// One connection's compressor.
#[derive(Debug)]
pub struct Zrle {
    stream: Compress,
    /// What goes into it: of one rectangle.
    tiles: Vec<u8>,
    tile: Vec<u32>,
}

impl Default for Zrle {
    fn default() -> Self {
        Self {
            // A viewer waits: what is easily found suffices.
            stream: Compress::new(Compression::fast(), true),
            tiles: Vec::new(),
            tile: Vec::with_capacity(TILE * TILE),
        }
    }
}

impl Zrle {
    /// Writes a rectangle of that many pixels across: its length, and its compressed tiles.
    pub fn put(&mut self, pixels: &[u32], width: usize, packer: Packer, out: &mut Vec<u8>) {
        self.tiles.clear();
        // An empty one has no tiles.
        let width = width.max(1);
        for band in pixels.chunks(width * TILE) {
            for left in (0..width).step_by(TILE) {
                let across = TILE.min(width - left);
                self.tile.clear();
                for line in band.chunks_exact(width) {
                    self.tile.extend(line.iter().skip(left).take(across));
                }
                put_tile(&self.tile, across, packer, &mut self.tiles);
            }
        }
        let head = out.len();
        out.extend([0; 4]);
        self.compress(out);
        let length = u32::try_from(out.len() - head - 4).unwrap_or(u32::MAX);
        if let Some(place) = out.get_mut(head..head + 4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }

    /// Appends the tiles compressed, all of them: the viewer can decode them when it has them.
    fn compress(&mut self, out: &mut Vec<u8>) {
        let mut rest = self.tiles.as_slice();
        loop {
            out.reserve(rest.len() / 8 + 256);
            let before = self.stream.total_in();
            // It fails only if its parameters make no sense.
            let _ = self.stream.compress_vec(rest, out, FlushCompress::Sync);
            let taken = usize::try_from(self.stream.total_in() - before).unwrap_or(usize::MAX);
            rest = rest.get(taken..).unwrap_or_default();
            // Where room is left, nothing is held back.
            if rest.is_empty() && out.len() < out.capacity() {
                return;
            }
        }
    }
}

fn put_tile(tile: &[u32], width: usize, packer: Packer, out: &mut Vec<u8>) {
    let (palette, runs_len) = look_at(tile, packer);
    let raw_len = tile.len() * packer.len_of_one();
    match palette.as_deref() {
        Some(&[colour]) => {
            out.push(SOLID);
            packer.put(colour, out);
        }
        Some(palette) if packed_len(palette, tile.len(), width, packer) <= runs_len => {
            put_packed(tile, width, palette, packer, out);
        }
        _ if runs_len < raw_len => put_runs(tile, packer, out),
        _ => {
            out.push(0);
            packer.put_all(tile, out);
        }
    }
}

/// The colours of a tile, if they are few, and the bytes that its runs would take.
fn look_at(tile: &[u32], packer: Packer) -> (Option<Vec<u32>>, usize) {
    let mut palette = Some(Vec::with_capacity(MAX_PALETTE));
    let mut runs_len = 0;
    for run in tile.chunk_by(|one, next| one == next) {
        runs_len += packer.len_of_one() + (run.len() - 1) / 255 + 1;
        let Some(colours) = &mut palette else {
            continue;
        };
        let Some(colour) = run.first() else { continue };
        if !colours.contains(colour) {
            if colours.len() == MAX_PALETTE {
                palette = None;
            } else {
                colours.push(*colour);
            }
        }
    }
    (palette, runs_len)
}

/// Bits of a pixel that is a place in a palette.
fn bits_of(palette: &[u32]) -> usize {
    match palette.len() {
        ..=2 => 1,
        3..=4 => 2,
        _ => 4,
    }
}

fn packed_len(palette: &[u32], pixels: usize, width: usize, packer: Packer) -> usize {
    let line = (width * bits_of(palette)).div_ceil(8);
    palette.len() * packer.len_of_one() + line * (pixels / width.max(1))
}

/// A tile of few colours: the palette, and for each pixel its place there, each line in whole bytes.
fn put_packed(tile: &[u32], width: usize, palette: &[u32], packer: Packer, out: &mut Vec<u8>) {
    // 16 at most.
    out.push(u8::try_from(palette.len()).unwrap_or(0));
    packer.put_all(palette, out);
    let bits = bits_of(palette);
    for line in tile.chunks(width) {
        for pixels in line.chunks(8 / bits) {
            let mut byte = 0_u8;
            for (at, pixel) in pixels.iter().enumerate() {
                let place = palette.iter().position(|colour| colour == pixel);
                let place = u8::try_from(place.unwrap_or(0)).unwrap_or(0);
                byte |= place << (8 - bits * (at + 1));
            }
            out.push(byte);
        }
    }
}

/// A tile of runs: each its colour, and its length less one in bytes that are added up, the last not
/// 255.
fn put_runs(tile: &[u32], packer: Packer, out: &mut Vec<u8>) {
    out.push(RUNS);
    for run in tile.chunk_by(|one, next| one == next) {
        let Some(colour) = run.first() else { continue };
        packer.put(*colour, out);
        let mut rest = run.len() - 1;
        while rest >= 255 {
            out.push(255);
            rest -= 255;
        }
        out.push(u8::try_from(rest).unwrap_or(0));
    }
}
