//! The library beside `vgpu-worker`, the process that serves one vGPU, or all those of one physical
//! device.
//!
//! - [`protocol`]: what travels over a worker's control socket.
//! - [`seqpacket`]: how it does so: a document in each packet; [`state_file`]: the file in which a
//!   saved state does.
//! - [`control`]: the asking end of that socket, for `vgpu` and the daemon.
//! - [`parking`]: where a worker's descriptors outlive it, with the daemon.
//! - [`lending`]: how it is granted time on an engine that it shares.
//! - [`seat`]: the descriptors of a physical device, and of each vGPU on it.
//! - [`resume`]: how a new worker takes them over, and goes on.
//! - [`arguments`]: the worker's command line, which `vgpu run` shares.
//! - [`sandbox`], [`inherited`], [`panics`], [`claimed`]: what a program that serves strangers does
//!   at its start; the console's is one as well.
//! - `forbidden`, `fake_parent`: in tests, a device that tries what the sandbox forbids, and a
//!   physical one that is none.
//!
//! Not here: devices (`drivers`), sessions (`mdev`). The program itself is in `main.rs`.

pub mod arguments;
pub mod claimed;
pub mod control;
#[cfg(feature = "forbidden")]
pub mod fake_parent;
#[cfg(feature = "forbidden")]
pub mod forbidden;
pub mod inherited;
pub mod lending;
pub mod panics;
pub mod parking;
pub mod protocol;
pub mod resume;
pub mod sandbox;
pub mod seat;
pub mod seqpacket;
pub mod state_file;
