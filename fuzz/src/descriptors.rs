//! How many file descriptors this process has: what a hostile client must not change.

use std::fs;

/// Counts them when made, and again in [`Self::check`].
#[derive(Debug)]
pub struct OpenDescriptors(u64);

impl OpenDescriptors {
    /// Counts them now.
    pub fn count() -> Self {
        Self(count())
    }

    /// Demands that there are as many as before.
    ///
    /// # Panics
    ///
    /// If there are more, or fewer.
    pub fn check(&self) {
        self.check_but_for(0);
    }

    /// Demands that there are so many more than before.
    ///
    /// # Panics
    ///
    /// If there are not.
    pub fn check_but_for(&self, kept: u64) {
        assert_eq!(count(), self.0 + kept, "file descriptors: now and before");
    }
}

/// Since Linux 6.2 the directory's size is the number; before, it is 0, and they are counted one
/// by one, less the one of the directory itself.
fn count() -> u64 {
    const OWN: &str = "/proc/self/fd";
    match fs::metadata(OWN).map(|own| own.len()) {
        Ok(0) | Err(_) => fs::read_dir(OWN).map_or(0, |own| own.count() as u64 - 1),
        Ok(count) => count,
    }
}
