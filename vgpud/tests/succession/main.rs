//! A worker takes over from another, which crashed or is upgraded; the daemon from another daemon.

#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]

#[path = "../cli_support/mod.rs"]
mod cli_support;
mod command_line;
mod fake;
mod programs;
#[path = "../support/mod.rs"]
mod support;
mod takeover;
mod upgrades;
