//! Who runs next on an engine, and for how long: a state machine in virtual time.
//!
//! Nothing here reads a clock, starts a thread or does I/O: time is an argument, so that a day of
//! scheduling is tested in a second, and the same history gives the same decisions. The daemon
//! (`vgpud::engines`) has the clock and the thread. In the order in which a job meets them:
//!
//! - `scheduler`: [`Scheduler`], the engines of one parent and its clients (the vGPUs), the events
//!   that come in, and what is refused.
//! - [`settings`]: what a client may be given: weight, cap, reservation, priority; and the policies
//!   of an engine.
//! - `engine`: one engine. Picks by start-time fair queueing, charges when a job has ended.
//! - `account`: what one client has waiting on one engine, and what it owes there.
//! - `meter`: a rate that a client is held to, or held up by, as one point in time; `rates`: which
//!   rates settings mean.
//! - `order`: a heap whose entries can be moved, for picks in O(log n) that allocate nothing.
//! - [`decision`]: what comes out, with its reasons.
//! - [`lease`]: time that a worker may spend without asking, as words in pages shared with it.
//! - [`units`]: nanoseconds, shares, virtual time. [`error`]: why a request was refused.
//!
//! An engine has a *depth*: as many jobs run on it at once as it has places, 1 for the ring of a
//! GPU, the number of CPUs for an engine in software. A job is not interrupted: whoever comes waits
//! for one job to end, and what a job took too long is held against its client afterwards.
//!
//! What the algorithm is, what it promises and what was left: `docs/decisions/0011-scheduler.md`.

mod account;
mod clients;
pub mod decision;
mod engine;
pub mod error;
pub mod lease;
mod meter;
mod order;
mod rates;
mod scheduler;
pub mod settings;
pub mod units;

pub use clients::ClientId;
pub use decision::{Class, Decision, EngineId, Job, JobId, Why};
pub use error::SchedError;
pub use scheduler::{Gone, Scheduler, Usage};
pub use settings::{Policy, Priority, Settings};
pub use units::{Nanos, PerMille, Time, VirtualTime, Weight};
