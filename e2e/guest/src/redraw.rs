//! A program that draws its whole screen anew, again and again, as fast as it can.

use std::path::Path;
use std::time::{Duration, Instant};

use drm::control::{ClipRect, Device as ControlDevice};

use crate::Failure;
use crate::kms::Card;

/// Draws for so many seconds; prints how many frames, and in how many nanoseconds. Each frame is
/// another colour, and the driver has said that the screen shows it before the next is drawn.
pub(crate) fn run(card: &Path, size: (u16, u16), seconds: u64) -> Result<(), Failure> {
    let card = Card::open(card)?;
    let connector = card.connectors()?.into_iter().next();
    let connector = connector.ok_or("no screen")?;
    let (picture, mut buffer) = card.picture(size, 1)?;
    card.show(&connector, size, picture)?;
    let mut pixels = card.map_dumb_buffer(&mut buffer)?;
    let whole = [ClipRect::new(0, 0, size.0, size.1)];
    let mut frames = 0_u32;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(seconds) {
        pixels.as_mut().fill(frames as u8);
        card.dirty_framebuffer(picture, &whole)?;
        frames += 1;
    }
    println!("{frames} {}", begin.elapsed().as_nanos());
    Ok(())
}
