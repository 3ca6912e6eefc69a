//! Addresses for a device to see memory at: given out, and taken back.

use std::collections::BTreeMap;

use crate::dma::{DmaTable, Iova, IovaRange};

const PAGE_SIZE: u64 = DmaTable::PAGE_SIZE;

/// The addresses that a device may be given, and which of them are free.
///
/// Free ranges are found first fit, from below: what a device with narrow addresses can reach goes
/// to whoever asks first, and single pages are found at once.
#[derive(Debug)]
pub struct IovaSpace {
    /// First address of each free range, by its last: what is taken is taken from the start. They are
    /// whole pages, and no two touch.
    free: BTreeMap<u64, u64>,
}

impl IovaSpace {
    /// The whole pages of `valid`, which the IOMMU translates, that an address of `bits` reaches.
    ///
    /// Without the page at 0: devices and drivers take that address for none.
    pub fn new(valid: &[IovaRange], bits: u32) -> Self {
        let reach = 1_u64.checked_shl(bits).map_or(u64::MAX, |end| end - 1);
        let mut space = Self {
            free: BTreeMap::new(),
        };
        for range in valid {
            let start = range.start().0.max(PAGE_SIZE);
            let last = range.last().0.min(reach);
            let Some(start) = start.checked_next_multiple_of(PAGE_SIZE) else {
                continue;
            };
            // The last byte of the last whole page; there may be none at all.
            let Some(last) = (last / PAGE_SIZE)
                .checked_sub(u64::from(last % PAGE_SIZE != PAGE_SIZE - 1))
                .map(|page| page * PAGE_SIZE + (PAGE_SIZE - 1))
            else {
                continue;
            };
            if start <= last {
                space.insert(start, last);
            }
        }
        space
    }

    /// Takes `len` bytes, in whole pages that follow each other. `None` if there is no such room.
    pub fn take(&mut self, len: u64) -> Option<IovaRange> {
        let len = len.checked_next_multiple_of(PAGE_SIZE)?;
        let beyond = len.checked_sub(1)?;
        let has_room = |(last, start): &(&u64, &mut u64)| *last - **start >= beyond;
        let (&last, first) = self.free.iter_mut().find(has_room)?;
        let start = *first;
        if start + beyond < last {
            *first = start + beyond + 1;
        } else {
            self.free.remove(&last);
        }
        IovaRange::new(Iova(start), len)
    }

    /// Takes `most` bytes, or, if there is no such room, as many as follow each other anywhere.
    pub fn take_most(&mut self, most: u64) -> Option<IovaRange> {
        self.take(most).or_else(|| {
            let rooms = self.free.iter().map(|(last, start)| last - start);
            let beyond = rooms.max().filter(|beyond| *beyond < most)?;
            self.take(beyond + 1)
        })
    }

    /// Takes back what was taken.
    pub fn give_back(&mut self, range: IovaRange) {
        self.insert(range.start().0, range.last().0);
    }

    /// Bytes that are free; `None` for more than fits.
    pub fn free(&self) -> Option<u64> {
        self.free.iter().try_fold(0_u64, |sum, (last, start)| {
            sum.checked_add((last - start).checked_add(1)?)
        })
    }

    /// Adds a free range, joined with those that it touches or overlaps.
    fn insert(&mut self, mut start: u64, last: u64) {
        while let Some((&end, first)) = self.free.range_mut(start.saturating_sub(1)..).next() {
            if end >= last {
                if *first <= last.saturating_add(1) {
                    *first = start.min(*first);
                    return;
                }
                break;
            }
            start = start.min(*first);
            self.free.remove(&end);
        }
        self.free.insert(last, start);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(start: u64, last: u64) -> IovaRange {
        IovaRange::new(Iova(start), last - start + 1).unwrap()
    }

    /// What an emulated VT-d says: all of 48 bits but where interrupts are written.
    fn valid() -> [IovaRange; 2] {
        [range(0, 0xfedf_ffff), range(0xfef0_0000, 0xffff_ffff_ffff)]
    }

    #[test]
    fn an_address_is_neither_zero_nor_reserved_nor_beyond_the_devices_reach() {
        for (bits, free) in [
            (12, 0),
            (13, 0x1000),
            (28, 0x0fff_f000),
            (32, 0xfedf_f000 + 0x0110_0000),
            (64, 0xffff_ffff_ffff - 0x10_0000 - 0xfff),
        ] {
            let mut space = IovaSpace::new(&valid(), bits);
            assert_eq!(space.free(), Some(free), "{bits} bits");
            let first = space.take(1).map(|range| (range.start().0, range.len()));
            assert_eq!(first, (free > 0).then_some((0x1000, Some(0x1000))));
        }
    }

    #[test]
    fn ranges_follow_each_other_across_no_hole() {
        let mut space = IovaSpace::new(&valid(), 32);
        let below = space.take(0xfe00_0000).unwrap();
        assert_eq!(below.start().0, 0x1000);
        // What is left below the hole is too little.
        let above = space.take(0x0100_0000).unwrap();
        assert_eq!(above.start().0, 0xfef0_0000);
        assert_eq!(space.take(0x0100_0000), None);
        assert_eq!(space.take(0xd0_0000).unwrap().start().0, 0xfe00_1000);
    }

    #[test]
    fn where_there_is_no_room_for_all_the_largest_is_taken() {
        let mut space = IovaSpace::new(&[range(0, 0x9fff)], 64);
        let taken: Vec<_> = (0..9).map(|_| space.take(PAGE_SIZE).unwrap()).collect();
        assert_eq!(space.take_most(PAGE_SIZE), None);
        for free in [1, 3, 4, 6] {
            space.give_back(taken[free]);
        }
        for (most, start, len) in [(1, 0x2000, 0x1000), (0x3000, 0x4000, 0x2000)] {
            let found = space.take_most(most).unwrap();
            assert_eq!((found.start().0, found.len()), (start, Some(len)));
        }
        assert_eq!(space.take_most(2 * PAGE_SIZE), Some(taken[6]));
        assert_eq!(space.take_most(0), None);
    }

    #[test]
    fn what_makes_no_sense_is_not_given() {
        let mut space = IovaSpace::new(&valid(), 64);
        for len in [0, u64::MAX, 1 << 48] {
            assert_eq!(space.take(len), None, "{len:#x}");
        }
        let odd = [range(0x1001, 0x2ffe), range(0, 0), range(7, 0xffe)];
        assert_eq!(IovaSpace::new(&odd, 64).free(), Some(0));
        let top = [range(u64::MAX - 0x2000, u64::MAX)];
        let mut space = IovaSpace::new(&top, 64);
        assert_eq!(space.free(), Some(0x2000));
        assert_eq!(space.take(0x2000).unwrap().last().0, u64::MAX);
        assert_eq!(space.take(1), None);
    }

    proptest! {
        #[test]
        fn nothing_is_given_twice_and_all_of_it_comes_back(
            steps in proptest::collection::vec((any::<bool>(), 1_u64..6 * PAGE_SIZE), 1..200),
        ) {
            let hole = [range(0, 0x1_ffff), range(0x2_1000, 0x3_ffff)];
            let mut space = IovaSpace::new(&hole, 64);
            let all = space.free();
            let mut given: Vec<IovaRange> = Vec::new();
            for (take, len) in steps {
                if take {
                    if let Some(range) = space.take(len) {
                        prop_assert!(hole.iter().any(|valid| valid.contains(range)));
                        prop_assert!(given.iter().all(|other| !other.overlaps(range)));
                        prop_assert!(range.len() >= Some(len));
                        given.push(range);
                    }
                } else if !given.is_empty() {
                    let at = usize::try_from(len).unwrap() % given.len();
                    space.give_back(given.swap_remove(at));
                }
            }
            for range in given {
                space.give_back(range);
            }
            prop_assert_eq!(space.free(), all);
            prop_assert_eq!(space.free.len(), 2);
        }
    }
}
