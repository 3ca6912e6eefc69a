//! The device is kept busy for a while: how much of its engine the guest gets, by its own clock.

use std::thread;
use std::time::{Duration, Instant};

use super::device::Device;
use crate::Failure;

/// How often the queue is filled.
const FEED: Duration = Duration::from_millis(2);

/// Keeps spins of `micros` waiting for `ms`; prints how many have ended, and in how many
/// milliseconds.
pub(super) fn run(device: &Device, micros: u32, ms: u64) -> Result<(), Failure> {
    let (before, begun) = (device.spins_ended(), Instant::now());
    while begun.elapsed() < Duration::from_millis(ms) {
        device.feed_spins(micros);
        thread::sleep(FEED);
    }
    let ended = device.spins_ended() - before;
    let passed = begun.elapsed().as_millis();
    println!("{ended} spins in {passed} ms");
    Ok(())
}
