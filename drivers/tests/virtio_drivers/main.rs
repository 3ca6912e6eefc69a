//! Our devices under a driver that is not ours: the crate `virtio-drivers`, as kernels take it, over
//! vfio-user and with no VM.
//!
//! - `memory`: the guest's memory, as the crate asks for it.
//! - `bus`: the way to the device.
//! - `instance`: the device, as the tests of the GPU have it.
//! - `gpu`: what the crate's driver of a GPU does, is done.
//! - `load`: the rings, filled to the brim and for long.

#![expect(clippy::unwrap_used, reason = "where a test fails, it says so")]

mod bus;
mod gpu;
#[path = "../gpu/instance.rs"]
mod instance;
mod load;
mod memory;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bus::Bus;
use instance::Instance;

/// Longer than any of it takes.
const LIMIT: Duration = Duration::from_secs(120);

/// Drives a device of this type. The crate's drivers wait for the device without an end, so a test
/// ends before they do.
fn driven(drive: fn(&Instance, &Bus)) {
    let (done, is_done) = mpsc::channel();
    let driver = thread::spawn(move || {
        let instance = Instance::new();
        let bus = Bus::new(instance.socket());
        drive(&instance, &bus);
        drop(bus);
        drop(instance);
        let _ = done.send(());
    });
    let end = is_done.recv_timeout(LIMIT);
    assert_ne!(
        end,
        Err(mpsc::RecvTimeoutError::Timeout),
        "the driver waits for the device"
    );
    driver.join().unwrap();
}
