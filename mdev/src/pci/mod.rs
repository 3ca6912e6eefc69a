//! PCI configuration space that any device can use.

mod config;

pub use config::ConfigSpace;
