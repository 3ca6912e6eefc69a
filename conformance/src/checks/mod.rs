//! All checks, one file for each group.

mod info;

use crate::check::Check;

/// Every check, in the order they run in.
pub fn all() -> impl Iterator<Item = Check> {
    [info::CHECKS].into_iter().flatten().copied()
}
