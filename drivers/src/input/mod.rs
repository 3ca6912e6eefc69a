//! A keyboard and a tablet of virtio (Virtio 1.2, section 5.8), so that a machine without any other
//! can be used by hand. Input comes from outside, by [`mdev::input`], and crosses these files:
//!
//! - `driver.rs`: the types of the family and how one is built.
//! - `model.rs`: what they differ in: keys, axes, lights.
//! - `config.rs`: how the driver asks for that, by selecting what it reads.
//! - `device.rs`: what the session's thread does: configuration, resets, what is saved.
//! - `intake.rs`: reports, as they come in.
//! - `stance.rs`: what is pressed and where the pointer is, and the events from one to another.
//! - `tape.rs`: the events that the driver has not got yet, and both stances: as it is, and as the
//!   driver knows it. Memory that outlives the process.
//! - `queues.rs`: events into the driver's buffers, on the thread that serves the queues; and the
//!   lights of a keyboard, as the driver sets them.
//!
//! A driver that takes no events while much happens does not see all of it. It sees what is pressed
//! when it goes on: no key is held for ever, and no report is seen by half.
//!
//! Left out: force feedback, several fingers.

mod config;
mod device;
mod driver;
mod intake;
mod model;
mod queues;
mod stance;
mod tape;

pub use driver::InputDriver;
