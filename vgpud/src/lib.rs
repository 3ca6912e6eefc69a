//! The daemon: it owns a host's parents, types and vGPUs, and starts a worker process for each.
//!
//! Not here: devices (`drivers`), sessions (`mdev`), the worker's own sandbox (`worker`).

pub mod api;
pub mod catalogue;
pub mod config;
mod drm;
pub mod error;
mod files;
pub mod paths;
pub mod picture;
pub mod pool;

pub use error::Error;
