//! Numbers that are the same for the same seed: xorshift, 64 bits.

/// The generator.
#[derive(Clone, Debug)]
pub(super) struct Noise(u64);

impl Noise {
    pub(super) fn new(seed: u64) -> Self {
        // The generator never leaves 0.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn long(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number less than `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        // The low bits are the weakest.
        (self.long() >> 11) % bound
    }

    /// `true` once in so many times.
    pub(super) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let len = u64::try_from(from.len()).unwrap_or(1);
        let place = usize::try_from(self.below(len)).unwrap_or(0);
        from[place]
    }

    /// A number of 4 bytes that is often one which code gets wrong.
    pub(super) fn word(&mut self) -> u32 {
        let near = [
            0,
            1,
            4,
            8,
            16,
            24,
            32,
            40,
            0x1000,
            0x4000,
            0x10_0000,
            1 << 31,
            u32::MAX,
        ];
        let random = u32::try_from(self.long() >> 32).unwrap_or(0);
        match self.below(8) {
            0 => random,
            1 => random % 64,
            2 => self.pick(&near).wrapping_sub(1),
            3 => self.pick(&near).wrapping_add(1),
            4 => 1 << (random % 32),
            _ => self.pick(&near[..11]),
        }
    }

    /// Bytes of any value.
    pub(super) fn bytes(&mut self, len: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..len.div_ceil(8) {
            bytes.extend(self.long().to_ne_bytes());
        }
        bytes.truncate(usize::try_from(len).unwrap_or(0));
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_another_gives_others() {
        let numbers = |seed| {
            let mut noise = Noise::new(seed);
            std::iter::repeat_with(|| noise.long())
                .take(8)
                .collect::<Vec<_>>()
        };
        assert_eq!(numbers(0), numbers(0));
        assert_ne!(numbers(1), numbers(3));
    }
}
