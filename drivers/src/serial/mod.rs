//! A PCI card with one or two serial ports: the counterpart of the kernel's `mtty` sample.
//!
//! Stock drivers run it: it has the PCI identity of `mtty`, and each port is a 16550A. Nothing
//! is at the far end of its cable but a loop-back plug, so a port receives what it transmits. An
//! access by the guest crosses these files, in this order:
//!
//! - `driver.rs`: the types `serial-1` and `serial-2`, and how one is built.
//! - `device.rs`: the PCI function. Finds the port and the register, and drives INTA.
//! - [`uart`]: one port, a model that knows neither PCI nor interrupts' ways to the guest.
//! - `fifo.rs`: the queues of a port.
//! - [`registers`]: the names of registers and bits.
//! - `state.rs`: what is saved of a card; of a port, `uart/state.rs`.
//!
//! Nothing that is transmitted is lost: while the receive FIFO is full, the transmitter reports
//! that it is not empty (`THRE` and `TEMT` stay clear) and bytes wait in it. A guest that only
//! writes is therefore held up once the FIFO is full, as by a peer that does not read.
//!
//! Not here: a backend on the host, time (bytes arrive at once, whatever the divisor latch says),
//! the effects of word length and parity, DMA signalling, MSI.

mod device;
mod driver;
mod fifo;
pub mod registers;
mod state;
pub mod uart;

pub use driver::SerialDriver;
