//! All checks, one file for each group.

mod capabilities;
mod descriptors;
mod dma;
mod framing;
mod info;
mod interrupts;
mod io_fds;
mod irq_info;
mod life;
mod logging;
mod migration;
mod order;
mod pci;
mod pieces;
mod region_info;
mod region_mapping;
mod region_read;
mod region_sparse;
mod region_write;
mod reset;
mod version;
mod write_multi;

use crate::check::Check;

/// Every check, in the order they run in.
pub fn all() -> impl Iterator<Item = Check> {
    [
        version::CHECKS,
        capabilities::CHECKS,
        framing::CHECKS,
        pieces::CHECKS,
        order::CHECKS,
        descriptors::CHECKS,
        life::CHECKS,
        info::CHECKS,
        region_info::CHECKS,
        region_sparse::CHECKS,
        region_mapping::CHECKS,
        region_read::CHECKS,
        region_write::CHECKS,
        write_multi::CHECKS,
        reset::CHECKS,
        irq_info::CHECKS,
        pci::CHECKS,
    ]
    .into_iter()
    .flatten()
    .copied()
    .chain(io_fds::all())
    .chain(interrupts::all())
    .chain(dma::all())
    .chain(migration::all())
    .chain(logging::all())
}
