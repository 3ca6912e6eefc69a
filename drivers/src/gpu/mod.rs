//! The GPU of virtio in two dimensions (Virtio 1.2, section 5.7), which every current guest binds.
//!
//! The guest draws into memory of its own, has the device copy that into a *resource*, and says which
//! resource a head shows. A command crosses these files, in this order:
//!
//! - `driver.rs`: the types of the family and how one is built.
//! - `model.rs`: what they differ in: budget of video memory, heads and largest mode.
//! - `device.rs`: what the session's thread does: configuration, attributes, resets.
//! - `display.rs`: the monitors, and what the driver is told of them.
//! - `protocol.rs`: the commands' numbers, and their fields.
//! - `adapter.rs`: commands carried out, on the thread that serves the queues (`virtio`'s): in
//!   `creating.rs` those that make resources, in `drawing.rs` those that show them, in `pointing.rs`
//!   the cursor's.
//! - `late.rs`: what is flushed and not copied before somebody looks.
//! - `table.rs`: what there is: the resources, where each lies, and in `table/heads.rs` what a head
//!   shows.
//! - `resources.rs`: one resource, and what backs it in guest memory.
//! - `places.rs`: which parts of video memory are taken, within the budget.
//! - `vram.rs`: the memory that pixels are copied to: a file, so that a picture is shown as it lies
//!   there, outlives the process, and can be saved.
//! - `cursors.rs`: the pictures of the cursors.
//! - `change.rs`: a change of the table, as bytes.
//! - `journal.rs`: the changes, noted where they outlive the process.
//! - `state.rs`: what is saved of a device.
//!
//! Left out: three dimensions, and blobs on the host's side, which belong to it.

mod adapter;
mod change;
mod creating;
mod cursors;
mod device;
mod display;
mod drawing;
mod driver;
mod journal;
mod late;
mod model;
mod places;
mod pointing;
mod protocol;
mod resources;
mod state;
mod table;
mod vram;

pub use driver::GpuDriver;
