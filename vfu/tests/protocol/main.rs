//! The protocol over real sockets, as real clients speak it.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod clients;
mod framing;
mod peer;
mod qemu_attach;
mod refusals;
mod round_trip;
mod server;
mod serving;
mod state;
mod twin;
