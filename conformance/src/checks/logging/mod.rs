//! The log of DMA writes: DMA_LOGGING_START, _STOP and _REPORT.

mod bits;
mod reports;
mod starts;

use crate::check::Check;

/// Every check of the group.
pub(super) fn all() -> impl Iterator<Item = Check> {
    [starts::CHECKS, reports::CHECKS, bits::CHECKS]
        .into_iter()
        .flatten()
        .copied()
}
