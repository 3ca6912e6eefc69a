//! The locks of guest memory. Under `--cfg loom` they are loom's, so that the tests check every
//! order of events on the code that runs.

#[cfg(loom)]
pub(super) use loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(loom)]
pub(super) use loom::sync::{RwLock as TableLock, RwLockReadGuard as TableReadGuard};

/// Readers on different threads share no cache line; a writer takes each reader's lock in turn.
#[cfg(not(loom))]
pub(super) use crossbeam_utils::sync::{
    ShardedLock as TableLock, ShardedLockReadGuard as TableReadGuard,
};
#[cfg(not(loom))]
pub(super) use std::sync::{Condvar, Mutex, MutexGuard};
