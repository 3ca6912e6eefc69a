//! Configuration space.

use crate::region::RegionIndex;

/// Configuration space of one function.
#[derive(Clone, Debug)]
pub struct ConfigSpace {}

impl ConfigSpace {
    /// Bytes of the region that this configuration space announces; 0 if it has none.
    pub fn region_size(&self, _index: RegionIndex) -> u64 {
        0
    }
}
