//! What a viewer is shown (RFC 6143, 7.6.1 and 7.8).

use super::Rect;
use super::message::{DESKTOP_SIZE, EXTENDED_DESKTOP_SIZE, QEMU_KEYS};

/// Who changed the size, or wanted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeNews {
    /// The guest; or it is told for the first time.
    Changed,
    /// This viewer wanted to, and may not: "resize is administratively prohibited".
    Refused,
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
        SizeNews::Refused => (1, 1),
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

/// That keys may come with their numbers.
pub fn put_key_codes(out: &mut Vec<u8>) {
    let nothing = Rect {
        x: 0,
        y: 0,
        width: 0,
        height: 0,
    };
    put_rect(nothing, QEMU_KEYS, out);
}
