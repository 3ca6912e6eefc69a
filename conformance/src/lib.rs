//! Holds a vfio-user server to what the protocol promises, from outside, over its socket.
//!
//! A run crosses these modules in this order:
//!
//! - [`server`]: the server under test: one that listens already, or one that is started here.
//! - [`target`]: how a check reaches it, and what it offers ([`feature`]).
//! - [`runner`]: one check after the other, each with connections of its own.
//! - [`check`]: what a check is; [`mod@checks`] has them all, one file for each group.
//! - [`connection`]: a client of bytes, with a deadline on everything that it waits for.
//! - [`negotiated`]: that client after VERSION, with the commands that most checks need.
//! - [`guest`]: that client with a guest's memory, for the device to reach.
//! - [`migration`], [`write_log`]: the commands of saved states and of the log of DMA writes.
//! - [`payload`], [`mapping`], [`devices`]: what checks build messages from, how they look into
//!   shared memory, and how to make a known device do something.
//! - [`hostile`]: messages that no client sends, many of them; [`process`] counts what they cost.
//! - [`report`]: the outcome, for people and for programs.
//!
//! The rules are those of QEMU's `docs/interop/vfio-user.rst`, each in our own words beside the
//! name of its section. Where that leaves a choice, every choice passes.
//!
//! Not here: anything about how a server works inside, and any crate of ours but `vfu`.

pub mod check;
pub mod checks;
pub mod connection;
pub mod devices;
pub mod feature;
pub mod guest;
pub mod hostile;
pub mod mapping;
pub mod migration;
pub mod negotiated;
pub mod payload;
pub mod process;
pub mod report;
pub mod runner;
pub mod server;
pub mod target;
pub mod write_log;
