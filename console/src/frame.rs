//! The picture as it was seen last, in tiles, and when each of them changed.

use std::ops::Range;

use crate::cursor::Cursor;
use crate::rfb::Rect;

/// Pixels of a tile, each way.
pub const TILE: usize = 64;

/// Most tiles that are sent as one rectangle, side by side: what is encoded at a time is bounded.
const MAX_RUN: usize = 32;

/// Most pixels each way. RFB could tell of 65,535.
pub const MAX_SIDE: u32 = 16_384;

/// Most pixels of all: 8K, and some. The worker says how large a picture is, and could else choose
/// our memory.
pub const MAX_PIXELS: u64 = 40 << 20;

/// What is shown where there is no picture: dark, and not as black as a screen without power.
pub const DARK: u32 = 0x00_20_20_24;

/// The size before there was any picture.
pub const SIZE_AT_FIRST: (u16, u16) = (640, 480);

/// A picture.
#[derive(Debug)]
pub struct Frame {
    width: usize,
    height: usize,
    /// `0x00RRGGBB`, line after line.
    pixels: Vec<u32>,
    /// For each tile, line after line, in which turn it changed.
    changed: Vec<u64>,
    /// The turns so far.
    turn: u64,
    /// Tells this size from those before it.
    epoch: u64,
    /// What lies over it; `None` of a device that has shown none yet.
    pub cursor: Option<Cursor>,
}

/// What a viewer has of a frame: for each tile, up to which turn.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    epoch: u64,
    turns: Vec<u64>,
}

impl Frame {
    /// A dark picture.
    pub fn new((width, height): (u16, u16)) -> Self {
        let mut frame = Self {
            width: 0,
            height: 0,
            pixels: Vec::new(),
            changed: Vec::new(),
            turn: 0,
            epoch: 0,
            cursor: None,
        };
        frame.resize((width, height));
        frame
    }

    /// Makes it dark, and of that size.
    pub fn resize(&mut self, (width, height): (u16, u16)) {
        (self.width, self.height) = (usize::from(width), usize::from(height));
        self.turn += 1;
        self.epoch += 1;
        self.pixels = vec![DARK; self.width * self.height];
        self.changed = vec![self.turn; self.across() * self.height.div_ceil(TILE)];
    }

    /// Its size.
    pub fn size(&self) -> (u16, u16) {
        let small = |side: usize| u16::try_from(side).unwrap_or(u16::MAX);
        (small(self.width), small(self.height))
    }

    /// Tiles side by side.
    fn across(&self) -> usize {
        self.width.div_ceil(TILE)
    }

    /// Begins a turn: what changes from here on is newer than what was seen.
    pub fn begin_turn(&mut self) {
        self.turn += 1;
    }

    /// Takes over tiles that lie side by side, as they are now: their lines, from the top of the
    /// tiles in that row on. Whether any differs from what was there.
    pub fn take_tiles(&mut self, row: usize, columns: Range<usize>, pixels: &[u32]) -> bool {
        let (width, turn, across) = (self.width, self.turn, self.across());
        let left = columns.start * TILE;
        let span = (columns.end * TILE).min(width).saturating_sub(left);
        let start = row * TILE * width;
        let end = (start + TILE * width).min(self.pixels.len());
        let Some(band) = self.pixels.get_mut(start..end) else {
            return false;
        };
        if span == 0 || pixels.len() != span * (band.len() / width) {
            return false;
        }
        let mut is_other = false;
        for column in columns {
            let at = column * TILE - left;
            let tile = at..(at + TILE).min(span);
            let mut has_changed = false;
            for (old, new) in band.chunks_exact_mut(width).zip(pixels.chunks_exact(span)) {
                let old = &mut old[left..left + span];
                if old[tile.clone()] != new[tile.clone()] {
                    old[tile.clone()].copy_from_slice(&new[tile.clone()]);
                    has_changed = true;
                }
            }
            if let (true, Some(changed)) =
                (has_changed, self.changed.get_mut(row * across + column))
            {
                *changed = turn;
            }
            is_other |= has_changed;
        }
        is_other
    }

    /// The rectangles of `area` that are newer than what a viewer has seen, in whole tiles. They
    /// count as seen from here on: who gets them copies them later, and may then copy what is newer
    /// still, which it gets once more.
    pub fn news(&self, area: Rect, seen: &mut Seen) -> Vec<Rect> {
        if seen.epoch != self.epoch {
            *seen = Seen {
                epoch: self.epoch,
                turns: vec![0; self.changed.len()],
            };
        }
        let columns = tiles(area.x, area.width, self.width);
        let mut rects = Vec::new();
        for row in tiles(area.y, area.height, self.height) {
            let mut run = None;
            for column in columns.clone() {
                let at = row * self.across() + column;
                let is_new = match (self.changed.get(at), seen.turns.get_mut(at)) {
                    (Some(changed), Some(turn)) if changed > turn => {
                        *turn = self.turn;
                        true
                    }
                    _ => false,
                };
                run = match run {
                    Some((first, length)) if is_new && length < MAX_RUN => {
                        Some((first, length + 1))
                    }
                    run => {
                        rects.extend(run.map(|run| self.rect_of(row, run)));
                        is_new.then_some((column, 1))
                    }
                };
            }
            rects.extend(run.map(|run| self.rect_of(row, run)));
        }
        rects
    }

    /// Has a viewer see nothing of `area`: it is all news.
    pub fn forget(&self, area: Rect, seen: &mut Seen) {
        for row in tiles(area.y, area.height, self.height) {
            for column in tiles(area.x, area.width, self.width) {
                if let Some(turn) = seen.turns.get_mut(row * self.across() + column) {
                    *turn = 0;
                }
            }
        }
    }

    /// Whether a viewer has seen nothing of this size yet.
    pub fn is_unknown_to(&self, seen: &Seen) -> bool {
        seen.epoch != self.epoch
    }

    fn rect_of(&self, row: usize, (column, length): (usize, usize)) -> Rect {
        // Both sides are at most those of `size`.
        let small = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
        let (left, top) = (column * TILE, row * TILE);
        Rect {
            x: small(left),
            y: small(top),
            width: small((length * TILE).min(self.width - left)),
            height: small(TILE.min(self.height - top)),
        }
    }

    /// Copies a rectangle out. What lies outside of the picture, which may have become smaller, is
    /// dark.
    pub fn copy(&self, rect: Rect, out: &mut Vec<u32>) {
        out.clear();
        let (left, width) = (usize::from(rect.x), usize::from(rect.width));
        for y in usize::from(rect.y)..usize::from(rect.y) + usize::from(rect.height) {
            let line = self.pixels.get(y * self.width..(y + 1) * self.width);
            let inside = line.and_then(|line| line.get(left..)).unwrap_or_default();
            let inside = &inside[..inside.len().min(width)];
            out.extend(inside);
            out.extend(std::iter::repeat_n(DARK, width - inside.len()));
        }
    }
}

/// A rectangle cut into parts that are as large as those that a frame tells of.
pub fn in_tiles(whole: Rect) -> Vec<Rect> {
    let step = |tiles: usize| u16::try_from(tiles * TILE).unwrap_or(u16::MAX);
    let (across, down) = (step(MAX_RUN), step(1));
    let tops = (whole.y..whole.y.saturating_add(whole.height)).step_by(usize::from(down));
    let lefts = (whole.x..whole.x.saturating_add(whole.width)).step_by(usize::from(across));
    tops.flat_map(|y| lefts.clone().map(move |x| (x, y)))
        .map(|(x, y)| {
            let part = Rect {
                x,
                y,
                width: across,
                height: down,
            };
            part.intersection(whole)
        })
        .collect()
}

/// The tiles that a stretch touches, of a side that has so many pixels.
fn tiles(start: u16, length: u16, side: usize) -> Range<usize> {
    let start = usize::from(start).min(side);
    let end = (start + usize::from(length)).min(side);
    if start == end {
        return 0..0;
    }
    start / TILE..end.div_ceil(TILE)
}

#[cfg(test)]
mod tests;
