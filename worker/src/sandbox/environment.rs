//! The environment of whoever started the process: libraries of graphics drivers read dozens of
//! variables, and one that was set for another program has made such a library start itself
//! without end.

#![expect(
    unsafe_code,
    reason = "the environment is the process's, not a thread's"
)]

/// Forgets every variable. Called at the very start: what is wanted of them was read.
pub fn clear() {
    // SAFETY: no thread but the first one exists yet, so nobody reads the environment meanwhile;
    // and nobody keeps a pointer into it.
    unsafe { libc::clearenv() };
}
