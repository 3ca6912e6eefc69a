//! A physical educational device (QEMU's `edu`), shared by several vGPUs: the smallest device that is
//! mediated, and the worked example of `docs/driver-guide.md`.
//!
//! Each vGPU is an [`edu`](crate::edu) of its own: its registers, its interrupts, its buffer, its saved
//! state are those of that driver. What the physical device does for it is its transfers. One crosses
//! these files, in this order:
//!
//! - `driver.rs`: which devices are known, the type `edu-shared`, and how a device is opened.
//! - `parent.rs`: what the vGPUs of a device have in common, and how one is built.
//! - `mover.rs`: the transfers of one vGPU: what is pinned, and which jobs a transfer is.
//! - `card.rs`: the device's one engine: whose turn it is, and one job after the other.
//! - `hardware.rs`: the registers and the interrupt of the physical device.
//!
//! **The physical device has one buffer**, of 4 KiB, and each vGPU has one as well, in memory that the
//! device reaches. What a guest transfers to its buffer is transferred on from there to the guest's own
//! copy, and only then is it told. What it transfers from its buffer is first transferred from that
//! copy to the device, unless the device still has these bytes of this guest. So a transfer is one to
//! three of the hardware's, as the guest's memory may lie in two pieces for the device; no guest is
//! ever given bytes that were another's; and whoever takes over from this process finds every buffer.
//!
//! **What the device cannot reach never reaches it.** A transfer is checked and its memory pinned
//! before; what fails has its errno in [`Register::DmaError`](crate::edu::registers::Register::DmaError).
//!
//! **A device that does not answer** is no bus master from then on, and so quiet; its guest is told EIO.
//! The next transfer finds it idle or resets it, if it can be reset, or fails as well.
//!
//! Not here: factorials on the device, which need no hardware; its memory-mapped registers, given to a
//! guest.

mod card;
mod driver;
mod hardware;
mod mover;
mod parent;
#[cfg(test)]
mod tests;

pub use driver::EduHostDriver;
