//! Every order of events between a device's threads and the session, on the code that runs.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p mdev --release --lib loom`
