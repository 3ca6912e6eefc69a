//! All checks, one file for each group.

mod capabilities;
mod info;
mod interrupts;
mod version;

use crate::check::Check;

/// Every check, in the order they run in.
pub fn all() -> impl Iterator<Item = Check> {
    [version::CHECKS, capabilities::CHECKS, info::CHECKS]
        .into_iter()
        .flatten()
        .copied()
        .chain(interrupts::all())
}
