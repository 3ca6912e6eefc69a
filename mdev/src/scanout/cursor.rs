//! The cursor: a small picture that a device lays over that of a head, where a guest moves it without
//! drawing anew.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Geometry;

/// The cursor of a head.
#[derive(Clone, Debug, Default)]
pub struct Cursor {
    /// How it looks; `None` if it is not shown.
    pub image: Option<CursorImage>,
    /// Where the left edge of its image is, in pixels of the head's picture; it may lie outside.
    pub x: i32,
    /// Where the upper edge is.
    pub y: i32,
}

/// How a cursor looks. It is read as a picture is; what is told with it may be out of date by then,
/// and then another change is told of.
#[derive(Clone, Debug)]
pub struct CursorImage {
    /// The memory file.
    pub memory: Arc<OwnedFd>,
    /// Where the image lies in it. The byte of each pixel that a picture does not use is its alpha: 0
    /// is clear, 255 opaque. The colours are multiplied by it already.
    pub geometry: Geometry,
    /// The pixel that points: so far right of the left edge, and in the image or beside it.
    pub hot_x: u32,
    /// So far below the upper edge.
    pub hot_y: u32,
    /// Counts the images of this head, from 1: who has this one need not read it again.
    pub sequence: u64,
}
