//! The daemon: it owns a host's parents, types and vGPUs, and starts a worker process for each.
//!
//! A request crosses these modules, in this order:
//!
//! - [`client`]: the asking end of the API, for the command line and others.
//! - [`api`]: what travels over it.
//! - [`server`]: the answering end: HTTP over a UNIX socket, errors in one form.
//! - [`manager`]: what is done with instances, one change of each at a time (`turns`).
//! - `table`, [`pool`]: every instance, and what those of a parent share; [`functions`]: the keyboard and
//!   the tablet beside a display.
//! - `crashes`: how often workers ended of late.
//! - `records`, `definitions`, [`mdevctl_file`], `files`: what is kept in files, and survives a power loss.
//! - `worker_process`: a worker's process: started with its socket, watched, ended.
//! - `held`: physical devices that vGPUs stand on, and the worker of each.
//! - `console_process`: the process that shows its display to viewers.
//! - `engines`: who of those that share an engine has it when.
//! - `events`, [`metrics`], `usage`: what happened, what is counted, and what is taken of the host.
//!
//! Beside it: [`daemon`] and [`arguments`] (the program as a whole), [`config`] and [`paths`] (how and
//! where things are to be), [`catalogue`] and `drm` (parents and types), `accounts` (owners of
//! sockets), `service` (what a service manager is told), [`programs`] (where the worker's program is),
//! [`host`] (what this host can do), [`picture`] (PNG files), `proc` (what a process uses), `blocking`
//! (work off the API's threads), `clock` (the time of day), [`error`] (why a request is refused). And
//! [`mdev_tree`]: the kernel's mdev files, for the program `vgpu-mdev`, which asks the daemon.
//!
//! Not here: devices (`drivers`), sessions (`mdev`), the worker's own sandbox (`worker`).

mod accounts;
pub mod api;
pub mod arguments;
mod blocking;
pub mod catalogue;
pub mod client;
mod clock;
pub mod config;
mod console_process;
mod crashes;
pub mod daemon;
mod definitions;
mod drm;
mod engines;
pub mod error;
mod events;
mod files;
pub mod functions;
mod held;
pub mod host;
pub mod manager;
pub mod mdev_tree;
pub mod mdevctl_file;
pub mod metrics;
pub mod paths;
pub mod picture;
pub mod pool;
mod proc;
pub mod programs;
mod records;
pub mod server;
mod service;
mod table;
mod turns;
mod usage;
mod worker_process;

pub use error::Error;
