//! How often each page is pinned: one count for each stretch of pages that are pinned alike.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::RangeInclusive;

/// Counts of pages, by their numbers.
///
/// # Invariants
///
/// No two stretches overlap, none is counted 0 times, and two that touch differ.
#[derive(Debug, Default)]
pub(super) struct PageCounts {
    /// By the first page of each.
    stretches: BTreeMap<u64, Stretch>,
}

#[derive(Clone, Copy, Debug)]
struct Stretch {
    last: u64,
    /// How often its pages are pinned.
    guards: usize,
    /// Of these, how often to be written.
    writers: usize,
}

impl Stretch {
    fn is_like(&self, other: &Self) -> bool {
        (self.guards, self.writers) == (other.guards, other.writers)
    }
}

impl PageCounts {
    /// Counts pages once more.
    pub(super) fn add(&mut self, pages: &RangeInclusive<u64>, write: bool) {
        let writers = usize::from(write);
        let new = |last| Stretch {
            last,
            guards: 1,
            writers,
        };
        if !self.any_in(&(pages.start().saturating_sub(1)..=pages.end() + 1)) {
            // As most are: by themselves.
            self.stretches.insert(*pages.start(), new(*pages.end()));
            return;
        }
        let (first, last) = self.cut_out(pages);
        let mut next = first;
        while next <= last {
            match self.stretches.range_mut(next..=last).next() {
                Some((&start, stretch)) if start == next => {
                    stretch.guards += 1;
                    stretch.writers += writers;
                    next = stretch.last + 1;
                }
                later => {
                    let last = later.map_or(last, |(start, _)| start - 1);
                    self.stretches.insert(next, new(last));
                    next = last + 1;
                }
            }
        }
        self.join(first);
        self.join(last + 1);
    }

    /// Counts pages once less, as they were counted.
    pub(super) fn remove(&mut self, pages: &RangeInclusive<u64>, write: bool) {
        if let Entry::Occupied(stretch) = self.stretches.entry(*pages.start()) {
            // As most are: pinned once, and alone.
            if stretch.get().last == *pages.end() && stretch.get().guards == 1 {
                stretch.remove();
                return;
            }
        }
        let (first, last) = self.cut_out(pages);
        let mut next = first;
        while let Some((&start, stretch)) = self.stretches.range_mut(next..=last).next() {
            stretch.guards -= 1;
            stretch.writers -= usize::from(write);
            next = stretch.last + 1;
            if stretch.guards == 0 {
                self.stretches.remove(&start);
            }
            if next > last {
                break;
            }
        }
        self.join(first);
        self.join(last + 1);
    }

    /// Whether one of the pages is pinned.
    pub(super) fn any_in(&self, pages: &RangeInclusive<u64>) -> bool {
        let last_before = self.stretches.range(..=pages.end()).next_back();
        last_before.is_some_and(|(_, stretch)| stretch.last >= *pages.start())
    }

    /// How many pages are pinned.
    pub(super) fn pages(&self) -> usize {
        let stretches = self.stretches.iter();
        let pages = stretches.map(|(start, stretch)| stretch.last - start + 1);
        usize::try_from(pages.sum::<u64>()).unwrap_or(usize::MAX)
    }

    /// The pages that are pinned to be written.
    pub(super) fn writable(&self) -> impl Iterator<Item = u64> {
        let stretches = self.stretches.iter();
        stretches
            .filter(|(_, stretch)| stretch.writers > 0)
            .flat_map(|(&start, stretch)| start..=stretch.last)
    }

    /// Has stretches begin and end where these pages do. Page numbers are of 52 bits: there is always
    /// one behind the last.
    fn cut_out(&mut self, pages: &RangeInclusive<u64>) -> (u64, u64) {
        let (first, last) = (*pages.start(), *pages.end());
        self.cut(first);
        self.cut(last + 1);
        (first, last)
    }

    /// Has a stretch that goes across a page's start end before it, and another begin there.
    fn cut(&mut self, page: u64) {
        let Some((_, before)) = self.stretches.range_mut(..page).next_back() else {
            return;
        };
        if before.last >= page {
            let rest = *before;
            before.last = page - 1;
            self.stretches.insert(page, rest);
        }
    }

    /// Makes one of the stretches that touch at a page's start, if they are alike.
    fn join(&mut self, page: u64) {
        let Some(&next) = self.stretches.get(&page) else {
            return;
        };
        let Some((_, before)) = self.stretches.range_mut(..page).next_back() else {
            return;
        };
        if before.last + 1 == page && before.is_like(&next) {
            before.last = next.last;
            self.stretches.remove(&page);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGES: u64 = 24;

    fn any_pages() -> impl Strategy<Value = RangeInclusive<u64>> {
        (0..PAGES, 0..8_u64).prop_map(|(first, more)| first..=(first + more).min(PAGES - 1))
    }

    /// The counts, page by page; and that they could not be told in fewer stretches.
    fn counts(counts: &PageCounts) -> Vec<(usize, usize)> {
        let mut all = vec![(0, 0); PAGES as usize];
        let mut before: Option<Stretch> = None;
        for (&start, &stretch) in &counts.stretches {
            assert!(start <= stretch.last && stretch.guards > 0);
            if let Some(before) = before {
                assert!(before.last < start);
                assert!(before.last + 1 < start || !before.is_like(&stretch));
            }
            before = Some(stretch);
            all[start as usize..=stretch.last as usize].fill((stretch.guards, stretch.writers));
        }
        all
    }

    proptest! {
        #[test]
        fn each_page_is_counted_as_if_it_were_counted_alone(
            steps in proptest::collection::vec((any_pages(), any::<bool>(), 0..3_usize), 1..80),
        ) {
            let mut counted = PageCounts::default();
            let mut held: Vec<(RangeInclusive<u64>, bool)> = Vec::new();
            for (pages, write, what) in steps {
                if what < 2 || held.is_empty() {
                    counted.add(&pages, write);
                    held.push((pages.clone(), write));
                } else {
                    let at = *pages.start() as usize % held.len();
                    let (pages, write) = held.swap_remove(at);
                    counted.remove(&pages, write);
                }
                let of = |page: u64, writers: bool| {
                    let held = held.iter().filter(|(pages, write)| {
                        pages.contains(&page) && (*write || !writers)
                    });
                    held.count()
                };
                let naive: Vec<_> = (0..PAGES).map(|page| (of(page, false), of(page, true))).collect();
                prop_assert_eq!(counts(&counted), naive.clone());
                let pinned = naive.iter().filter(|(guards, _)| *guards > 0).count();
                prop_assert_eq!(counted.pages(), pinned);
                let writable: Vec<u64> = counted.writable().collect();
                let expected: Vec<u64> = (0..PAGES).filter(|&page| of(page, true) > 0).collect();
                prop_assert_eq!(writable, expected);
                let any = pages.clone().any(|page| of(page, false) > 0);
                prop_assert_eq!(counted.any_in(&pages), any);
            }
        }
    }
}
