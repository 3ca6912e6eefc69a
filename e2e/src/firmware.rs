//! OVMF, the firmware of Debian's, and what it has put on a screen.
//!
//! It writes text with a font of its own, which is read out of it: nobody else has that font.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::screen::UNREADABLE;
use crate::{Error, Result, Screen};

/// The folder that `setup/desktop.sh` makes.
const FOLDER: &str = "VGPUD_DESKTOP";

/// Before compressed volumes: LZMA_CUSTOM_DECOMPRESS_GUID of EDK II as it lies in a volume. Two
/// halfwords follow, then a stream of LZMA with its header.
const COMPRESSED: [u8; 16] = [
    0x98, 0x58, 0x4e, 0xee, 0x14, 0x39, 0x59, 0x42, 0x9d, 0x6e, 0xdc, 0x7b, 0xd7, 0x94, 0x03, 0xcf,
];

/// Pixels of a glyph: EFI_GLYPH_WIDTH and EFI_GLYPH_HEIGHT of the UEFI specification, 34.3.1.2.
const WIDTH: u32 = 8;
const HEIGHT: u32 = 19;

/// Bytes of an EFI_NARROW_GLYPH: the character, attributes, a byte for each line.
const GLYPH_LEN: usize = 3 + HEIGHT as usize;

/// Text modes, columns and lines. The text stands in the middle of the screen.
const MODES: [(u32, u32); 4] = [(80, 25), (80, 50), (100, 31), (128, 40)];

/// The firmware.
#[derive(Debug)]
pub struct Firmware {
    folder: PathBuf,
    font: HashMap<[u8; HEIGHT as usize], char>,
}

impl Firmware {
    /// The one that `VGPUD_DESKTOP` has.
    pub fn from_env() -> Result<Self> {
        let folder = env::var_os(FOLDER).ok_or(Error::Environment(FOLDER))?;
        let folder = PathBuf::from(folder).join("ovmf");
        let code = folder.join("OVMF_CODE_4M.fd");
        let image = fs::read(&code).map_err(Error::io("read", &code))?;
        let malformed = |why: &str| Error::Malformed(format!("{}: {why}", code.display()));
        let volume = decompress(&image).ok_or_else(|| malformed("no compressed volume"))?;
        let font = font(&volume).ok_or_else(|| malformed("no font"))?;
        Ok(Self { folder, font })
    }

    /// Its code, which is never written to.
    pub fn code(&self) -> PathBuf {
        self.folder.join("OVMF_CODE_4M.fd")
    }

    /// Its variables, as they are at first.
    pub fn variables(&self) -> PathBuf {
        self.folder.join("OVMF_VARS_4M.fd")
    }

    /// What it has written on a screen: in the text mode in which most can be read.
    pub fn text(&self, screen: &Screen) -> Vec<String> {
        let legible = |lines: &Vec<String>| {
            let chars = lines.iter().flat_map(|line| line.chars());
            chars.filter(|&c| c != ' ' && c != UNREADABLE).count()
        };
        let modes = MODES.iter().filter_map(|&mode| self.text_in(screen, mode));
        modes.max_by_key(legible).unwrap_or_default()
    }

    /// Whether a line on the screen holds `words`.
    pub fn shows(&self, screen: &Screen, words: &str) -> bool {
        self.text(screen).iter().any(|line| line.contains(words))
    }

    fn text_in(&self, screen: &Screen, (columns, rows): (u32, u32)) -> Option<Vec<String>> {
        let (width, height) = screen.size();
        let left = width.checked_sub(columns * WIDTH)? / 2;
        let top = height.checked_sub(rows * HEIGHT)? / 2;
        let line = |row| {
            let cells = (0..columns)
                .map(|column| self.cell(screen, left + column * WIDTH, top + row * HEIGHT));
            let line: String = cells.collect();
            line.trim_end().to_owned()
        };
        Some((0..rows).map(line).collect())
    }

    /// The colours do not matter: letters leave their first line to the background.
    fn cell(&self, screen: &Screen, left: u32, top: u32) -> char {
        let background = screen.pixel(left, top);
        let mut glyph = [0; HEIGHT as usize];
        for (line, y) in glyph.iter_mut().zip(top..) {
            let pixels = (left..left + WIDTH).map(|x| screen.pixel(x, y) != background);
            *line = pixels.fold(0, |bits, is_ink| bits << 1 | u8::from(is_ink));
        }
        self.font.get(&glyph).copied().unwrap_or(UNREADABLE)
    }
}

/// The first compressed volume of a firmware.
fn decompress(image: &[u8]) -> Option<Vec<u8>> {
    let found = image.windows(COMPRESSED.len());
    let start = found.into_iter().position(|window| window == COMPRESSED)?;
    let mut stream = image.get(start + COMPRESSED.len() + 4..)?;
    let mut volume = Vec::new();
    // The stream says how long it is, and more follows it.
    lzma_rs::lzma_decompress(&mut stream, &mut volume).ok()?;
    Some(volume)
}

/// The font of a volume: a list of glyphs that begins with a blank and an exclamation mark.
fn font(volume: &[u8]) -> Option<HashMap<[u8; HEIGHT as usize], char>> {
    let mut start = [0; GLYPH_LEN + 3];
    (start[0], start[GLYPH_LEN]) = (b' ', b'!');
    let at = volume
        .windows(start.len())
        .position(|window| window == start)?;
    let glyphs = volume.get(at..)?.chunks_exact(GLYPH_LEN);
    let font: HashMap<_, _> = glyphs
        .map_while(|glyph| match glyph {
            [low @ b' '..=b'~', 0, 0, lines @ ..] => {
                Some((*lines.first_chunk()?, char::from(*low)))
            }
            _ => None,
        })
        .collect();
    (font.len() > 90).then_some(font)
}

/// The arguments of QEMU that start it.
pub(crate) fn arguments(code: &Path, variables: &Path) -> [String; 4] {
    let drive = |unit: u8, file: &Path, more: &str| {
        let file = file.display().to_string().replace(',', ",,");
        format!("if=pflash,format=raw,unit={unit},file={file},{more}")
    };
    [
        "-drive".to_owned(),
        drive(0, code, "readonly=on"),
        "-drive".to_owned(),
        drive(1, variables, "snapshot=on"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A font whose glyphs have the number of their character in the second line.
    fn made_up() -> Vec<u8> {
        let glyph = |c: u8| {
            let mut glyph = [0; GLYPH_LEN];
            glyph[0] = c;
            glyph[4] = if c == b' ' { 0 } else { c };
            glyph
        };
        let mut volume = b"something else".to_vec();
        volume.extend((b' '..=b'~').flat_map(glyph));
        volume.extend([0; 100]);
        volume
    }

    #[test]
    fn text_is_read_in_whatever_colours_and_mode_it_stands() {
        let firmware = Firmware {
            folder: PathBuf::new(),
            font: font(&made_up()).unwrap(),
        };
        for ((width, height), (columns, rows)) in
            [((800, 600), (100, 31)), ((1920, 1080), (80, 50))]
        {
            let (left, top) = ((width - columns * WIDTH) / 2, (height - rows * HEIGHT) / 2);
            let mut pixels = vec![0x0000_00aa; (width * height) as usize];
            for (column, c) in (3..).zip("a~Z".bytes()) {
                for x in 0..WIDTH {
                    let is_ink = c >> (WIDTH - 1 - x) & 1 == 1;
                    let at = (top + 1 + 2 * HEIGHT) * width + left + column * WIDTH + x;
                    pixels[at as usize] = if is_ink { 0x00ff_ffff } else { 0x0000_00aa };
                }
            }
            let screen = Screen::from_pixels(width, pixels);
            assert_eq!(firmware.text(&screen)[2], "   a~Z");
            assert!(firmware.shows(&screen, "~Z"));
            assert!(!firmware.shows(&screen, "Z~"));
        }
    }

    #[test]
    fn what_is_cut_off_has_no_font() {
        let volume = made_up();
        assert_eq!(font(&volume).map(|font| font.len()), Some(95));
        assert!(font(&volume[..1000]).is_none());
        assert!(font(b"").is_none());
        assert!(decompress(&volume).is_none());
    }
}
