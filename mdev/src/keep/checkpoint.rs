//! The device's registers and configuration space, as they were between two requests.
//!
//! Each is written beside the one that counts, and then counts in its place: who is killed half-way
//! leaves the older one.

use std::io;
use std::ops::Range;

use kept::{Bytes, Memory, Words};

/// Most bytes of configuration space; PCI Express Base 3.0, section 7.2.
const CONFIG: usize = 4096;

/// Most bytes of registers. A device that has more is reset when its process has died.
const REGISTERS: usize = 64 << 10;

/// Words, by their number.
mod word {
    /// Which registers count, from 1; 0 for none.
    pub(super) const CURRENT: usize = 0;
    /// Length and checksum of either configuration space.
    pub(super) const CONFIG: [usize; 2] = [1, 3];
    /// What is known of either registers: see [`super::of`].
    pub(super) const REGISTERS: [usize; 2] = [5, 10];
    pub(super) const COUNT: usize = 16;
}

/// What is known of registers, by their number from the first word on.
mod of {
    /// The position of the stream up to which requests are in them.
    pub(super) const POSITION: usize = 0;
    pub(super) const LEN: usize = 1;
    pub(super) const CHECKSUM: usize = 2;
    pub(super) const VERSION: usize = 3;
    /// Which configuration space goes with them.
    pub(super) const CONFIG: usize = 4;
}

/// A length that says that the device could not tell its registers.
const UNKNOWN: u64 = u64::MAX;

/// Where checkpoints are kept: two of each, of which one counts.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    words: Words,
    config: Bytes,
    registers: Bytes,
}

/// A checkpoint that was left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// The position of the stream up to which requests are in it.
    pub(crate) position: u64,
    pub(crate) config: Vec<u8>,
    /// The registers and their version; `None` if the device could not tell them.
    pub(crate) registers: Option<(u32, Vec<u8>)>,
}

impl Checkpoints {
    /// How much memory they take, parts of pages included.
    pub(crate) const LEN_IN_MEMORY: usize = word::COUNT * 8 + 2 * (CONFIG + REGISTERS) + 8192;

    pub(crate) fn new(memory: &mut Memory) -> io::Result<Self> {
        Ok(Self {
            words: memory.words(word::COUNT)?,
            config: memory.bytes(2 * CONFIG)?,
            registers: memory.bytes(2 * REGISTERS)?,
        })
    }

    /// Takes note: of configuration space only if it has changed, of registers if the device can
    /// tell them.
    pub(crate) fn take(
        &mut self,
        position: u64,
        config: Option<&[u8]>,
        registers: Option<(u32, &[u8])>,
    ) {
        let current = self.current();
        let (place, config_place) = match current {
            None => (0, 0),
            Some(current) => (1 - current, self.config_of(current)),
        };
        let config_place = match config {
            None => config_place,
            Some(config) => self.put_config(current.map_or(0, |_| 1 - config_place), config),
        };
        let first = word::REGISTERS[place];
        let registers = registers.filter(|(_, bytes)| bytes.len() <= REGISTERS);
        let (version, bytes) = registers.unwrap_or_default();
        let len = registers.map_or(UNKNOWN, |(_, bytes)| bytes.len() as u64);
        self.registers[place * REGISTERS..][..bytes.len()].copy_from_slice(bytes);
        self.words.set(first + of::POSITION, position);
        self.words.set(first + of::LEN, len);
        self.words
            .set(first + of::CHECKSUM, crc32fast::hash(bytes).into());
        self.words.set(first + of::VERSION, version.into());
        self.words.set(first + of::CONFIG, config_place as u64);
        self.words.set(word::CURRENT, place as u64 + 1);
    }

    fn put_config(&mut self, place: usize, config: &[u8]) -> usize {
        let config = &config[..config.len().min(CONFIG)];
        self.config[place * CONFIG..][..config.len()].copy_from_slice(config);
        self.words.set(word::CONFIG[place], config.len() as u64);
        let checksum = crc32fast::hash(config);
        self.words.set(word::CONFIG[place] + 1, checksum.into());
        place
    }

    fn current(&self) -> Option<usize> {
        match self.words.get(word::CURRENT) {
            1 => Some(0),
            2 => Some(1),
            _ => None,
        }
    }

    fn config_of(&self, registers: usize) -> usize {
        usize::from(self.words.get(word::REGISTERS[registers] + of::CONFIG) == 1)
    }

    /// What counts, if it is whole.
    pub(crate) fn get(&self) -> Option<Checkpoint> {
        let place = self.current()?;
        let first = word::REGISTERS[place];
        let config_place = self.config_of(place);
        let config = word::CONFIG[config_place];
        let config = self.checked(
            &self.config,
            config_place * CONFIG..(config_place + 1) * CONFIG,
            self.words.get(config),
            self.words.get(config + 1),
        )?;
        let registers = self.checked(
            &self.registers,
            place * REGISTERS..(place + 1) * REGISTERS,
            self.words.get(first + of::LEN),
            self.words.get(first + of::CHECKSUM),
        );
        let version = u32::try_from(self.words.get(first + of::VERSION)).ok();
        Some(Checkpoint {
            position: self.words.get(first + of::POSITION),
            config,
            registers: version.zip(registers),
        })
    }

    fn checked(
        &self,
        bytes: &Bytes,
        place: Range<usize>,
        len: u64,
        checksum: u64,
    ) -> Option<Vec<u8>> {
        let bytes = bytes.get(place)?.get(..usize::try_from(len).ok()?)?;
        (u64::from(crc32fast::hash(bytes)) == checksum).then(|| bytes.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(position: u64, config: &[u8], registers: &[u8]) -> Checkpoint {
        Checkpoint {
            position,
            config: config.to_vec(),
            registers: Some((1, registers.to_vec())),
        }
    }

    #[test]
    fn the_last_one_counts_and_configuration_space_stays_until_it_changes() {
        let mut memory = Memory::private(Checkpoints::LEN_IN_MEMORY);
        let mut checkpoints = Checkpoints::new(&mut memory).unwrap();
        assert_eq!(checkpoints.get(), None);
        checkpoints.take(0, Some(b"c0"), Some((1, b"r0")));
        assert_eq!(checkpoints.get(), Some(checkpoint(0, b"c0", b"r0")));
        for (position, config, registers) in [
            (1, &b"c0"[..], &b"r1"[..]),
            (2, b"c0", b"r2"),
            (3, b"c3", b"r3"),
            (4, b"c3", b""),
            (5, b"c5", b"r5"),
            (6, b"c6", b"r6"),
        ] {
            let has_changed = checkpoints.get().is_some_and(|last| last.config != config);
            checkpoints.take(
                position,
                has_changed.then_some(config),
                Some((1, registers)),
            );
            assert_eq!(
                checkpoints.get(),
                Some(checkpoint(position, config, registers))
            );
        }
        checkpoints.take(7, None, None);
        let last = checkpoints.get().unwrap();
        assert_eq!((&last.config[..], last.registers), (&b"c6"[..], None));
    }

    #[test]
    fn what_was_half_written_does_not_count() {
        let mut memory = Memory::private(Checkpoints::LEN_IN_MEMORY);
        let mut checkpoints = Checkpoints::new(&mut memory).unwrap();
        checkpoints.take(1, Some(b"config"), Some((1, b"registers")));
        let before = checkpoints.get();
        // As after a kill before the last store.
        let current = checkpoints.words.get(word::CURRENT);
        checkpoints.take(2, Some(b"other"), Some((1, b"others")));
        checkpoints.words.set(word::CURRENT, current);
        assert_eq!(checkpoints.get(), before);
        // As a process leaves it that wrote where it should not.
        checkpoints.registers[3] ^= 1;
        assert_eq!(checkpoints.get().unwrap().registers, None);
        checkpoints.config[3] ^= 1;
        assert_eq!(checkpoints.get(), None);
    }

    #[test]
    fn more_registers_than_there_is_room_for_are_unknown() {
        let mut memory = Memory::private(Checkpoints::LEN_IN_MEMORY);
        let mut checkpoints = Checkpoints::new(&mut memory).unwrap();
        checkpoints.take(1, Some(b"c"), Some((1, &vec![0; REGISTERS + 1])));
        assert_eq!(checkpoints.get().unwrap().registers, None);
    }
}
