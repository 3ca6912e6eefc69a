//! A worker dies, or hands over, and another goes on with its client.

#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]

mod clients;
mod dma;
mod gpu;
mod guest;
mod heads;
mod host;
mod input;
mod kills;
mod setup;
mod stream;
mod types;
mod upgrade;
