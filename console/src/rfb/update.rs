//! What a viewer is shown (RFC 6143, 7.6.1 and 7.8).

use super::Rect;
use super::format::Packer;
use super::message::{
    CURSOR, CURSOR_WITH_ALPHA, DESKTOP_SIZE, EXTENDED_DESKTOP_SIZE, QEMU_KEYS, RAW,
};
use crate::cursor::Image;

/// Who changed the size, or wanted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeNews {
    /// The guest; or it is told for the first time.
    Changed,
    /// This viewer wanted to: what came of that.
    Asked(ResizeStatus),
}

/// What came of a viewer's wish for another size: the community's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResizeStatus {
    /// "Resize is administratively prohibited": a display of this type cannot.
    Prohibited = 1,
    /// "Out of resources": there is no worker to ask, or it failed.
    Failed = 2,
    /// "Invalid screen layout": no such size can be.
    Invalid = 3,
    /// "Request forwarded": the guest was asked, and may or may not do it.
    Forwarded = 4,
}

/// The head of an update of so many rectangles.
pub fn put_head(rectangles: u16, out: &mut Vec<u8>) {
    out.extend([0, 0]);
    out.extend(rectangles.to_be_bytes());
}

/// The head of a rectangle; its pixels follow.
pub fn put_rect(rect: Rect, encoding: i32, out: &mut Vec<u8>) {
    for number in [rect.x, rect.y, rect.width, rect.height] {
        out.extend(number.to_be_bytes());
    }
    out.extend(encoding.to_be_bytes());
}

/// That the picture is of this size.
pub fn put_size((width, height): (u16, u16), out: &mut Vec<u8>) {
    let rect = Rect {
        x: 0,
        y: 0,
        width,
        height,
    };
    put_rect(rect, DESKTOP_SIZE, out);
}

/// The same with one screen, which is all of it; and why that is said.
pub fn put_extended_size(news: SizeNews, (width, height): (u16, u16), out: &mut Vec<u8>) {
    let (reason, status) = match news {
        SizeNews::Changed => (0, 0),
        SizeNews::Asked(status) => (1, status as u16),
    };
    let rect = Rect {
        x: reason,
        y: status,
        width,
        height,
    };
    put_rect(rect, EXTENDED_DESKTOP_SIZE, out);
    out.extend([1, 0, 0, 0]);
    // The screen: its number, its place, its size, no flags.
    out.extend([0; 8]);
    out.extend(width.to_be_bytes());
    out.extend(height.to_be_bytes());
    out.extend([0; 4]);
}

/// How the cursor looks, each pixel there or not (RFC 6143, 7.8.1); without an image it is not seen.
pub fn put_cursor(image: Option<&Image>, packer: Packer, out: &mut Vec<u8>) {
    put_rect(shape(image), CURSOR, out);
    let Some(image) = image else { return };
    let is_there = |pixel: u32| pixel >= 128 << 24;
    for &pixel in &image.pixels {
        packer.put(plain(pixel), out);
    }
    for line in image.pixels.chunks(image.width.into()) {
        for eight in line.chunks(8) {
            let places = eight.iter().zip((0..8).rev());
            let bits = places.map(|(&pixel, place)| u8::from(is_there(pixel)) << place);
            out.push(bits.sum());
        }
    }
}

/// The same with alpha, which the colours are multiplied by: red, green, blue, alpha.
pub fn put_cursor_with_alpha(image: Option<&Image>, out: &mut Vec<u8>) {
    put_rect(shape(image), CURSOR_WITH_ALPHA, out);
    out.extend(RAW.to_be_bytes());
    for &pixel in image.iter().flat_map(|image| &image.pixels) {
        out.extend(pixel.rotate_left(8).to_be_bytes());
    }
}

/// The pixel that points, and the size.
fn shape(image: Option<&Image>) -> Rect {
    image.map_or_else(Rect::default, |image| Rect {
        x: image.hot.0,
        y: image.hot.1,
        width: image.width,
        height: image.height,
    })
}

/// The colour of a pixel, not multiplied by its alpha.
fn plain(pixel: u32) -> u32 {
    let [alpha, colours @ ..] = pixel.to_be_bytes();
    let [red, green, blue] = colours.map(|colour| {
        let plain = (u32::from(colour) * 255).checked_div(alpha.into());
        u8::try_from(plain.unwrap_or(0)).unwrap_or(u8::MAX)
    });
    u32::from_be_bytes([0, red, green, blue])
}

/// That keys may come with their numbers.
pub fn put_key_codes(out: &mut Vec<u8>) {
    put_rect(Rect::default(), QEMU_KEYS, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rfb::format::PixelFormat;

    fn image() -> Image {
        let mut pixels = vec![0; 18];
        (pixels[0], pixels[8], pixels[10]) = (0xff_11_22_33, 0x80_40_20_00, 0x7f_01_02_03);
        Image {
            width: 9,
            height: 2,
            hot: (3, 1),
            pixels,
        }
    }

    #[test]
    fn a_cursor_is_pixels_and_a_bit_for_each_that_is_there() {
        let mut out = Vec::new();
        put_cursor(Some(&image()), PixelFormat::OFFERED.packer(), &mut out);
        let (head, rest) = out.split_at(12);
        assert_eq!(head, [0, 3, 0, 1, 0, 9, 0, 2, 0xff, 0xff, 0xff, 0x11]);
        let (pixels, bits) = rest.split_at(18 * 4);
        assert_eq!(pixels[..4], [0x33, 0x22, 0x11, 0]);
        assert_eq!(pixels[32..36], [0, 0x3f, 0x7f, 0]);
        // What is less than half there is not; each line begins at a byte.
        assert_eq!(bits, [0b1000_0000, 0b1000_0000, 0, 0]);
    }

    #[test]
    fn a_cursor_with_alpha_is_red_green_blue_alpha() {
        let mut out = Vec::new();
        put_cursor_with_alpha(Some(&image()), &mut out);
        assert_eq!(out[8..12], (-314_i32).to_be_bytes());
        assert_eq!(out[12..16], [0; 4]);
        assert_eq!(out[16..20], [0x11, 0x22, 0x33, 0xff]);
        assert_eq!(out.len(), 16 + 18 * 4);
    }

    #[test]
    fn a_cursor_that_is_not_shown_has_no_pixels() {
        let mut out = Vec::new();
        put_cursor(None, PixelFormat::OFFERED.packer(), &mut out);
        assert_eq!((out.len(), &out[..8]), (12, &[0; 8][..]));
        out.clear();
        put_cursor_with_alpha(None, &mut out);
        assert_eq!((out.len(), &out[..8]), (16, &[0; 8][..]));
    }
}
