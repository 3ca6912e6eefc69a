//! Guest memory: which of it the device may reach, by IOVA, and how.
//!
//! A mapping crosses these modules from the bottom up, an access from the top down:
//!
//! - [`guest_memory`]: what a device holds: reads, writes, [`View`]s for a batch of them, [`Pin`]s.
//! - [`view`]: translation, with the traits of `vm-memory`, so that virtio queues run on it.
//! - [`pin`]: memory held for a device, and how an unmap waits for it.
//! - [`messages`]: DMA_READ and DMA_WRITE, for memory that came without a file.
//! - [`trust`]: whether a client's files are the guest's memory at all.
//! - [`table`]: the database of the client's mappings, over a `page_table`.
//! - [`dirty`]: which pages the device has written.
//! - [`files`]: the client's files, each mapped once, as [`extent`]s.
//! - [`sigbus`]: what happens when a client truncates a file that is in use.
//! - [`iova`]: addresses and ranges as types.

pub mod dirty;
pub mod extent;
pub mod files;
pub mod guest_memory;
pub mod iova;
pub mod messages;
mod page_table;
pub mod pin;
pub mod sigbus;
mod sync;
pub mod table;
pub mod trust;
pub mod view;

pub use guest_memory::{AccessError, GuestMemory};
pub use iova::{Iova, IovaRange};
pub use pin::Pin;
pub use table::{DmaError, DmaLimits, DmaTable};
pub use view::View;

#[cfg(test)]
#[cfg(loom)]
mod loom_tests;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
