//! PCI configuration space that any device can use.
//!
//! A driver says what its device is ([`Identity`]), which [`Bar`]s it has and which
//! [`Capability`]s, in that order; [`ConfigSpace`] is then the region that a client reads and
//! writes, and tells what a write asks of the device.
//!
//! - `config`: the space itself, and the events that a write causes.
//! - `header`: the first 64 bytes.
//! - `bar`: base address registers, and the ROM's.
//! - `capability`: what follows the header; the largest have files: `msi`, `express`.
//! - `registers`: bytes that a guest writes, each bit with its own rule.
//!
//! Not here: the tables of MSI-X, which lie in a BAR; the extended capabilities of PCI Express.

mod bar;
mod capability;
mod config;
mod express;
mod header;
mod msi;
mod registers;
#[cfg(test)]
mod tests;

pub use bar::Bar;
pub use capability::Capability;
pub use config::{ConfigEvents, ConfigSpace};
pub use express::ExpressKind;
pub use header::{Class, Command, Identity, Pin, Status};
