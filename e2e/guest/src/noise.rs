//! A stream of bytes that two sides can make without talking.

/// Endless pseudo-random bytes from a seed: SplitMix64, one byte a step.
#[derive(Clone, Debug)]
pub struct Noise(u64);

impl Noise {
    /// The stream that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }
}

impl Iterator for Noise {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let [byte, ..] = (mixed ^ mixed >> 27).to_be_bytes();
        Some(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_value_comes_up() {
        let mut seen = [false; 256];
        Noise::new(7)
            .take(65536)
            .for_each(|b| seen[b as usize] = true);
        assert!(seen.iter().all(|&s| s));
    }
}
