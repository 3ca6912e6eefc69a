//! Which parts of video memory are taken.
//!
//! There is more room than may be used, so that resources of all sizes find a place however they
//! come and go; what counts is how much is in use.

use std::collections::BTreeMap;

/// The unit of parts, so that each can be given back to the kernel.
const PAGE: u64 = 4096;

/// So much room there is for what is in the budget.
const ROOM: u64 = 2;

/// The parts of video memory.
#[derive(Clone, Debug)]
pub(super) struct Places {
    budget: u64,
    room: u64,
    in_use: u64,
    /// Where each part begins, and its length.
    taken: BTreeMap<u64, u64>,
}

impl Places {
    /// Nothing is taken.
    pub(super) fn new(budget: u64) -> Self {
        Self {
            budget,
            room: Self::room(budget),
            in_use: 0,
            taken: BTreeMap::new(),
        }
    }

    /// How much memory there is to be.
    pub(super) fn room(budget: u64) -> u64 {
        budget * ROOM
    }

    /// Where `len` bytes could be taken; `None` if the budget does not allow it.
    pub(super) fn find(&self, len: u64) -> Option<u64> {
        let len = len.checked_next_multiple_of(PAGE)?;
        if len > self.budget - self.in_use {
            return None;
        }
        let mut at = 0;
        for (start, taken) in &self.taken {
            if start - at >= len {
                break;
            }
            at = start + taken;
        }
        (len <= self.room - at).then_some(at)
    }

    /// Takes `len` bytes at a place. `false`, and nothing is taken, if they are not to be had.
    pub(super) fn take(&mut self, at: u64, len: u64) -> bool {
        let before = self.taken.range(..=at).next_back();
        let after = self.taken.range(at..).next();
        let Some(len) = len.checked_next_multiple_of(PAGE) else {
            return false;
        };
        let end = at.checked_add(len);
        let limit = after.map_or(self.room, |(start, _)| *start);
        let is_free = len > 0
            && len <= self.budget - self.in_use
            && at.is_multiple_of(PAGE)
            && before.is_none_or(|(start, taken)| start + taken <= at)
            && end.is_some_and(|end| end <= limit);
        if is_free {
            self.taken.insert(at, len);
            self.in_use += len;
        }
        is_free
    }

    /// Where nothing is taken: where each part begins, and its length.
    pub(super) fn free(&self) -> Vec<(u64, u64)> {
        let mut free = Vec::new();
        let mut at = 0;
        let end = [(&self.room, &0)];
        for (start, taken) in self.taken.iter().chain(end) {
            if *start > at {
                free.push((at, start - at));
            }
            at = start + taken;
        }
        free
    }

    /// Gives back what begins there; its length.
    pub(super) fn give_back(&mut self, at: u64) -> u64 {
        let len = self.taken.remove(&at).unwrap_or(0);
        self.in_use -= len;
        len
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BUDGET: u64 = 16 * PAGE;

    fn places() -> Places {
        Places::new(BUDGET)
    }

    fn allocate(places: &mut Places, len: u64) -> Option<u64> {
        let at = places.find(len)?;
        assert!(places.take(at, len));
        Some(at)
    }

    #[test]
    fn what_is_in_use_is_within_the_budget_to_the_page() {
        let mut places = places();
        let first = allocate(&mut places, BUDGET - PAGE).unwrap();
        let second = allocate(&mut places, 1).unwrap();
        assert_eq!(allocate(&mut places, 1), None);
        places.give_back(second);
        assert_eq!(places.find(PAGE + 1), None);
        assert!(places.find(PAGE).is_some());
        places.give_back(first);
        assert_eq!(places.find(BUDGET), Some(0));
        for len in [BUDGET + 1, u64::MAX] {
            assert_eq!(places.find(len), None, "{len}");
        }
    }

    proptest! {
        #[test]
        fn no_two_parts_overlap_whatever_comes_and_goes(
            steps in prop::collection::vec((any::<bool>(), 0..6 * PAGE, 0..8_usize), 0..60)
        ) {
            let mut places = places();
            let mut parts: Vec<(u64, u64)> = Vec::new();
            for (is_new, len, which) in steps {
                if is_new && len > 0 {
                    if let Some(at) = allocate(&mut places, len) {
                        parts.push((at, len));
                    }
                } else if let Some((at, _)) = parts.get(which).copied() {
                    parts.swap_remove(which);
                    places.give_back(at);
                }
                let mut sorted = parts.clone();
                sorted.sort_unstable();
                prop_assert!(sorted.is_sorted_by(|a, b| a.0 + a.1 <= b.0));
                let pages = |len: u64| len.div_ceil(PAGE);
                let taken: u64 = sorted.iter().map(|(_, len)| pages(*len)).sum();
                let free: u64 = places.free().iter().map(|(_, len)| pages(*len)).sum();
                prop_assert_eq!(taken + free, pages(Places::room(BUDGET)));
                for (at, len) in sorted {
                    prop_assert!(!places.take(at, len), "taken twice");
                }
            }
        }
    }
}
