//! The real console: viewers of ours see what workers show, real ones and such as no worker is.

#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "no test outlives a surprise"
)]

mod fake;
mod heads;
mod hostile;
mod life;
mod pictures;
mod programs;
#[path = "../../../e2e/src/vnc.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    reason = "it is the viewer of the whole-guest tests, of which a part is used here"
)]
mod vnc;
