//! What the fuzzers run: one function for each target, which takes any bytes.
//!
//! - [`frame()`]: the frame decoder, and every message's `parse` and `emit`.
//! - [`session()`]: a client's whole life, with any messages and descriptors, on any device.
//! - [`dma_table()`]: the table of mappings and guest memory, against a list.
//! - [`state()`]: saved states, good and bad, put into any device.
//!
//! - [`control_queue()`]: a driver's commands to a virtio GPU.
//! - [`transport()`]: any use of the virtio transport, and any rings; both have the device in a `rig`.
//!
//! They share [`input`] (bytes as numbers) and [`descriptors`] (none may be lost). The programs
//! that call them are in `targets/`, a package of its own, and what the fuzzers found worth keeping
//! in `corpus/`: `tests/corpus.rs` replays it. `docs/fuzzing.md` tells the rest.
//!
//! A finding is a panic, so these functions panic where a program would return an error.

#![expect(clippy::expect_used, reason = "a panic is how a finding is told")]

mod control_queue;
pub mod descriptors;
mod device;
mod dma_table;
mod frame;
pub mod input;
mod rig;
pub mod session;
pub mod state;
mod transport;

pub use control_queue::control_queue;
pub use dma_table::dma_table;
pub use frame::frame;
pub use session::session;
pub use state::state;
pub use transport::transport;
