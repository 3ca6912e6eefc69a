//! The program `vgpu-worker` in its sandbox, as clients, askers and the kernel see it.
//!
//! - `refusals`: what it cannot do,
//! - `process`: what the kernel says of it,
//! - `service`: what it still does, for every type.
//!
//! `worker` starts one, `guest` is what guests do.

#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]

mod guest;
mod process;
mod refusals;
mod service;
mod worker;
