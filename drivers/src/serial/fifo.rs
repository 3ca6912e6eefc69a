//! A queue of bounded depth.

use std::collections::VecDeque;

/// A first-in, first-out queue that takes no more than `depth` entries.
///
/// Its depth is chosen when it is made and not changed: a 16550A loses what its FIFOs hold when
/// they are switched on or off, so a change of depth is a new queue.
#[derive(Clone, Debug)]
pub(super) struct Fifo<T> {
    entries: VecDeque<T>,
    depth: usize,
}

impl<T> Fifo<T> {
    /// An empty queue for `depth` entries.
    pub(super) fn new(depth: usize) -> Self {
        Self {
            entries: VecDeque::with_capacity(depth),
            depth,
        }
    }

    /// Appends an entry, or gives it back if the queue is full.
    pub(super) fn push(&mut self, entry: T) -> Result<(), T> {
        if self.is_full() {
            return Err(entry);
        }
        self.entries.push_back(entry);
        Ok(())
    }

    /// Takes the oldest entry.
    pub(super) fn pop(&mut self) -> Option<T> {
        self.entries.pop_front()
    }

    /// The oldest entry.
    pub(super) fn front(&self) -> Option<&T> {
        self.entries.front()
    }

    /// The oldest entry, to be changed in place.
    pub(super) fn front_mut(&mut self) -> Option<&mut T> {
        self.entries.front_mut()
    }

    /// All entries, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter()
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is nothing to pop.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a push would fail.
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= self.depth
    }

    /// Drops all entries.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_is_not_empty_and_refuses_more() {
        for depth in [1, 16] {
            let mut fifo = Fifo::new(depth);
            assert!(fifo.is_empty() && !fifo.is_full(), "depth {depth}");
            for entry in 0..depth {
                assert_eq!(fifo.push(entry), Ok(()), "depth {depth}");
            }
            assert!(!fifo.is_empty() && fifo.is_full(), "depth {depth}");
            assert_eq!(fifo.push(99), Err(99), "depth {depth}");
            assert_eq!(fifo.len(), depth);
        }
    }

    #[test]
    fn entries_leave_in_the_order_they_came_in() {
        let mut fifo = Fifo::new(2);
        for entry in 0..100_u32 {
            fifo.push(entry).unwrap();
            if let Some(oldest) = entry.checked_sub(1) {
                assert_eq!(fifo.pop(), Some(oldest));
            }
        }
    }
}
