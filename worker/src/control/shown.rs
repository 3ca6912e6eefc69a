//! What a worker shows, as who asks has it.

use std::os::fd::OwnedFd;

use crate::protocol::CursorImage;

/// A picture that a worker shows: its memory, and where in it to look.
#[derive(Debug)]
pub struct Picture {
    /// The memory file.
    pub memory: OwnedFd,
    /// Where the picture lies in it.
    pub geometry: mdev::scanout::Geometry,
    /// Counts the pictures that were published.
    pub sequence: u64,
    /// What was drawn since this connection, which watches, asked last; `None` if that is not known,
    /// see [`Answer::Scanout`](crate::protocol::Answer::Scanout).
    pub drawn: Option<mdev::scanout::Rect>,
    /// Counts the changes of the cursor.
    pub cursor: u64,
}

/// The cursor that a worker lays over a picture.
#[derive(Debug)]
pub struct Pointer {
    /// How it looks, and the memory file; `None` if it is not shown.
    pub image: Option<(CursorImage, OwnedFd)>,
    /// Where the left edge of its image is, in pixels of the picture.
    pub x: i32,
    /// Where the upper edge is.
    pub y: i32,
    /// Counts its changes.
    pub sequence: u64,
}
