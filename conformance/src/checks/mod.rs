//! All checks, one file for each group.

mod capabilities;
mod descriptors;
mod framing;
mod info;
mod order;
mod version;

use crate::check::Check;

/// Every check, in the order they run in.
pub fn all() -> impl Iterator<Item = Check> {
    [
        version::CHECKS,
        capabilities::CHECKS,
        framing::CHECKS,
        order::CHECKS,
        descriptors::CHECKS,
        info::CHECKS,
    ]
    .into_iter()
    .flatten()
    .copied()
}
