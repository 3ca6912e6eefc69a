//! Guest memory: which of it the device may reach, by IOVA.
//!
//! - [`iova`]: addresses and ranges as types.
//! - [`table`]: the database of the client's mappings.
//! - [`memory`]: the client's files, each mapped once.

pub mod iova;
pub mod memory;
pub mod table;

pub use iova::{Iova, IovaRange};
pub use table::{DmaError, DmaTable};
