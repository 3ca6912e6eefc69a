//! The library beside `vgpu-worker`, the process that serves one vGPU.
//!
//! - [`protocol`]: what travels over a worker's control socket.
//! - [`control`]: the asking end of that socket, for `vgpu` and the daemon.
//! - [`arguments`]: the worker's command line, which `vgpu run` shares.
//!
//! Not here: devices (`drivers`), sessions (`mdev`). The program itself is in `main.rs`.

pub mod arguments;
pub mod control;
pub mod protocol;
pub mod seqpacket;
pub mod state_file;
