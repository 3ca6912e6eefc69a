//! Which pages of a mapping the device has written, one bit for each.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use vm_memory::bitmap::{Bitmap, BitmapSlice, WithBitmapSlice};

use super::iova::IovaRange;
use super::table::DmaTable;

/// The unit in which writes are noted: the page size that is offered.
const PAGE_SIZE: usize = DmaTable::PAGE_SIZE as usize;

/// The written pages of one mapping.
pub struct DirtyPages {
    /// Bit `n % 64` of word `n / 64` is page `n`.
    words: Box<[AtomicU64]>,
}

impl DirtyPages {
    /// Of a mapping of `pages` pages, none written.
    pub(super) fn new(pages: u64) -> Arc<Self> {
        let words = (0..pages.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self { words })
    }

    /// Bytes that a mapping's bits take.
    pub(super) fn bytes_for(range: IovaRange) -> u64 {
        range.pages().div_ceil(64) * 8
    }

    /// Marks one page.
    pub(super) fn mark_page(&self, page: u64) {
        let word = usize::try_from(page / 64).ok();
        if let Some(word) = word.and_then(|at| self.words.get(at)) {
            word.fetch_or(1 << (page % 64), Ordering::Release);
        }
    }

    /// Marks the pages that `offset..offset + len` touches.
    pub(super) fn mark(&self, offset: usize, len: usize) {
        let Some(last) = len.checked_sub(1) else {
            return;
        };
        let last_page = offset.saturating_add(last) / PAGE_SIZE;
        for page in offset / PAGE_SIZE..=last_page {
            if let Some(word) = self.words.get(page / 64) {
                word.fetch_or(1 << (page % 64), Ordering::Release);
            }
        }
    }

    /// Whether a page is marked.
    pub(super) fn is_marked(&self, page: usize) -> bool {
        self.words
            .get(page / 64)
            .is_some_and(|word| word.load(Ordering::Relaxed) & (1 << (page % 64)) != 0)
    }

    /// Of the marks of 64 pages those in `mask`, which are taken away. Whoever sees a mark sees
    /// what was written before it was made.
    pub(super) fn take(&self, word: usize, mask: u64) -> u64 {
        self.words
            .get(word)
            .map_or(0, |word| word.fetch_and(!mask, Ordering::Acquire) & mask)
    }
}

impl fmt::Debug for DirtyPages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DirtyPages({} words)", self.words.len())
    }
}

/// Where in a mapping a slice begins, to mark what is written through it. Marks nothing while
/// writes are not tracked.
#[derive(Clone, Debug)]
pub struct DirtySlice<'a> {
    pages: Option<&'a DirtyPages>,
    offset: usize,
}

impl<'a> DirtySlice<'a> {
    /// Of what lies `offset` bytes into a mapping.
    pub(super) fn new(pages: Option<&'a DirtyPages>, offset: usize) -> Self {
        Self { pages, offset }
    }
}

impl<'a> WithBitmapSlice<'a> for DirtyPages {
    type S = DirtySlice<'a>;
}

impl Bitmap for DirtyPages {
    fn mark_dirty(&self, offset: usize, len: usize) {
        self.mark(offset, len);
    }

    fn dirty_at(&self, offset: usize) -> bool {
        self.is_marked(offset / PAGE_SIZE)
    }

    fn slice_at(&self, offset: usize) -> DirtySlice<'_> {
        DirtySlice::new(Some(self), offset)
    }
}

impl WithBitmapSlice<'_> for DirtySlice<'_> {
    type S = Self;
}

impl BitmapSlice for DirtySlice<'_> {}

impl Bitmap for DirtySlice<'_> {
    fn mark_dirty(&self, offset: usize, len: usize) {
        if let Some(pages) = self.pages {
            pages.mark(self.offset.saturating_add(offset), len);
        }
    }

    fn dirty_at(&self, offset: usize) -> bool {
        self.pages
            .is_some_and(|pages| pages.is_marked(self.offset.saturating_add(offset) / PAGE_SIZE))
    }

    fn slice_at(&self, offset: usize) -> Self {
        Self {
            pages: self.pages,
            offset: self.offset.saturating_add(offset),
        }
    }
}

/// Pages of a range that were written, in the order of their addresses: bit `n % 64` of word
/// `n / 64` is the range's page `n`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirtyReport {
    words: Vec<u64>,
}

impl DirtyReport {
    /// A report on `range`, with nothing written.
    pub(super) fn new(range: IovaRange) -> Self {
        let words = usize::try_from(range.pages().div_ceil(64)).unwrap_or(usize::MAX);
        Self {
            words: vec![0; words],
        }
    }

    /// Notes a page of the range.
    pub(super) fn set(&mut self, page: u64) {
        if let Some(word) = usize::try_from(page / 64)
            .ok()
            .and_then(|at| self.words.get_mut(at))
        {
            *word |= 1 << (page % 64);
        }
    }

    /// The bits.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// The pages that were written, counted from the first of the range.
    pub fn pages(&self) -> impl Iterator<Item = u64> {
        (0..).zip(&self.words).flat_map(|(word, &bits)| {
            let mut left = bits;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| u64::from(left.trailing_zeros()))?;
                left &= left - 1;
                Some(word * 64 + bit)
            })
        })
    }

    /// Whether the range's page `page` was written.
    pub fn is_dirty(&self, page: u64) -> bool {
        usize::try_from(page / 64)
            .ok()
            .and_then(|at| self.words.get(at))
            .is_some_and(|word| word & (1 << (page % 64)) != 0)
    }
}
