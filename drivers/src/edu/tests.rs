//! The device behind a real session: what a guest and its VMM see.

mod dma;
pub(crate) mod guest;
mod interrupts;
mod messages;
mod properties;
mod registers;
mod resumed;
mod saved;
mod spins;
mod state;
mod unmap;
pub(crate) mod vmm;
