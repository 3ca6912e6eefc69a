//! Sections, one after the other.

use super::{MAGIC, Tag};

/// A stream that is written. What was taken off its front is kept no longer.
#[derive(Debug)]
pub struct Encoder {
    bytes: Vec<u8>,
    /// How much of `bytes` was taken.
    taken: usize,
    sections: u32,
}

impl Encoder {
    /// A stream that begins with the type of the device.
    pub fn new(kind: &str) -> Self {
        let mut encoder = Self {
            bytes: MAGIC.to_vec(),
            taken: 0,
            sections: 0,
        };
        encoder.section(Tag::Head, Tag::VERSION, |out| out.extend(kind.as_bytes()));
        encoder
    }

    /// Appends a run of bytes of a memory. `run` has at most half a section.
    pub(crate) fn memory(&mut self, memory: u32, offset: u64, run: &[u8]) {
        self.section(Tag::Memory, Tag::VERSION, |out| {
            out.extend(memory.to_le_bytes());
            out.extend(offset.to_le_bytes());
            out.extend(u32::try_from(run.len()).unwrap_or(u32::MAX).to_le_bytes());
            out.extend(run);
        });
    }

    /// Appends configuration space.
    pub(crate) fn config(&mut self, bytes: &[u8]) {
        self.section(Tag::Config, Tag::VERSION, |out| out.extend(bytes));
    }

    /// Appends the device's own section.
    pub(crate) fn registers(&mut self, version: u32, fill: impl FnOnce(&mut Vec<u8>)) {
        self.section(Tag::Registers, version, fill);
    }

    /// Ends the stream.
    pub(crate) fn end(&mut self) {
        let sections = self.sections;
        self.section(Tag::End, Tag::VERSION, |out| {
            out.extend(sections.to_le_bytes());
        });
    }

    fn section(&mut self, tag: Tag, version: u32, fill: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.extend(tag.bytes());
        self.bytes.extend(version.to_le_bytes());
        let len_at = self.bytes.len();
        self.bytes.extend([0; 4]);
        let body_at = self.bytes.len();
        fill(&mut self.bytes);
        let len = u32::try_from(self.bytes.len() - body_at).unwrap_or(u32::MAX);
        self.bytes[len_at..body_at].copy_from_slice(&len.to_le_bytes());
        let crc = crc32fast::hash(&self.bytes[start..]);
        self.bytes.extend(crc.to_le_bytes());
        self.sections += 1;
    }

    /// Bytes that were not taken yet.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// Whether all was taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes at most `max` bytes off the front, and appends them to `out`.
    pub fn take(&mut self, max: usize, out: &mut Vec<u8>) {
        let len = self.len().min(max);
        out.extend(&self.bytes[self.taken..self.taken + len]);
        self.taken += len;
        // What was taken is let go once it is the larger part: each byte moves once at most.
        if self.taken >= self.bytes.len() - self.taken {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
    }
}
