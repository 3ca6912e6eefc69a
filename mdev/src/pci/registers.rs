//! Bytes that a guest reads and writes, each bit with its own rule.

#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation
)]

/// One byte, and the rules for its bits. A bit in neither mask is read-only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Byte {
    now: u8,
    initial: u8,
    writable: u8,
    clearable: u8,
}

impl Byte {
    fn write(&mut self, value: u8) {
        let kept = self.now & !(value & self.clearable);
        self.now = (kept & !self.writable) | (value & self.writable);
    }
}

/// A run of little-endian registers.
///
/// A guest may access it at any offset and length, so no rule here spans bytes.
#[derive(Clone, Debug)]
pub(super) struct Registers {
    bytes: Vec<Byte>,
}

impl Registers {
    /// `len` bytes that read 0 and ignore writes.
    pub(super) fn new(len: usize) -> Self {
        Self {
            bytes: vec![Byte::default(); len],
        }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds bytes that read 0 and ignore writes, up to `len` in all.
    pub(super) fn grow(&mut self, len: usize) {
        self.bytes.resize(self.len().max(len), Byte::default());
    }

    /// The guest reads. Bytes past the end are all-ones, as on a bus where nobody answers.
    pub(super) fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        let bytes = usize::try_from(offset).map_or(&[][..], |start| self.tail(start));
        for (out, byte) in data.iter_mut().zip(bytes) {
            *out = byte.now;
        }
    }

    /// The guest writes. Bytes past the end are dropped.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        let Ok(start) = usize::try_from(offset) else {
            return;
        };
        for (byte, &value) in self.tail_mut(start).iter_mut().zip(data) {
            byte.write(value);
        }
    }

    /// Every byte as it was defined.
    pub(super) fn reset(&mut self) {
        for byte in &mut self.bytes {
            byte.now = byte.initial;
        }
    }

    /// Takes what was read of registers like these. `false`, and nothing is changed, if they were
    /// others: more or fewer, or with another value in a byte that nobody can write. Bits beside
    /// those that can be written stay: the device keeps them.
    pub(super) fn restore(&mut self, saved: &[u8]) -> bool {
        let is_fixed = |byte: &Byte| byte.writable | byte.clearable == 0;
        let fits = saved.len() == self.len()
            && self
                .bytes
                .iter()
                .zip(saved)
                .all(|(byte, saved)| !is_fixed(byte) || byte.now == *saved);
        if fits {
            for (byte, saved) in self.bytes.iter_mut().zip(saved) {
                let kept = byte.writable | byte.clearable;
                byte.now = (byte.now & !kept) | (saved & kept);
            }
        }
        fits
    }

    /// Says what the byte at `offset` holds at first, and which of its bits a guest may write.
    pub(super) fn define_u8(&mut self, offset: usize, value: u8, writable: u8) {
        self.define(offset, [value], [writable]);
    }

    /// As [`Self::define_u8`].
    pub(super) fn define_u16(&mut self, offset: usize, value: u16, writable: u16) {
        self.define(offset, value.to_le_bytes(), writable.to_le_bytes());
    }

    /// As [`Self::define_u8`].
    pub(super) fn define_u32(&mut self, offset: usize, value: u32, writable: u32) {
        self.define(offset, value.to_le_bytes(), writable.to_le_bytes());
    }

    /// As [`Self::define_u8`].
    pub(super) fn define_u64(&mut self, offset: usize, value: u64, writable: u64) {
        self.define(offset, value.to_le_bytes(), writable.to_le_bytes());
    }

    /// Says which bits of the word at `offset` a guest clears by writing ones.
    pub(super) fn define_clearable(&mut self, offset: usize, mask: u16) {
        for (byte, mask) in self.tail_mut(offset).iter_mut().zip(mask.to_le_bytes()) {
            byte.clearable = mask;
        }
    }

    /// Puts `other`, with its rules, at `offset`.
    pub(super) fn place(&mut self, offset: usize, other: &Self) {
        for (byte, other) in self.tail_mut(offset).iter_mut().zip(&other.bytes) {
            *byte = *other;
        }
    }

    /// Whether nothing was defined in the 4 bytes at `offset`.
    pub(super) fn is_free(&self, offset: usize) -> bool {
        let default = Byte::default();
        self.tail(offset)
            .iter()
            .take(4)
            .all(|byte| *byte == default)
    }

    /// The word at `offset` now; bytes past the end are 0.
    pub(super) fn u16(&self, offset: usize) -> u16 {
        let mut value = [0; 2];
        for (out, byte) in value.iter_mut().zip(self.tail(offset)) {
            *out = byte.now;
        }
        u16::from_le_bytes(value)
    }

    /// Changes the word at `offset` from the device's side, where no rule holds.
    pub(super) fn set_u16(&mut self, offset: usize, value: u16) {
        for (byte, value) in self.tail_mut(offset).iter_mut().zip(value.to_le_bytes()) {
            byte.now = value;
        }
    }

    fn define<const N: usize>(&mut self, offset: usize, value: [u8; N], writable: [u8; N]) {
        let rules = value.into_iter().zip(writable);
        for (byte, (value, writable)) in self.tail_mut(offset).iter_mut().zip(rules) {
            byte.now = value;
            byte.initial = value;
            byte.writable = writable;
        }
    }

    fn tail(&self, start: usize) -> &[Byte] {
        self.bytes.get(start..).unwrap_or_default()
    }

    fn tail_mut(&mut self, start: usize) -> &mut [Byte] {
        self.bytes.get_mut(start..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::Registers;

    #[test]
    fn each_bit_follows_its_own_rule() {
        // A word with 4 read-only bits, 8 writable ones and 4 that are cleared by ones.
        for (now, written, then) in [
            (0x0005, 0x0ff0, 0x0ff5),
            (0x0005, 0xffff, 0x0ff5),
            (0xf005, 0x0000, 0xf005),
            (0xf005, 0x5550, 0xa555),
            (0x0ff5, 0xf000, 0x0005),
        ] {
            let mut registers = Registers::new(2);
            registers.define_u16(0, 0x0005, 0x0ff0);
            registers.define_clearable(0, 0xf000);
            registers.set_u16(0, now);
            registers.write(0, &u16::to_le_bytes(written));
            assert_eq!(registers.u16(0), then, "{now:#06x} <- {written:#06x}");
        }
    }

    #[test]
    fn bytes_past_the_end_read_ones_and_drop_writes() {
        let mut registers = Registers::new(4);
        registers.define_u32(0, 0, u32::MAX);
        registers.write(2, &[1, 2, 3, 4]);
        registers.write(u64::MAX, &[5, 6]);
        for (offset, expected) in [
            (0, [0, 0, 1, 2]),
            (2, [1, 2, 0xff, 0xff]),
            (4, [0xff; 4]),
            (u64::MAX, [0xff; 4]),
        ] {
            let mut data = [0; 4];
            registers.read(offset, &mut data);
            assert_eq!(data, expected, "{offset:#x}");
        }
    }
}
