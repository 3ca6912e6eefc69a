//! The program `vgpu-worker` with a physical device, which is a fake one here, and the vGPUs that are
//! asked for on it: seats.
//!
//! - `life`: how they come, go, and leave nothing,
//! - `refusals`: what is not made, and not done,
//! - `recovery`: how others go on after the worker has died,
//! - `confinement`: what it may do, and what not.
//!
//! `host` does what the daemon does; `guest`, which is that of the tests of the sandbox, what guests
//! and their VMMs do.

#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]

mod confinement;
#[path = "../sandbox/guest.rs"]
mod guest;
mod host;
mod life;
mod recovery;
mod refusals;
