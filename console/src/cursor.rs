//! The cursor that a device lays over its picture: shown as the viewer's own pointer, or drawn into
//! what a viewer that cannot do that is sent.

use std::sync::Arc;

use crate::rfb::Rect;

/// Most pixels each way. Devices have 64; the worker says how large one is, and could else choose our
/// memory.
pub const MAX_SIDE: u32 = 256;

/// The cursor. The default is one that is not shown.
#[derive(Clone, Debug, Default)]
pub struct Cursor {
    /// How it looks, if it is shown.
    pub image: Option<Arc<Image>>,
    /// Where the left edge of the image is; it may lie outside of the picture.
    pub x: i32,
    /// Where the upper edge is.
    pub y: i32,
}

/// How a cursor looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Pixels across.
    pub width: u16,
    /// Lines.
    pub height: u16,
    /// The pixel that points, in the image.
    pub hot: (u16, u16),
    /// `0xAARRGGBB`, line after line, the colours multiplied by their alpha.
    pub pixels: Vec<u32>,
}

impl Cursor {
    /// Whether both look the same at the same place.
    pub fn is(&self, other: &Self) -> bool {
        match (&self.image, &other.image) {
            (None, None) => true,
            (Some(_), Some(_)) => self.looks_like(other) && (self.x, self.y) == (other.x, other.y),
            _ => false,
        }
    }

    /// Whether both look the same, wherever they are.
    pub fn looks_like(&self, other: &Self) -> bool {
        match (&self.image, &other.image) {
            (None, None) => true,
            (Some(image), Some(other)) => Arc::ptr_eq(image, other) || image == other,
            _ => false,
        }
    }

    /// The part of the picture that it covers; nothing if it is not shown.
    pub fn covers(&self) -> Rect {
        let image = self.image.as_deref();
        let (width, height) = image.map_or((0, 0), |image| (image.width, image.height));
        let (x, width) = inside(self.x, width);
        let (y, height) = inside(self.y, height);
        Rect {
            x,
            y,
            width,
            height,
        }
    }

    /// Draws it into pixels that were copied from `rect` of the picture.
    pub fn draw(&self, rect: Rect, pixels: &mut [u32]) {
        let Some(image) = &self.image else { return };
        let covered = self.covers().intersection(rect);
        for line in 0..covered.height {
            for column in 0..covered.width {
                let (x, y) = (covered.x + column, covered.y + line);
                let over = image.at(
                    i64::from(x) - i64::from(self.x),
                    i64::from(y) - i64::from(self.y),
                );
                let at =
                    usize::from(y - rect.y) * usize::from(rect.width) + usize::from(x - rect.x);
                if let Some(pixel) = pixels.get_mut(at) {
                    *pixel = blend(over, *pixel);
                }
            }
        }
    }
}

impl Image {
    /// A pixel; clear where there is none.
    fn at(&self, x: i64, y: i64) -> u32 {
        let (x, y) = (usize::try_from(x), usize::try_from(y));
        let (Ok(x), Ok(y)) = (x, y) else { return 0 };
        if x >= usize::from(self.width) {
            return 0;
        }
        let at = y * usize::from(self.width) + x;
        self.pixels.get(at).copied().unwrap_or(0)
    }
}

/// Where a stretch that may begin before the picture does lies in it.
fn inside(start: i32, length: u16) -> (u16, u16) {
    let end = start.saturating_add(length.into());
    let small = |at: i32| u16::try_from(at.clamp(0, u16::MAX.into())).unwrap_or(u16::MAX);
    let (start, end) = (small(start), small(end));
    (start, end - start)
}

/// One pixel over another one, which is opaque.
fn blend(over: u32, under: u32) -> u32 {
    let [alpha, over @ ..] = over.to_be_bytes();
    let [_, under @ ..] = under.to_be_bytes();
    let clear = 255 - u32::from(alpha);
    let [red, green, blue] = std::array::from_fn(|at| {
        let mixed = u32::from(over[at]) + (u32::from(under[at]) * clear + 127) / 255;
        // Colours that were not multiplied by their alpha come to more than there is.
        u8::try_from(mixed).unwrap_or(u8::MAX)
    });
    u32::from_be_bytes([0, red, green, blue])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(x: i32, y: i32) -> Cursor {
        let image = Image {
            width: 2,
            height: 2,
            hot: (0, 0),
            // Opaque red, half white; clear, and a colour that is too much.
            pixels: vec![0xff_ff_00_00, 0x80_80_80_80, 0, 0x01_ff_ff_ff],
        };
        Cursor {
            image: Some(Arc::new(image)),
            x,
            y,
        }
    }

    #[test]
    fn it_is_drawn_over_what_lies_under_it_and_nowhere_else() {
        let rect = Rect {
            x: 10,
            y: 20,
            width: 3,
            height: 3,
        };
        let drawn = [0xff_00_00, 0x80_80_ff, 0x00_00_ff, 0xff_ff_ff];
        for (x, y) in (7..15).flat_map(|x| (17..25).map(move |y| (x, y))) {
            let mut pixels = vec![0xff; 9];
            cursor(x, y).draw(rect, &mut pixels);
            for (at, pixel) in (0..).zip(pixels) {
                let (column, line) = (10 + at % 3 - x, 20 + at / 3 - y);
                let expected = match (column, line) {
                    (0..2, 0..2) => drawn[(line * 2 + column) as usize],
                    _ => 0xff,
                };
                assert_eq!(pixel, expected, "{x} {y} {at}");
            }
        }
    }

    #[test]
    fn what_it_covers_lies_in_the_picture_wherever_it_is() {
        for ((x, y), (start, length)) in [
            ((0, 0), (0, 2)),
            ((-1, 5), (0, 1)),
            ((-2, 5), (0, 0)),
            ((i32::MIN, 5), (0, 0)),
            ((i32::MAX, 5), (u16::MAX, 0)),
            ((65534, 5), (65534, 1)),
        ] {
            let covered = cursor(x, y).covers();
            assert_eq!((covered.x, covered.width), (start, length), "{x}");
        }
        assert!(Cursor::default().covers().is_empty());
    }

    #[test]
    fn another_place_is_no_other_look() {
        assert!(cursor(1, 1).looks_like(&cursor(2, 1)) && !cursor(1, 1).is(&cursor(2, 1)));
        assert!(cursor(1, 1).is(&cursor(1, 1)));
        assert!(!cursor(1, 1).looks_like(&Cursor::default()));
        let elsewhere = Cursor {
            x: 7,
            ..Cursor::default()
        };
        assert!(elsewhere.is(&Cursor::default()));
    }
}
