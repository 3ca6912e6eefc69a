//! The numbers within a section.

use super::{StateError, Tag};

/// Takes numbers off the front of a section.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    tag: Tag,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of a section.
    pub(crate) fn new(tag: Tag, bytes: &'a [u8]) -> Self {
        Self { tag, rest: bytes }
    }

    /// The fields of a device's own section, for its tests.
    pub fn of_registers(bytes: &'a [u8]) -> Self {
        Self::new(Tag::Registers, bytes)
    }

    fn short(&self) -> StateError {
        StateError::Unsound(self.tag, "they are too short")
    }

    /// The next bytes, as many as the array has.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(*head)
    }

    /// The next `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], StateError> {
        let (head, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or_else(|| self.short())?;
        self.rest = rest;
        Ok(head)
    }

    /// The next byte.
    pub fn u8(&mut self) -> Result<u8, StateError> {
        self.array().map(u8::from_le_bytes)
    }

    /// The next two bytes.
    pub fn u16(&mut self) -> Result<u16, StateError> {
        self.array().map(u16::from_le_bytes)
    }

    /// The next four bytes.
    pub fn u32(&mut self) -> Result<u32, StateError> {
        self.array().map(u32::from_le_bytes)
    }

    /// The next eight bytes.
    pub fn u64(&mut self) -> Result<u64, StateError> {
        self.array().map(u64::from_le_bytes)
    }

    /// The next byte, which is 0 or 1.
    pub fn bool(&mut self) -> Result<bool, StateError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(StateError::Unsound(self.tag, "a flag is neither 0 nor 1")),
        }
    }

    /// Whatever is left.
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Ends a section that has an exact length.
    pub fn end(self) -> Result<(), StateError> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(StateError::Unsound(self.tag, "they are too long"))
        }
    }
}
