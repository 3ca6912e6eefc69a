//! QEMU's educational device, after its description in `docs/specs/edu.rst`: the smallest device
//! that does DMA, and so the second to read, after `serial`.
//!
//! It computes factorials, copies between guest memory and a buffer of its own, and interrupts by
//! INTx or MSI. Drivers that were written for QEMU's device run on it. An access by the guest
//! crosses these files, in this order:
//!
//! - `driver.rs`: the types `edu-1` and `edu-2`, and how one is built; `edu-shared` is
//!   [`edu_host`](crate::edu_host)'s, which has a mover of its own.
//! - `model.rs`: what they differ in: `edu-2` has memory of its own and more vectors.
//! - `settings.rs`: the attributes: `dma`, `dma-mask`, and registers that are not always there.
//! - `device.rs`: the PCI function and its registers; they belong to the session's thread.
//! - [`registers`]: the names of registers and bits.
//! - `engine.rs`: the thread that computes and copies, and what both threads know of its work.
//! - `mover.rs`: who does transfers, and has the buffer: here it is this process.
//! - `ended.rs`: the last transfer that has ended, for another process to go on from.
//! - `transfer.rs`: one transfer, by a pin or by copies.
//! - `interrupt.rs`: the causes that are pending, and their way to the guest; for both threads.
//! - `state.rs`: what is saved of a device, and what becomes of a transfer meanwhile.
//!
//! Where it differs from QEMU's:
//!
//! - **There is no delay.** QEMU's transfer takes 100 ms at least.
//! - **A transfer that cannot be done does nothing**, ends like any other, with its interrupt if
//!   that was asked for, and leaves its errno in [`registers::Register::DmaError`]; it is counted in
//!   [`registers::Register::DmaFailures`]. QEMU logs it and goes on, wrapped round the mask.
//! - **A reset returns everything to its initial state**, the buffer too. QEMU's has none.
//!
//! - **Its engine may be shared**: jobs then wait for their turn ([`mdev::engine`]), with those of
//!   other devices. With the attribute `spin-register` a guest has it be busy for a time.
//!
//! Not here: a queue of commands, and a second engine: a factorial waits for the transfer before it.

pub(crate) mod device;
mod driver;
mod ended;
mod engine;
mod interrupt;
pub(crate) mod model;
pub(crate) mod mover;
pub mod registers;
pub(crate) mod settings;
mod state;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod transfer;

pub use driver::EduDriver;
