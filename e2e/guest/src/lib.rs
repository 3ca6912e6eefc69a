//! What runs inside the test guests, and what the host has to know of it.
//!
//! The program `guest` is the initramfs's `/init` and, by subcommand, every tool a test calls for.
//! This library holds the parts that the host recomputes or speaks as well:
//!
//! - [`wire`]: the frames that host and agent exchange over the second serial port.
//! - [`pattern`]: the picture that `guest draw` puts on the screen.
//! - [`noise`]: the bytes that `guest loopback` sends round.
//!
//! Not here: anything about QEMU, and anything of the programs under test.

pub mod noise;
pub mod pattern;
pub mod wire;
