//! Addresses and ranges in the device's view of guest memory.

/// An address in the device's view of guest memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Iova(pub u64);

/// A non-empty range of IOVAs that does not wrap.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct IovaRange {
    start: Iova,
    /// The last byte, not the end: so the top of the address space needs no special case.
    last: Iova,
}

impl IovaRange {
    /// Every address.
    pub const EVERYTHING: Self = Self {
        start: Iova(0),
        last: Iova(u64::MAX),
    };

    /// Returns `None` for an empty range, or one past the end of the address space.
    pub fn new(start: Iova, len: u64) -> Option<Self> {
        let last = start.0.checked_add(len.checked_sub(1)?)?;
        Some(Self {
            start,
            last: Iova(last),
        })
    }

    /// The first address.
    pub fn start(&self) -> Iova {
        self.start
    }

    /// The last address, which is in the range.
    pub fn last(&self) -> Iova {
        self.last
    }

    /// Bytes; `None` for the whole address space, which is one more than fits.
    pub fn len(&self) -> Option<u64> {
        (self.last.0 - self.start.0).checked_add(1)
    }

    /// What is left after the first `len` bytes; `None` if nothing is.
    pub fn after(&self, len: u64) -> Option<Self> {
        let start = self.start.0.checked_add(len)?;
        (start <= self.last.0).then_some(Self {
            start: Iova(start),
            last: self.last,
        })
    }

    /// Pages that the range touches.
    pub fn pages(&self) -> u64 {
        const PAGE_SIZE: u64 = super::DmaTable::PAGE_SIZE;
        self.last.0 / PAGE_SIZE - self.start.0 / PAGE_SIZE + 1
    }

    /// Never: an empty range cannot be made.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Whether all of `other` lies in this range.
    pub fn contains(&self, other: Self) -> bool {
        self.start <= other.start && other.last <= self.last
    }

    /// Whether `other` begins where this range ends.
    pub(super) fn is_followed_by(&self, other: Self) -> bool {
        self.last.0.checked_add(1) == Some(other.start.0)
    }

    /// From the start of this range to the end of `other`, which follows it.
    pub(super) fn joined_with(&self, other: Self) -> Self {
        debug_assert!(self.is_followed_by(other));
        Self {
            start: self.start,
            last: other.last,
        }
    }

    /// Whether the two have an address in common.
    pub fn overlaps(&self, other: Self) -> bool {
        self.start <= other.last && other.start <= self.last
    }
}

impl std::fmt::Debug for Iova {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl std::fmt::Debug for IovaRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}..={:#x}", self.start.0, self.last.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_not_empty_and_does_not_wrap() {
        let top = u64::MAX;
        for (start, len, valid) in [
            (0, 0, false),
            (0, 1, true),
            (top, 1, true),
            (top, 2, false),
            (0, top, true),
            (1, top, true),
            (2, top, false),
        ] {
            let range = IovaRange::new(Iova(start), len);
            assert_eq!(range.is_some(), valid, "{start:#x}+{len:#x}");
        }
    }

    #[test]
    fn ranges_overlap_if_they_share_an_address() {
        let range = |start, len| IovaRange::new(Iova(start), len).unwrap();
        for (a, b, overlap, contains) in [
            (range(0, 4), range(4, 4), false, false),
            (range(0, 5), range(4, 4), true, false),
            (range(0, 8), range(4, 4), true, true),
            (range(5, 1), range(4, 4), true, false),
            (range(8, 1), range(4, 4), false, false),
            (range(1, u64::MAX), range(u64::MAX, 1), true, true),
        ] {
            assert_eq!(a.overlaps(b), overlap, "{a:?} {b:?}");
            assert_eq!(b.overlaps(a), overlap, "{b:?} {a:?}");
            assert_eq!(a.contains(b), contains, "{a:?} {b:?}");
        }
    }
}
