//! A fuzzer's bytes as numbers and pieces. There is always a next one: past the end all is zero.

/// What is left of an input.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    rest: &'a [u8],
}

/// Tags of [`Input::number`] that do not hold the number themselves.
mod tag {
    /// From here on: so many pages.
    pub(super) const PAGES: u8 = 0x40;
    /// From here on: a power of two.
    pub(super) const POWER: u8 = 0x80;
    /// From here on: so many pages below the end of the address space.
    pub(super) const FROM_TOP: u8 = 0xc0;
    /// From here on: as many bytes of the input.
    pub(super) const BYTES: u8 = 0xe0;
}

/// The unit in which clients map memory.
const PAGE: u64 = 4096;

impl<'a> Input<'a> {
    /// All of it.
    pub fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Up to `len` bytes: as many as there are.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        bytes
    }

    /// Whatever is left.
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// A byte.
    pub fn u8(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    /// A byte and, for 255, two more: a length that a fuzzer seldom makes large.
    pub fn len(&mut self) -> usize {
        match self.u8() {
            u8::MAX => self.little_endian(2) as usize,
            len => len.into(),
        }
    }

    /// A number, which is mostly one that something depends on.
    pub fn number(&mut self) -> u64 {
        match self.u8() {
            small @ ..tag::PAGES => small.into(),
            pages @ tag::PAGES..tag::POWER => u64::from(pages - tag::PAGES) * PAGE,
            power @ tag::POWER..tag::FROM_TOP => 1 << (power - tag::POWER),
            below @ tag::FROM_TOP..tag::BYTES => u64::from(below - tag::FROM_TOP)
                .wrapping_mul(PAGE)
                .wrapping_neg(),
            bytes => self.little_endian(usize::from(bytes - tag::BYTES) % 8 + 1),
        }
    }

    fn little_endian(&mut self, len: usize) -> u64 {
        let bytes = self.bytes(len).iter().rev();
        bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

/// Appends what [`Input::number`] reads as `number`.
pub fn write_number(number: u64, out: &mut Vec<u8>) {
    match u8::try_from(number) {
        Ok(small @ ..tag::PAGES) => out.push(small),
        _ => {
            out.push(tag::BYTES + 7);
            out.extend(number.to_le_bytes());
        }
    }
}

/// Appends what [`Input::len`] reads as `len`.
pub fn write_len(len: u16, out: &mut Vec<u8>) {
    match u8::try_from(len) {
        Ok(len) if len < u8::MAX => out.push(len),
        _ => {
            out.push(u8::MAX);
            out.extend(len.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_was_written_is_read_again() {
        for number in [0, 1, 63, 64, 4096, 1 << 40, u64::MAX] {
            let mut bytes = Vec::new();
            write_number(number, &mut bytes);
            let mut input = Input::new(&bytes);
            assert_eq!((input.number(), input.is_empty()), (number, true));
        }
        for len in [0, 254, 255, 256, u16::MAX] {
            let mut bytes = Vec::new();
            write_len(len, &mut bytes);
            let mut input = Input::new(&bytes);
            assert_eq!((input.len(), input.is_empty()), (len.into(), true));
        }
    }

    #[test]
    fn a_tag_stands_for_a_number_that_something_depends_on() {
        for (bytes, number) in [
            (&[0x41][..], 4096),
            (&[0xbf], 1 << 63),
            (&[0xc0], 0),
            (&[0xc1], u64::MAX - 4095),
            (&[0xe1, 0x34, 0x12], 0x1234),
            (&[0xe7, 1], 1),
            (&[], 0),
        ] {
            assert_eq!(Input::new(bytes).number(), number, "{bytes:x?}");
        }
    }
}
