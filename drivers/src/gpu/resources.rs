//! One resource, and what backs it in guest memory.

use mdev::dma::{AccessError, GuestMemory, Iova};
use mdev::scanout::PixelFormat;

use super::protocol::Rect;

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

/// How a format is shown; `None` if there is none with this number. What is transparent in it is
/// not: nothing lies behind.
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

    /// Fills `out` from `offset`. All of it lies in the backing.
    pub(super) fn read(
        &self,
        memory: &GuestMemory,
        offset: u64,
        mut out: &mut [u8],
    ) -> Result<(), AccessError> {
        let mut index = self.ends.partition_point(|end| *end <= offset);
        let mut offset = offset;
        while !out.is_empty() {
            let (Some(entry), Some(end)) = (self.entries.get(index), self.ends.get(index)) else {
                return Ok(());
            };
            let within = u64::from(entry.len) - (end - offset);
            let len = usize::try_from(end - offset).map_or(out.len(), |left| left.min(out.len()));
            let (part, rest) = out.split_at_mut(len);
            memory.read(Iova(entry.at.wrapping_add(within)), part)?;
            out = rest;
            offset += len as u64;
            index += 1;
        }
        Ok(())
    }
}

/// One resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resource {
    pub(super) format: u32,
    pub(super) width: u32,
    pub(super) height: u32,
    /// Where its pixels lie in video memory.
    pub(super) at: u64,
    pub(super) backing: Option<Backing>,
}

impl Resource {
    /// Bytes of its pixels.
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
