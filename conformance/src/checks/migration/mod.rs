//! DEVICE_FEATURE, the states of migration, and the stream of a saved device.

mod carried;
mod data_read;
mod data_write;
mod features;
mod heads;
mod look;
mod resuming;
mod running;
mod states;
mod streams;
mod walk;

use crate::check::Check;

/// Every check of the group.
pub(super) fn all() -> impl Iterator<Item = Check> {
    [
        heads::CHECKS,
        features::CHECKS,
        states::CHECKS,
        walk::CHECKS,
        data_read::CHECKS,
        data_write::CHECKS,
        streams::CHECKS,
        carried::CHECKS,
        resuming::CHECKS,
        running::CHECKS,
    ]
    .into_iter()
    .flatten()
    .copied()
}

const FEATURE_SECTION: &str = "VFIO_USER_DEVICE_FEATURE";
const STATE_SECTION: &str = "VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE";
