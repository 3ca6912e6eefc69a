//! A page table with large leaves: page numbers to small values, for ranges of pages.
//!
//! A node has 512 entries; an entry of a node at height `h` stands for `512^h` pages, and holds a
//! value or a node one lower. So a mapping of any size takes at most 1,022 entries at each height,
//! and a lookup one load at each height. The tree is as high as its highest page needs.

use std::ops::RangeInclusive;

/// Bits of a page number that choose an entry of a node.
const BITS: u32 = 9;
const ENTRIES: usize = 1 << BITS;

/// Set in an entry that holds the index of a node. Any other entry holds a value and 1; 0 is none.
const IS_NODE: u32 = 1 << 31;

/// Heights that 52-bit page numbers need.
const MAX_HEIGHT: u32 = 6;

/// Values that fit beside [`IS_NODE`].
pub(super) const MAX_VALUE: u32 = IS_NODE - 2;

/// Most nodes: 128 MiB. A million mappings lie in some thousand nodes unless a client scatters
/// them on purpose, one to each node; then this is what it can make us spend.
const MAX_NODES: usize = 1 << 16;

#[derive(Clone, Debug)]
struct Node {
    entries: [u32; ENTRIES],
    /// Entries that are not 0.
    used: u32,
}

impl Node {
    const EMPTY: Self = Self {
        entries: [0; ENTRIES],
        used: 0,
    };
}

/// The tree would need more than [`MAX_NODES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooScattered;

/// Pages to values.
#[derive(Debug, Default)]
pub(super) struct PageTable {
    nodes: Vec<Node>,
    /// Nodes that are in no tree.
    free: Vec<u32>,
    root: u32,
    /// Levels below and with the root; 0 while nothing was ever inserted.
    height: u32,
}

/// What an entry of a node stands for.
enum Entry {
    None,
    Value(u32),
    Node(u32),
}

impl Entry {
    fn decode(entry: u32) -> Self {
        match entry {
            0 => Self::None,
            entry if entry & IS_NODE != 0 => Self::Node(entry & !IS_NODE),
            entry => Self::Value(entry - 1),
        }
    }
}

/// Pages that an entry of a node at `height` stands for, as a number of bits.
fn shift(height: u32) -> u32 {
    height * BITS
}

fn index(page: u64, height: u32) -> usize {
    (page >> shift(height)) as usize % ENTRIES
}

impl PageTable {
    /// The value of a page.
    #[inline]
    pub(super) fn find(&self, page: u64) -> Option<u32> {
        if self.height == 0 || page >> shift(self.height) != 0 {
            return None;
        }
        let mut node = self.root;
        let mut height = self.height;
        loop {
            height -= 1;
            let entry = self.nodes[node as usize].entries[index(page, height)];
            match Entry::decode(entry) {
                Entry::None => return None,
                Entry::Value(value) => return Some(value),
                Entry::Node(child) => node = child,
            }
        }
    }

    /// The value of the first page in a range that has one.
    pub(super) fn first_in(&self, pages: &RangeInclusive<u64>) -> Option<u32> {
        if self.height == 0 || pages.start() >> shift(self.height) != 0 {
            return None;
        }
        self.first_below(self.top(), pages)
    }

    fn first_below(&self, place: Place, pages: &RangeInclusive<u64>) -> Option<u32> {
        place.entries_with(pages).find_map(|at| {
            match Entry::decode(self.nodes[place.node as usize].entries[at]) {
                Entry::None => None,
                Entry::Value(value) => Some(value),
                Entry::Node(child) => self.first_below(place.below(at, child), pages),
            }
        })
    }

    /// Gives pages a value. None of them may have one.
    pub(super) fn insert(
        &mut self,
        pages: &RangeInclusive<u64>,
        value: u32,
    ) -> Result<(), TooScattered> {
        debug_assert!(value <= MAX_VALUE && self.first_in(pages).is_none());
        // Both ends of the range may need a node at each height, and the root some above it.
        let needed = 3 * MAX_HEIGHT as usize;
        if self.nodes.len() - self.free.len() + needed > MAX_NODES {
            return Err(TooScattered);
        }
        if self.height == 0 {
            self.root = self.new_node();
            self.height = 1;
        }
        while pages.end() >> shift(self.height) != 0 {
            self.grow();
        }
        self.insert_below(self.top(), pages, value);
        Ok(())
    }

    fn insert_below(&mut self, place: Place, pages: &RangeInclusive<u64>, value: u32) {
        for at in place.entries_with(pages) {
            let own = place.pages_of(at);
            if pages.contains(own.start()) && pages.contains(own.end()) {
                self.set(place.node, at, value + 1);
                continue;
            }
            let child = match Entry::decode(self.nodes[place.node as usize].entries[at]) {
                Entry::Node(child) => child,
                Entry::None | Entry::Value(_) => {
                    let child = self.new_node();
                    self.set(place.node, at, child | IS_NODE);
                    child
                }
            };
            self.insert_below(place.below(at, child), pages, value);
        }
    }

    /// Takes the value of pages away. They must be exactly those of one `insert`.
    pub(super) fn remove(&mut self, pages: &RangeInclusive<u64>) {
        if self.height > 0 {
            self.remove_below(self.top(), pages);
        }
    }

    fn remove_below(&mut self, place: Place, pages: &RangeInclusive<u64>) {
        for at in place.entries_with(pages) {
            match Entry::decode(self.nodes[place.node as usize].entries[at]) {
                Entry::None => {}
                Entry::Value(_) => self.clear(place.node, at),
                Entry::Node(child) => {
                    self.remove_below(place.below(at, child), pages);
                    if self.nodes[child as usize].used == 0 {
                        self.free.push(child);
                        self.clear(place.node, at);
                    }
                }
            }
        }
    }

    fn top(&self) -> Place {
        Place {
            node: self.root,
            height: self.height - 1,
            base: 0,
        }
    }

    /// Puts a root above the root.
    fn grow(&mut self) {
        let root = self.new_node();
        if self.nodes[self.root as usize].used == 0 {
            self.free.push(self.root);
        } else {
            self.set(root, 0, self.root | IS_NODE);
        }
        self.root = root;
        self.height += 1;
    }

    fn new_node(&mut self) -> u32 {
        if let Some(node) = self.free.pop() {
            return node;
        }
        self.nodes.push(Node::EMPTY);
        // Bounded by `MAX_NODES`.
        (self.nodes.len() - 1) as u32
    }

    fn set(&mut self, node: u32, at: usize, entry: u32) {
        let node = &mut self.nodes[node as usize];
        node.entries[at] = entry;
        node.used += 1;
    }

    fn clear(&mut self, node: u32, at: usize) {
        let node = &mut self.nodes[node as usize];
        node.entries[at] = 0;
        node.used -= 1;
    }

    /// Bytes that the tree takes.
    pub(super) fn bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>() + self.free.capacity() * size_of::<u32>()
    }
}

/// A node and what it stands for.
#[derive(Clone, Copy)]
struct Place {
    node: u32,
    height: u32,
    /// The first page.
    base: u64,
}

impl Place {
    /// The entries that hold pages of a range. It shares some with the node.
    fn entries_with(self, pages: &RangeInclusive<u64>) -> RangeInclusive<usize> {
        let last = self.base + ((1 << shift(self.height + 1)) - 1);
        let from = (*pages.start()).max(self.base);
        let to = (*pages.end()).min(last);
        index(from, self.height)..=index(to, self.height)
    }

    fn pages_of(self, at: usize) -> RangeInclusive<u64> {
        let start = self.base + ((at as u64) << shift(self.height));
        start..=start + ((1 << shift(self.height)) - 1)
    }

    fn below(self, at: usize, child: u32) -> Self {
        Self {
            node: child,
            height: self.height - 1,
            base: *self.pages_of(at).start(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_value_covers_its_pages_and_no_others() {
        for (first, last) in [
            (0, 0),
            (1, 600),
            (511, 512),
            (512, 1023),
            (0, (1 << 52) - 1),
            ((1 << 52) - 1, (1 << 52) - 1),
            (0x3_ffff, 0x80_0001),
        ] {
            let mut table = PageTable::default();
            table.insert(&(first..=last), 7).unwrap();
            for page in [first, last, first.midpoint(last)] {
                assert_eq!(
                    table.find(page),
                    Some(7),
                    "{page:#x} of {first:#x}..={last:#x}"
                );
            }
            for page in [first.checked_sub(1), last.checked_add(1)]
                .into_iter()
                .flatten()
            {
                assert_eq!(
                    table.find(page),
                    None,
                    "{page:#x} of {first:#x}..={last:#x}"
                );
            }
            table.remove(&(first..=last));
            assert_eq!(table.first_in(&(0..=(1 << 52) - 1)), None);
            assert_eq!(table.nodes[table.root as usize].used, 0);
        }
    }

    #[test]
    fn a_million_scattered_pages_do_not_take_all_memory() {
        let mut table = PageTable::default();
        let refused = (0..1_000_000).find_map(|n: u64| {
            let page = n << 30;
            table.insert(&(page..=page), 1).err()
        });
        assert_eq!(refused, Some(TooScattered));
        assert!(table.bytes() < 200 << 20, "{}", table.bytes());
    }

    #[test]
    fn a_million_pages_side_by_side_take_few_bytes_each() {
        let mut table = PageTable::default();
        for n in 0..1_000_000_u32 {
            let page = u64::from(n) * 2;
            table.insert(&(page..=page), n).unwrap();
        }
        assert!(table.bytes() < 24 << 20, "{}", table.bytes());
        for n in 0..1_000_000_u64 {
            table.remove(&(n * 2..=n * 2));
        }
        assert_eq!(
            table.nodes.len() - table.free.len(),
            1,
            "only the root is left"
        );
    }

    /// Ranges near each other and near powers of two, where nodes begin and end.
    fn pages() -> impl Strategy<Value = RangeInclusive<u64>> {
        let near = (0..5_u32, 0..6_u64, 0..1100_u64);
        near.prop_map(|(power, add, len)| {
            let start = (1_u64 << (power * 9)) - 1 + add * 300;
            start..=start + len
        })
    }

    proptest! {
        #[test]
        fn it_is_a_list_of_ranges(steps in prop::collection::vec((pages(), any::<bool>()), 1..60)) {
            let mut table = PageTable::default();
            let mut model: Vec<(RangeInclusive<u64>, u32)> = Vec::new();
            for (value, (range, is_insert)) in (0_u32..).zip(steps) {
                let overlaps = |other: &RangeInclusive<u64>| {
                    other.start() <= range.end() && range.start() <= other.end()
                };
                let first = model
                    .iter()
                    .filter(|(other, _)| overlaps(other))
                    .min_by_key(|(other, _)| *other.start())
                    .map(|(_, value)| *value);
                prop_assert_eq!(table.first_in(&range), first);
                if is_insert && first.is_none() {
                    table.insert(&range, value).unwrap();
                    model.push((range, value));
                } else if let Some(at) = model.iter().position(|(other, _)| overlaps(other)) {
                    let (taken, _) = model.swap_remove(at);
                    table.remove(&taken);
                }
                for (other, value) in &model {
                    prop_assert_eq!(table.find(*other.start()), Some(*value));
                    prop_assert_eq!(table.find(*other.end()), Some(*value));
                }
            }
            for (range, _) in &model {
                table.remove(range);
            }
            prop_assert_eq!(table.first_in(&(0..=u64::MAX >> 12)), None);
        }
    }
}
