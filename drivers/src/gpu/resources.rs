//! One resource, and what backs it in guest memory.

use mdev::dma::view::Access;
use mdev::dma::{AccessError, GuestMemory, Iova, IovaRange};
use mdev::scanout::{PixelFormat, Rect};

/// Bytes of a pixel, in every format.
pub(super) const PIXEL: u32 = 4;

/// Longest side of a resource.
pub(super) const MAX_SIDE: u32 = 16384;

/// Most parts of guest memory that back one resource, as in QEMU.
pub(super) const MAX_ENTRIES: u32 = 16384;

/// The formats, by their number: the names tell bytes in order, as `VIRTIO_GPU_FORMAT_*` does.
const FORMATS: [(u32, PixelFormat); 8] = [
    (1, PixelFormat::Xrgb8888),   // B8G8R8A8
    (2, PixelFormat::Xrgb8888),   // B8G8R8X8
    (3, PixelFormat::Bgrx8888),   // A8R8G8B8
    (4, PixelFormat::Bgrx8888),   // X8R8G8B8
    (67, PixelFormat::Xbgr8888),  // R8G8B8A8
    (68, PixelFormat::Rgbx8888),  // X8B8G8R8
    (121, PixelFormat::Rgbx8888), // A8B8G8R8
    (134, PixelFormat::Xbgr8888), // R8G8B8X8
];

/// How a format is shown; `None` if there is none with this number. What is transparent in a picture
/// is not: nothing lies behind.
pub(super) fn pixel_format(number: u32) -> Option<PixelFormat> {
    let mut formats = FORMATS.iter();
    formats
        .find(|(it, _)| *it == number)
        .map(|(_, format)| *format)
}

/// A part of guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) at: u64,
    pub(super) len: u32,
}

/// The guest memory behind a resource: parts, which are one after the other to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Backing {
    entries: Vec<Entry>,
    /// Where each ends, in the whole.
    ends: Vec<u64>,
}

impl Backing {
    pub(super) fn new(entries: Vec<Entry>) -> Self {
        let ends = entries.iter().scan(0, |end, entry| {
            *end += u64::from(entry.len);
            Some(*end)
        });
        Self {
            ends: ends.collect(),
            entries,
        }
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Bytes of all of it.
    pub(super) fn len(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Whether both ends of a part of it are memory to point to.
    pub(super) fn has_direct_ends(&self, memory: &GuestMemory, offset: u64, len: u64) -> bool {
        let Ok(view) = memory.view() else {
            return false;
        };
        let mut ends = [offset, offset + len - 1].into_iter();
        ends.all(|offset| {
            let byte = self.byte(offset).and_then(|at| IovaRange::new(at, 1));
            byte.is_some_and(|byte| view.slices(byte, Access::Read).all(|slice| slice.is_ok()))
        })
    }

    /// Where a byte of it lies.
    fn byte(&self, offset: u64) -> Option<Iova> {
        let number = self.ends.partition_point(|end| *end <= offset);
        let (entry, end) = self.entries.get(number).zip(self.ends.get(number))?;
        let skipped = u64::from(entry.len) - (end - offset);
        Some(Iova(entry.at.wrapping_add(skipped)))
    }

    /// Fills `out` from `offset`. All of it lies in the backing.
    pub(super) fn read(
        &self,
        memory: &GuestMemory,
        offset: u64,
        out: &mut [u8],
    ) -> Result<(), AccessError> {
        let first = self.ends.partition_point(|end| *end <= offset);
        let mut skipped = match first.checked_sub(1) {
            Some(before) => offset - self.ends.get(before).copied().unwrap_or(0),
            None => offset,
        };
        let entries = self.entries.iter().skip(first);
        let parts = entries.map(|entry| {
            let skipped = std::mem::take(&mut skipped);
            let at = Iova(entry.at.wrapping_add(skipped));
            (at, (u64::from(entry.len) - skipped) as usize)
        });
        memory.gather(parts, out)
    }
}

/// What a resource is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// A picture in video memory.
    Picture(Picture),
    /// So many bytes of guest memory.
    Blob(u64),
}

/// A picture in video memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) format: u32,
    pub(super) width: u32,
    pub(super) height: u32,
    /// Where its pixels lie.
    pub(super) at: u64,
}

/// How a picture lies in a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Framebuffer {
    pub(super) format: u32,
    pub(super) width: u32,
    pub(super) height: u32,
    /// Bytes from the start of one line to that of the next.
    pub(super) stride: u32,
    /// Bytes of the blob before it.
    pub(super) offset: u32,
}

/// One resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resource {
    pub(super) content: Content,
    pub(super) backing: Option<Backing>,
    pub(super) uuid: Option<[u8; 16]>,
}

impl Resource {
    /// The picture, if it is none that lies in guest memory.
    pub(super) fn picture(&self) -> Option<&Picture> {
        match &self.content {
            Content::Picture(picture) => Some(picture),
            Content::Blob(_) => None,
        }
    }

    /// The size of a blob, if it is one.
    pub(super) fn blob(&self) -> Option<u64> {
        match self.content {
            Content::Picture(_) => None,
            Content::Blob(size) => Some(size),
        }
    }
}

impl Picture {
    /// Bytes of the pixels of a picture.
    pub(super) fn len(width: u32, height: u32) -> u64 {
        u64::from(width) * u64::from(height) * u64::from(PIXEL)
    }

    /// Bytes of a line.
    pub(super) fn stride(&self) -> u32 {
        self.width * PIXEL
    }

    /// Where a pixel lies in its pixels.
    pub(super) fn offset(&self, rect: &Rect) -> u64 {
        u64::from(rect.y) * u64::from(self.stride()) + u64::from(rect.x) * u64::from(PIXEL)
    }

    /// Whether one can be like that.
    pub(super) fn is_possible(format: u32, width: u32, height: u32) -> bool {
        let sides = 1..=MAX_SIDE;
        pixel_format(format).is_some() && sides.contains(&width) && sides.contains(&height)
    }
}

impl Framebuffer {
    /// Whether it can be like that in a blob of `size` bytes.
    pub(super) fn is_within(&self, size: u64) -> bool {
        let line = u64::from(self.width) * u64::from(PIXEL);
        Picture::is_possible(self.format, self.width, self.height)
            && u64::from(self.stride) >= line
            && self.offset(0, self.height - 1) + line <= size
    }

    /// Where a pixel lies in the blob.
    pub(super) fn offset(&self, x: u32, y: u32) -> u64 {
        u64::from(self.offset)
            + u64::from(y) * u64::from(self.stride)
            + u64::from(x) * u64::from(PIXEL)
    }
}

#[cfg(test)]
mod tests {
    use mdev::dma::DmaLimits;

    use super::*;

    #[test]
    fn a_backing_ends_where_its_parts_end() {
        let entry = |at, len| Entry { at, len };
        for (entries, len) in [
            (vec![], 0),
            (vec![entry(0, 0)], 0),
            (
                vec![entry(1, 5), entry(0, 0), entry(9, u32::MAX)],
                5 + u64::from(u32::MAX),
            ),
        ] {
            assert_eq!(Backing::new(entries).len(), len);
        }
    }

    #[test]
    fn a_framebuffer_lies_in_its_blob_with_lines_that_do_not_overlap() {
        let framebuffer = |width, height, stride, offset| Framebuffer {
            format: 2,
            width,
            height,
            stride,
            offset,
        };
        for (framebuffer, size, is_within) in [
            (framebuffer(8, 4, 32, 0), 128, true),
            (framebuffer(8, 4, 32, 0), 127, false),
            (framebuffer(8, 4, 31, 0), 4096, false),
            (framebuffer(8, 4, 64, 8), 8 + 3 * 64 + 32, true),
            (framebuffer(8, 4, 64, 8), 8 + 3 * 64 + 31, false),
            (framebuffer(0, 4, 64, 0), 4096, false),
            (framebuffer(8, 0, 64, 0), 4096, false),
            (framebuffer(MAX_SIDE + 1, 1, u32::MAX, 0), u64::MAX, false),
            (
                framebuffer(MAX_SIDE, MAX_SIDE, u32::MAX, u32::MAX),
                u64::MAX,
                true,
            ),
        ] {
            assert_eq!(framebuffer.is_within(size), is_within, "{framebuffer:?}");
        }
        let odd = Framebuffer {
            format: 5,
            ..framebuffer(8, 4, 32, 0)
        };
        assert!(!odd.is_within(4096));
    }

    #[test]
    fn a_backing_that_is_not_in_memory_is_an_error() {
        let memory = GuestMemory::standing_alone(DmaLimits::default());
        let backing = Backing::new(vec![Entry {
            at: u64::MAX,
            len: 64,
        }]);
        let mut out = [0; 32];
        assert!(backing.read(&memory, 16, &mut out).is_err());
    }
}
