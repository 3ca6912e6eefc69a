//! Several heads through KMS: a picture on each, a hardware cursor, and pictures that come and go.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use drm::buffer::{Buffer, DrmFourcc};
use drm::control::dumbbuffer::DumbBuffer;
use drm::control::{Device as ControlDevice, crtc};
use guest::pattern;

use crate::Failure;
use crate::kms::{Card, keep};

/// What the hot spot of the cursor is.
const HOT: (i32, i32) = (3, 4);

/// So many pictures of each size a driver may hold until it has heard that the next is up.
const HELD: usize = 2;

/// Prints the mode that each connector with a screen on it prefers, a line each.
pub(crate) fn print(card: &Path) -> Result<(), Failure> {
    for connector in Card::open(card)?.connectors()? {
        let mode = connector.modes().first().ok_or("a screen without modes")?;
        let (width, height) = mode.size();
        println!("{width}x{height}");
    }
    Ok(())
}

/// Shows the test picture on each head, of the size that is given for it, each head's seed one more
/// than that of the one before; and keeps them until killed. On the last head a cursor is moved to a
/// place, if there is one.
pub(crate) fn hold(
    card: &Path,
    seed: u32,
    sizes: &[(u16, u16)],
    cursor: Option<(i32, i32)>,
) -> Result<(), Failure> {
    let card = Card::open(card)?;
    let connectors = card.connectors()?;
    if connectors.len() != sizes.len() {
        return Err(format!("there are {} screens", connectors.len()).into());
    }
    let mut last = None;
    for ((seed, connector), size) in (seed..).zip(&connectors).zip(sizes) {
        let (picture, _) = card.picture(*size, seed)?;
        last = Some(card.show(connector, *size, picture)?);
    }
    if let (Some(crtc), Some(place)) = (last, cursor) {
        point(&card, crtc, place)?;
    }
    keep()
}

/// Shows the cursor, and moves it to a place.
#[expect(
    deprecated,
    reason = "drivers take it, and compositors that are no atomic ones use it"
)]
fn point(card: &Card, crtc: crtc::Handle, place: (i32, i32)) -> Result<(), Failure> {
    let image = cursor_image(card)?;
    card.set_cursor2(crtc, Some(&image), HOT)?;
    // There and back: what counts is where it comes to rest.
    for place in [(0, 0), (200, 100), place] {
        card.move_cursor(crtc, place)?;
    }
    Ok(())
}

fn cursor_image(card: &Card) -> Result<DumbBuffer, Failure> {
    let side = pattern::CURSOR;
    let mut buffer = card.create_dumb_buffer((side, side), DrmFourcc::Argb8888, 32)?;
    let pitch = buffer.pitch() as usize;
    let mut pixels = card.map_dumb_buffer(&mut buffer)?;
    for (y, row) in (0..side).zip(pixels.as_mut().chunks_mut(pitch)) {
        for (x, pixel) in (0..side).zip(row.chunks_exact_mut(4)) {
            pixel.copy_from_slice(&pattern::cursor(x, y).to_le_bytes());
        }
    }
    drop(pixels);
    Ok(buffer)
}

/// Makes a picture for each head, shows it and lets the one before go, again and again; prints how
/// often.
pub(crate) fn cycle(card: &Path, size: (u16, u16), seconds: u64) -> Result<(), Failure> {
    let card = Card::open(card)?;
    let connectors = card.connectors()?;
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut shown = VecDeque::new();
    let mut turns = 0_u32;
    while Instant::now() < end {
        for connector in &connectors {
            let (picture, buffer) = card.picture(size, turns)?;
            card.show(connector, size, picture)?;
            shown.push_back((picture, buffer));
            if shown.len() > HELD * connectors.len()
                && let Some((picture, buffer)) = shown.pop_front()
            {
                card.destroy_framebuffer(picture)?;
                card.destroy_dumb_buffer(buffer)?;
            }
        }
        turns += 1;
    }
    println!("{turns}");
    Ok(())
}
