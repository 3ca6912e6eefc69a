//! A heap of clients whose keys change: the least is found at once, all else is O(log n).
//!
//! The standard library's heap cannot move an entry, and its ordered sets allocate when an empty
//! one gets its first; here a client's place is known, and memory is kept.

/// Clients, each at most once, the least key first; of two that are equal, the lower client.
#[derive(Debug)]
pub(super) struct Order<K> {
    heap: Vec<(K, usize)>,
    /// Where each client is in `heap`.
    places: Vec<Option<usize>>,
}

impl<K> Default for Order<K> {
    fn default() -> Self {
        Self {
            heap: Vec::new(),
            places: Vec::new(),
        }
    }
}

impl<K: Copy + Ord> Order<K> {
    /// The least key, and whose it is.
    pub(super) fn first(&self) -> Option<(K, usize)> {
        self.heap.first().copied()
    }

    /// Puts a client in, or gives it another key.
    pub(super) fn set(&mut self, client: usize, key: K) {
        if client >= self.places.len() {
            self.places.resize(client + 1, None);
        }
        let place = match self.places[client] {
            Some(place) => {
                self.heap[place].0 = key;
                place
            }
            None => {
                self.heap.push((key, client));
                self.heap.len() - 1
            }
        };
        self.places[client] = Some(place);
        self.settle(place);
    }

    /// Takes a client out; says whether it was in.
    pub(super) fn remove(&mut self, client: usize) -> bool {
        let Some(place) = self.places.get_mut(client).and_then(Option::take) else {
            return false;
        };
        self.heap.swap_remove(place);
        if let Some((_, moved)) = self.heap.get(place) {
            self.places[*moved] = Some(place);
            self.settle(place);
        }
        true
    }

    /// Moves the entry at `place` to where its key belongs.
    fn settle(&mut self, place: usize) {
        let place = self.rise(place);
        self.sink(place);
    }

    fn rise(&mut self, mut place: usize) -> usize {
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.heap[parent] <= self.heap[place] {
                break;
            }
            self.swap(parent, place);
            place = parent;
        }
        place
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let children = 2 * place + 1..self.heap.len().min(2 * place + 3);
            let Some(least) = children.min_by_key(|child| self.heap[*child]) else {
                return;
            };
            if self.heap[place] <= self.heap[least] {
                return;
            }
            self.swap(place, least);
            place = least;
        }
    }

    fn swap(&mut self, one: usize, other: usize) {
        self.heap.swap(one, other);
        for place in [one, other] {
            self.places[self.heap[place].1] = Some(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_is_the_least_whatever_was_moved(
            steps in prop::collection::vec((0..12_usize, prop::option::of(0..9_u8)), 0..80),
        ) {
            let mut order = Order::default();
            let mut model = BTreeMap::new();
            for (client, key) in steps {
                match key {
                    Some(key) => {
                        order.set(client, key);
                        model.insert(client, key);
                    }
                    None => prop_assert_eq!(order.remove(client), model.remove(&client).is_some()),
                }
                let least = model.iter().map(|(client, key)| (*key, *client)).min();
                prop_assert_eq!(order.first(), least);
            }
        }
    }
}
