//! Displays that share one physical card: a bochs display, or a VGA card of the same registers.
//!
//! The card's video memory is divided into slices, one for each vGPU, which sees its slice as all the
//! video memory there is. Its registers and its monitor are its own; the physical ones show the slice of
//! one vGPU at a time. The others go on drawing, and are seen in their consoles. Its parts, in the order
//! in which an access meets them:
//!
//! - `driver`: which cards it shares, and which types there are on them.
//! - `parent`: what the vGPUs of a card have in common; builds one, with its `settings`.
//! - `model`: what the types differ in.
//! - `device`: the PCI device. Its registers are `crate::bochs`'s.
//! - `aperture`: the three ways to a slice.
//! - `renewal`: memory for one client after the other.
//! - `vram`: the memory of one vGPU: its slice, and its picture in a file.
//! - `mirror`: copies what has changed from the one to the other, on a thread.
//! - `slices`: which part of the card's memory is whose.
//! - `screen`: which vGPU the card shows.
//! - `card`: the card itself, mapped.
//! - `state`: what is saved of a display; `place`: what another process goes on with.
//!
//! A client's death clears its slice, and takes it off the card's screen, which stays blank until another
//! vGPU is brought to the front.
//!
//! Left out: interrupts and transfers (the hardware has none), pixels of other than 32 bits.

mod aperture;
mod card;
mod device;
mod driver;
mod mirror;
mod model;
mod parent;
mod place;
mod renewal;
mod screen;
mod settings;
mod slices;
mod state;
#[cfg(test)]
mod tests;
mod vram;

pub use driver::BochsHostDriver;
