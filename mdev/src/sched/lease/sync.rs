//! The atomics of leases. Under `--cfg loom` they are loom's, so that the tests check every order
//! of loads and stores on the code that runs.

#[cfg(loom)]
pub(super) use loom::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub(super) use std::sync::atomic::{AtomicU64, Ordering, fence};
