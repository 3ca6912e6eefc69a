//! A picture of a guest's screen: compared pixel by pixel, or read as text.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use crate::{Error, Result};

/// Stands in [`Screen::text`] where no glyph fits, such as under the cursor.
pub const UNREADABLE: char = '\u{fffd}';

/// A picture, one 0x00RRGGBB word a pixel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Screen {
    width: u32,
    pixels: Vec<u32>,
}

/// The first pixel that is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// From the left.
    pub x: u32,
    /// From the top.
    pub y: u32,
    /// What the picture has there.
    pub found: u32,
    /// What it should have.
    pub expected: u32,
}

impl Screen {
    /// Reads a PNG file, RGB or RGBA, of eight bits a channel.
    pub fn read_png(path: &Path) -> Result<Self> {
        let malformed = |error: &dyn std::fmt::Display| {
            Error::Malformed(format!("{}: {error}", path.display()))
        };
        let file = File::open(path).map_err(Error::io("open", path))?;
        let mut reader = png::Decoder::new(BufReader::new(file))
            .read_info()
            .map_err(|error| malformed(&error))?;
        let size = reader.output_buffer_size();
        let mut bytes = vec![0; size.ok_or_else(|| malformed(&"too large"))?];
        let info = reader
            .next_frame(&mut bytes)
            .map_err(|error| malformed(&error))?;
        let channels = match (info.color_type, info.bit_depth) {
            (png::ColorType::Rgb, png::BitDepth::Eight) => 3,
            (png::ColorType::Rgba, png::BitDepth::Eight) => 4,
            other => return Err(malformed(&format!("{other:?} is not RGB"))),
        };
        let pixels = bytes[..info.buffer_size()]
            .chunks_exact(channels)
            .map(|pixel| pixel[..3].iter().fold(0, |rgb, &c| rgb << 8 | u32::from(c)))
            .collect();
        Ok(Self {
            width: info.width,
            pixels,
        })
    }

    /// Makes a picture from rows of 0x00RRGGBB words.
    pub fn from_pixels(width: u32, pixels: Vec<u32>) -> Self {
        Self { width, pixels }
    }

    /// Width and height.
    pub fn size(&self) -> (u32, u32) {
        let height = self.pixels.len().checked_div(self.width as usize);
        (self.width, height.unwrap_or(0) as u32)
    }

    /// The colour at a place, as 0x00RRGGBB.
    pub fn pixel(&self, x: u32, y: u32) -> u32 {
        self.pixels[y as usize * self.width as usize + x as usize]
    }

    /// Whether no pixel is lit.
    pub fn is_black(&self) -> bool {
        self.pixels.iter().all(|&pixel| pixel == 0)
    }

    /// Whether it has another picture somewhere in it, pixel for pixel.
    pub fn holds(&self, part: &Self) -> bool {
        let ((width, height), (columns, lines)) = (self.size(), part.size());
        if columns > width || lines > height {
            return false;
        }
        let row = |screen: &Self, x: u32, y: u32| {
            let start = (y * screen.width + x) as usize;
            start..start + columns as usize
        };
        let is_at = |x: u32, y: u32| {
            (0..lines)
                .all(|line| self.pixels[row(self, x, y + line)] == part.pixels[row(part, 0, line)])
        };
        (0..=height - lines).any(|y| (0..=width - columns).any(|x| is_at(x, y)))
    }

    /// Finds the first pixel that is not what `expected` says of its place.
    pub fn differs_from(&self, expected: impl Fn(u32, u32) -> u32) -> Option<Difference> {
        let rows = self.pixels.chunks_exact(self.width as usize);
        (0..).zip(rows).find_map(|(y, row)| {
            (0..).zip(row).find_map(|(x, &found)| {
                let expected = expected(x, y);
                (found != expected).then_some(Difference {
                    x,
                    y,
                    found,
                    expected,
                })
            })
        })
    }

    /// Compares with the test picture that `guest draw` shows for `seed`.
    pub fn differs_from_pattern(&self, seed: u32) -> Option<Difference> {
        self.differs_from(|x, y| guest::pattern::pixel(seed, x, y))
    }

    /// The same with the test cursor at a place, if there is one, which may be partly outside.
    pub fn differs_from_head(&self, seed: u32, cursor: Option<(i32, i32)>) -> Option<Difference> {
        use guest::pattern;

        self.differs_from(|x, y| {
            let below = pattern::pixel(seed, x, y);
            let inside = cursor.and_then(|(left, top)| {
                let place = |at: u32, start: i32| {
                    let place = i64::from(at) - i64::from(start);
                    let place = u32::try_from(place).ok();
                    place.filter(|place| *place < pattern::CURSOR)
                };
                place(x, left).zip(place(y, top))
            });
            inside.map_or(below, |(x, y)| {
                pattern::under_cursor(below, pattern::cursor(x, y))
            })
        })
    }

    /// Reads the screen as text: a line for each row of cells, blanks at the end cut off.
    ///
    /// Any lit pixel counts as ink, whatever its colour.
    pub fn text(&self, font: &Font) -> Vec<String> {
        let (width, height) = self.size();
        let columns = width / font.width;
        let line = |row| {
            let cells = (0..columns).map(|column| self.cell(font, column, row));
            let line: String = cells.collect();
            line.trim_end().to_owned()
        };
        (0..height / font.height).map(line).collect()
    }

    /// Whether a line of the screen's text holds `words`.
    pub fn shows(&self, font: &Font, words: &str) -> bool {
        self.text(font).iter().any(|line| line.contains(words))
    }

    fn cell(&self, font: &Font, column: u32, row: u32) -> char {
        let (x0, y0) = (column * font.width, row * font.height);
        let glyph: Vec<u32> = (y0..y0 + font.height)
            .map(|y| {
                let row = x0..x0 + font.width;
                row.fold(0, |bits, x| bits << 1 | u32::from(self.pixel(x, y) != 0))
            })
            .collect();
        font.chars.get(&glyph).copied().unwrap_or(UNREADABLE)
    }
}

/// A console font: which character each bitmap is.
#[derive(Clone, Debug)]
pub struct Font {
    width: u32,
    height: u32,
    /// A glyph is a word for each of its rows, the rightmost pixel in the lowest bit.
    chars: HashMap<Vec<u32>, char>,
}

impl Font {
    /// Reads what `guest font` wrote.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        Self::parse_dump(bytes).ok_or_else(|| Error::Malformed("not a font".to_owned()))
    }

    fn parse_dump(bytes: &[u8]) -> Option<Self> {
        let end = bytes.iter().position(|&byte| byte == b'\n')?;
        let mut header = str::from_utf8(&bytes[..end]).ok()?.split(' ');
        let mut number = || header.next()?.parse::<u32>().ok();
        let (width, height, count) = (number()?, number()?, number()?);
        if !(1..=32).contains(&width) || !(1..=64).contains(&height) {
            return None;
        }
        let row_bytes = width.div_ceil(8) as usize;
        let unused = row_bytes as u32 * 8 - width;
        let mut chars = HashMap::new();
        let glyphs = bytes[end + 1..].chunks_exact(row_bytes * height as usize);
        if glyphs.len() != count as usize {
            return None;
        }
        for (index, glyph) in (0..).zip(glyphs) {
            let rows = glyph.chunks_exact(row_bytes).map(|row| {
                let bits = row.iter().fold(0, |bits, &b| bits << 8 | u32::from(b));
                bits >> unused
            });
            let shown = printable(index);
            // Several glyphs look alike, blanks above all: what can be typed wins.
            chars
                .entry(rows.collect())
                .and_modify(|other| {
                    if *other == UNREADABLE {
                        *other = shown;
                    }
                })
                .or_insert(shown);
        }
        Some(Self {
            width,
            height,
            chars,
        })
    }
}

/// The character that a glyph stands for: console fonts agree on ASCII, and no test needs more.
fn printable(index: u32) -> char {
    char::from_u32(index)
        .filter(|c| (' '..='~').contains(c))
        .unwrap_or(UNREADABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A font of one-row glyphs, 4 pixels wide: glyph `n` shows the low bits of `n`.
    fn font() -> Font {
        let mut dump = b"4 1 128\n".to_vec();
        dump.extend((0..128).map(|n: u8| if n < 0x60 { n << 4 } else { 0 }));
        Font::parse(&dump).unwrap()
    }

    #[test]
    fn lit_pixels_of_any_colour_make_a_glyph() {
        // 0x21 to 0x23 come first among the glyphs that look like theirs, and 0x20 among the blank.
        let rows = [
            ("0001 0010 0000 0011 0000", 0xaa_aaaa),
            ("0000 0000 0000 0000 0001", 0x00_0001),
        ];
        let pixels = rows.iter().flat_map(|(bits, ink)| {
            let bits = bits.chars().filter(|&c| c != ' ');
            bits.map(move |c| if c == '1' { *ink } else { 0 })
        });
        let screen = Screen::from_pixels(20, pixels.collect());
        assert_eq!(screen.size(), (20, 2));
        assert_eq!(screen.text(&font()), ["!\" #", "    !"]);
        assert!(screen.shows(&font(), "\" #"));
        assert!(!screen.shows(&font(), "##"));
    }

    #[test]
    fn a_part_is_found_wherever_it_is_and_not_where_a_pixel_is_another() {
        let screen = Screen::from_pixels(4, (0..12).collect());
        for (part, is_there) in [
            (vec![5, 6, 9, 10], true),
            (vec![2, 3, 6, 7], true),
            (vec![0, 1, 4, 6], false),
            (vec![3, 4, 7, 8], false),
        ] {
            let part = Screen::from_pixels(2, part);
            assert_eq!(screen.holds(&part), is_there, "{part:?}");
        }
        assert!(screen.holds(&screen));
        assert!(!screen.holds(&Screen::from_pixels(5, vec![0; 5])));
    }

    #[test]
    fn the_first_difference_is_named_with_its_place() {
        let mut pixels: Vec<u32> = (0..12)
            .map(|n| guest::pattern::pixel(3, n % 4, n / 4))
            .collect();
        let screen = Screen::from_pixels(4, pixels.clone());
        assert_eq!(screen.differs_from_pattern(3), None);
        pixels[6] ^= 1;
        let difference = Screen::from_pixels(4, pixels)
            .differs_from_pattern(3)
            .unwrap();
        assert_eq!((difference.x, difference.y), (2, 1));
        assert_eq!(difference.found, difference.expected ^ 1);
    }

    #[test]
    fn a_cut_font_is_refused() {
        for dump in [
            &b""[..],
            b"8 16 256\nabc",
            b"0 1 0\n",
            b"8 x 1\n",
            b"40 1 1\n12345",
        ] {
            assert!(Font::parse(dump).is_err(), "{dump:?}");
        }
    }
}
