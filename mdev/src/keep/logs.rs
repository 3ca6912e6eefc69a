//! The parts of the journal that others write as things change: a few stores, no system call.

use kept::Words;
use vfu::wire::dma::{DmaFlags, DmaMap};

use crate::irq::IrqIndex;

/// Most memories of one device.
const MEMORIES: usize = 8;

/// A memory of the device's own that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeptMemory {
    /// FNV-1a of its name.
    name: u64,
    len: u64,
    id: u32,
}

impl KeptMemory {
    pub(crate) fn new(name: &str, len: u64, id: u32) -> Self {
        let name = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        Self { name, len, id }
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    pub(crate) fn is(&self, name: &str, len: u64) -> bool {
        *self == Self::new(name, len, self.id)
    }
}

/// Which memories the device has, and whether all is parked that the journal speaks of.
#[derive(Clone, Debug)]
pub(crate) struct MemoryLog(Words);

impl MemoryLog {
    pub(crate) const WORDS: usize = 3 * MEMORIES + 1;
    const INCOMPLETE: usize = 3 * MEMORIES;

    pub(crate) fn new(words: Words) -> Self {
        Self(words)
    }

    /// Those that are not there stay 0.
    pub(crate) fn set(&self, memories: &[KeptMemory]) {
        for place in 0..MEMORIES {
            let memory = memories.get(place);
            self.0.set(3 * place, 0);
            self.0.set(3 * place + 1, memory.map_or(0, |it| it.name));
            self.0.set(3 * place + 2, memory.map_or(0, |it| it.len));
            self.0.set(3 * place, memory.map_or(0, |it| it.id.into()));
        }
    }

    /// Says whether something could not be parked.
    pub(crate) fn set_incomplete(&self, incomplete: bool) {
        self.0.set(Self::INCOMPLETE, incomplete.into());
    }

    pub(crate) fn is_incomplete(&self) -> bool {
        self.0.get(Self::INCOMPLETE) != 0
    }

    pub(crate) fn get(&self) -> Vec<KeptMemory> {
        let places = (0..MEMORIES).filter_map(|place| {
            Some(KeptMemory {
                id: id_of(self.0.get(3 * place))?,
                name: self.0.get(3 * place + 1),
                len: self.0.get(3 * place + 2),
            })
        });
        places.collect()
    }
}

fn id_of(word: u64) -> Option<u32> {
    u32::try_from(word).ok().filter(|id| *id != 0)
}

/// Which eventfds the client has given, and whether it has masked the pin.
#[derive(Clone, Debug)]
pub(crate) struct IrqLog(Words);

impl IrqLog {
    /// Vectors of each group that are noted: as many as there can be.
    const VECTORS: [usize; IrqIndex::COUNT as usize] = [1, 32, 2048, 1, 1];
    const MASKED: usize = 0;
    pub(crate) const WORDS: usize = 1 + 1 + 32 + 2048 + 1 + 1;

    pub(crate) fn new(words: Words) -> Self {
        Self(words)
    }

    fn place(index: IrqIndex, vector: usize) -> Option<usize> {
        let group = index as usize;
        let before: usize = Self::VECTORS[..group].iter().sum();
        (vector < Self::VECTORS[group]).then_some(1 + before + vector)
    }

    /// Notes the eventfd of a vector; 0 for none.
    pub(crate) fn set(&self, index: IrqIndex, vector: usize, id: u32) {
        if let Some(place) = Self::place(index, vector) {
            self.0.set(place, id.into());
        }
    }

    /// The vectors of a group that have an eventfd.
    pub(crate) fn get(&self, index: IrqIndex) -> Vec<(usize, u32)> {
        let vectors = 0..Self::VECTORS[index as usize];
        vectors
            .filter_map(|vector| {
                let place = Self::place(index, vector)?;
                Some((vector, id_of(self.0.get(place))?))
            })
            .collect()
    }

    pub(crate) fn set_masked(&self, masked: bool) {
        self.0.set(Self::MASKED, masked.into());
    }

    pub(crate) fn is_masked(&self) -> bool {
        self.0.get(Self::MASKED) != 0
    }
}

/// A mapping as it is noted, at its place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeptMapping {
    pub(crate) place: usize,
    pub(crate) map: DmaMap,
    /// The number of its file, if it has one that is held.
    pub(crate) file: Option<u32>,
}

/// The client's mappings.
#[derive(Clone, Debug)]
pub(crate) struct MappingLog(Words);

impl MappingLog {
    /// The words before the first mapping.
    const HEAD: usize = 1;
    /// Places that were ever used.
    const HIGH: usize = 0;
    /// Words of one mapping: IOVA, offset, flags and file, size. Without a size there is none.
    const EACH: usize = 4;

    /// How many words it takes.
    pub(crate) const fn words(max_mappings: usize) -> usize {
        Self::HEAD + Self::EACH * max_mappings
    }

    pub(crate) fn new(words: Words) -> Self {
        Self(words)
    }

    fn first_word(&self, place: usize) -> Option<usize> {
        let first = Self::HEAD + Self::EACH * place;
        (first + Self::EACH <= self.0.len()).then_some(first)
    }

    pub(crate) fn set(&self, mapping: &KeptMapping) {
        let Some(first) = self.first_word(mapping.place) else {
            return;
        };
        let flags = u64::from(mapping.map.flags.bits());
        let file = u64::from(mapping.file.unwrap_or(0));
        self.0.set(first, mapping.map.iova);
        self.0.set(first + 1, mapping.map.offset);
        self.0.set(first + 2, flags << 32 | file);
        self.0.set(first + 3, mapping.map.size);
        if mapping.place as u64 >= self.0.get(Self::HIGH) {
            self.0.set(Self::HIGH, mapping.place as u64 + 1);
        }
    }

    pub(crate) fn clear(&self, place: usize) {
        if let Some(first) = self.first_word(place) {
            self.0.set(first + 3, 0);
        }
    }

    pub(crate) fn clear_all(&self) {
        self.0.set(Self::HIGH, 0);
    }

    pub(crate) fn get(&self) -> Vec<KeptMapping> {
        let high = usize::try_from(self.0.get(Self::HIGH)).unwrap_or(usize::MAX);
        let places = (0..high).map_while(|place| Some((place, self.first_word(place)?)));
        places
            .filter_map(|(place, first)| {
                let flags = self.0.get(first + 2);
                let size = self.0.get(first + 3);
                (size != 0).then(|| KeptMapping {
                    place,
                    map: DmaMap {
                        iova: self.0.get(first),
                        offset: self.0.get(first + 1),
                        flags: DmaFlags::from_bits_truncate((flags >> 32) as u32),
                        size,
                    },
                    file: id_of(flags & u64::from(u32::MAX)),
                })
            })
            .collect()
    }
}

/// The eventfds that stand for writes to registers, in the order in which they were made.
#[derive(Clone, Debug)]
pub(crate) struct DoorbellLog(Words);

impl DoorbellLog {
    /// Most that are noted. What a device has beyond that rings no more after a change of process.
    pub(crate) const WORDS: usize = 64;

    pub(crate) fn new(words: Words) -> Self {
        Self(words)
    }

    pub(crate) fn set(&self, number: usize, region: u32, id: u32) {
        if number < Self::WORDS {
            self.0.set(number, u64::from(region) << 32 | u64::from(id));
        }
    }

    /// The region and the number of each.
    pub(crate) fn get(&self) -> Vec<(u32, u32)> {
        let words = (0..Self::WORDS).map(|number| self.0.get(number));
        words
            .map_while(|word| Some(((word >> 32) as u32, id_of(word & u64::from(u32::MAX))?)))
            .collect()
    }
}
