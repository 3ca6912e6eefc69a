//! The kernel's numbers for paths. A path has the same number for ever, as long as no other path
//! that the kernel remembers has it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Names;

/// The root, as FUSE numbers it.
pub(super) const ROOT: u64 = 1;

/// The first number that others may have.
const FIRST: u64 = 2;

/// The paths that the kernel remembers.
#[derive(Debug, Default)]
pub(super) struct Inodes {
    known: Mutex<HashMap<u64, Known>>,
}

#[derive(Debug)]
struct Known {
    path: Arc<Names>,
    /// How often the kernel was told of it, and has not forgotten it.
    lookups: u64,
}

impl Inodes {
    /// The path of a number that the kernel remembers.
    pub(super) fn path(&self, number: u64) -> Option<Arc<Names>> {
        if number == ROOT {
            return Some(Arc::from([]));
        }
        let known = self.lock();
        known.get(&number).map(|known| Arc::clone(&known.path))
    }

    /// The number of a path, which the kernel is about to be told.
    pub(super) fn remember(&self, path: &Arc<Names>) -> u64 {
        let mut known = self.lock();
        let mut number = number_of(path);
        loop {
            let entry = known.entry(number).or_insert_with(|| Known {
                path: Arc::clone(path),
                lookups: 0,
            });
            if entry.path == *path {
                entry.lookups += 1;
                return number;
            }
            number = number.wrapping_add(1).max(FIRST);
        }
    }

    /// The kernel forgets a number, as often as it was told of it at most.
    pub(super) fn forget(&self, number: u64, lookups: u64) {
        let mut known = self.lock();
        if let Some(entry) = known.get_mut(&number) {
            entry.lookups = entry.lookups.saturating_sub(lookups);
            if entry.lookups == 0 {
                known.remove(&number);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of a path if no other has it: FNV-1a of its names.
pub(super) fn number_of(path: &Names) -> u64 {
    if path.is_empty() {
        return ROOT;
    }
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for name in path {
        for byte in name.bytes().chain([b'/']) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash.max(FIRST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(names: &[&str]) -> Arc<Names> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_number_stays_with_its_path_until_it_is_forgotten() {
        let inodes = Inodes::default();
        let (one, other) = (path(&["sys", "bus"]), path(&["sysb", "us"]));
        let number = inodes.remember(&one);
        assert_eq!(inodes.remember(&one), number);
        assert_ne!(inodes.remember(&other), number);
        assert_eq!(inodes.path(number), Some(Arc::clone(&one)));
        inodes.forget(number, 1);
        assert_eq!(inodes.path(number), Some(one));
        inodes.forget(number, 1);
        assert_eq!(inodes.path(number), None);
        inodes.forget(number, 1);
        assert_eq!(inodes.path(ROOT), Some(path(&[])));
        inodes.forget(ROOT, 1);
        assert!(inodes.path(ROOT).is_some());
        assert_eq!(inodes.lock().len(), 1);
    }

    #[test]
    fn two_paths_of_one_hash_have_two_numbers() {
        let inodes = Inodes::default();
        let (one, other) = (path(&["sys"]), path(&["etc"]));
        let taken = Known {
            path: Arc::clone(&other),
            lookups: 1,
        };
        inodes.lock().insert(number_of(&one), taken);
        let number = inodes.remember(&one);
        assert_eq!(number, number_of(&one) + 1);
        assert_eq!(inodes.path(number), Some(one));
        assert_eq!(inodes.path(number - 1), Some(other));
    }
}
