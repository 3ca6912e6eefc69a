//! The daemon: it owns a host's parents, types and vGPUs, and starts a worker process for each.
//!
//! Not here: devices (`drivers`), sessions (`mdev`), the worker's own sandbox (`worker`).

mod accounts;
pub mod api;
mod blocking;
pub mod catalogue;
mod clock;
pub mod config;
mod definitions;
mod drm;
pub mod error;
mod events;
mod files;
pub mod manager;
mod mdevctl_file;
pub mod paths;
pub mod picture;
pub mod pool;
mod records;
mod table;
mod turns;
mod worker_process;

pub use error::Error;
