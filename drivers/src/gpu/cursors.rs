//! The cursors: how that of each head looks, in memory of its own. It is taken out of its resource
//! when the driver says so, and stays whatever becomes of that.

use std::io;
use std::sync::Arc;

use mdev::keep::Keep;
use mdev::region_memory::RegionMemory;
use mdev::scanout::{Cursor, CursorImage, Geometry, PixelFormat};
use mdev::state::{Fields, StateError};

use super::resources::{PIXEL, pixel_format};

/// Name of the memory file, as `/proc/PID/maps` shows it.
const NAME: &str = "vgpud-gpu-cursors";

/// Pixels of a side of every cursor (Virtio 1.2, section 5.7.6.10).
pub(super) const SIDE: u32 = 64;

/// Bytes of an image.
pub(super) const IMAGE: usize = (SIDE * SIDE * PIXEL) as usize;

/// Images of a head: while one is shown the next is written to the other, so that who reads the first
/// does not see parts of both.
const SLOTS: u8 = 2;

/// How the cursor of a head looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) format: u32,
    pub(super) hot_x: u32,
    pub(super) hot_y: u32,
    /// In which of the images of its head it is.
    pub(super) slot: u8,
}

/// The cursor of a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pointer {
    pub(super) look: Option<Look>,
    /// As the driver tells it: two's complement.
    pub(super) x: u32,
    pub(super) y: u32,
}

/// The images of all heads.
#[derive(Debug)]
pub(super) struct Cursors {
    memory: RegionMemory,
}

impl Look {
    /// Whether it can be like that.
    pub(super) fn is_possible(&self) -> bool {
        let is_inside = self.hot_x < SIDE && self.hot_y < SIDE;
        pixel_format(self.format).is_some() && is_inside && self.slot < SLOTS
    }

    /// Appends it.
    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        for word in [self.format, self.hot_x, self.hot_y] {
            out.extend(word.to_le_bytes());
        }
        out.push(self.slot);
    }

    /// Takes one off the front.
    pub(super) fn parse(fields: &mut Fields<'_>) -> Result<Self, StateError> {
        Ok(Self {
            format: fields.u32()?,
            hot_x: fields.u32()?,
            hot_y: fields.u32()?,
            slot: fields.u8()?,
        })
    }
}

impl Pointer {
    /// In which image the next look is to be.
    pub(super) fn next_slot(&self) -> u8 {
        self.look.map_or(0, |look| (look.slot + 1) % SLOTS)
    }
}

impl Cursors {
    /// The images that another process has left, or none.
    pub(super) fn open(heads: usize, keep: &Keep) -> io::Result<Self> {
        let len = heads * usize::from(SLOTS) * IMAGE;
        Ok(Self {
            memory: keep.memory(NAME, len as u64)?,
        })
    }

    /// Writes an image. Its fourth byte is alpha whatever the format says: Linux makes resources of
    /// cursors with a format that has none.
    pub(super) fn write(&self, head: usize, look: &Look, pixels: &[u8]) -> io::Result<()> {
        self.memory.write(offset(head, look), pixels)
    }

    /// An image, as it was written.
    pub(super) fn read(&self, head: usize, look: &Look) -> io::Result<Vec<u8>> {
        let mut pixels = vec![0; IMAGE];
        self.memory.read(offset(head, look), &mut pixels)?;
        Ok(pixels)
    }

    /// Makes all of them clear.
    pub(super) fn clear(&self) {
        if let Err(error) = self.memory.clear() {
            tracing::warn!("images of cursors stay: {error}");
        }
    }

    /// What is published of a cursor.
    pub(super) fn shown(&self, head: usize, pointer: &Pointer) -> Cursor {
        let image = pointer.look.map(|look| CursorImage {
            memory: Arc::clone(self.memory.file()),
            geometry: Geometry {
                width: SIDE,
                height: SIDE,
                stride: SIDE * PIXEL,
                offset: offset(head, &look),
                format: pixel_format(look.format).unwrap_or(PixelFormat::Xrgb8888),
            },
            hot_x: look.hot_x,
            hot_y: look.hot_y,
            sequence: 0,
        });
        Cursor {
            image,
            x: pointer.x.cast_signed(),
            y: pointer.y.cast_signed(),
        }
    }
}

fn offset(head: usize, look: &Look) -> u64 {
    ((head * usize::from(SLOTS) + usize::from(look.slot)) * IMAGE) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_lie_apart() {
        let cursors = Cursors::open(2, &Keep::default()).unwrap();
        let images = [(0, 0), (0, 1), (1, 0), (1, 1)];
        let look = |slot| Look {
            format: 1,
            hot_x: 0,
            hot_y: 0,
            slot,
        };
        for (byte, (head, slot)) in (1..).zip(images) {
            let written = cursors.write(head, &look(slot), &[byte; IMAGE]);
            written.unwrap();
        }
        for (byte, (head, slot)) in (1..).zip(images) {
            assert_eq!(cursors.read(head, &look(slot)).unwrap(), [byte; IMAGE]);
        }
        cursors.clear();
        for (head, slot) in images {
            assert_eq!(cursors.read(head, &look(slot)).unwrap(), [0; IMAGE]);
        }
    }
}
