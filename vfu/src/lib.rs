//! The vfio-user protocol, both ends.
//!
//! A request crosses these modules in this order; a reply goes back the other way:
//!
//! - [`socket`]: whole, bounded frames and the file descriptors that came with them.
//! - [`wire`]: bytes to values and back. No input or output, no panic, whatever the bytes.
//! - [`server`]: accepts a client, agrees on a version, hands out requests, takes replies.
//! - [`client`]: the other end, for tests and tools.
//!
//! | # | command | here |
//! |---|---|---|
//! | 1 | VERSION | both ends |
//! | 2, 3 | DMA_MAP, DMA_UNMAP | both ends |
//! | 4, 5, 7 | DEVICE_GET_INFO, _REGION_INFO, _IRQ_INFO | both ends |
//! | 6 | DEVICE_GET_REGION_IO_FDS | both ends; ioeventfds |
//! | 8 | DEVICE_SET_IRQS | both ends |
//! | 9, 10, 15 | REGION_READ, REGION_WRITE, REGION_WRITE_MULTI | both ends |
//! | 11, 12 | DMA_READ, DMA_WRITE | parsed and emitted; the server hands their replies on |
//! | 13 | DEVICE_RESET | both ends |
//! | 16–18 | DEVICE_FEATURE, MIG_DATA_READ, MIG_DATA_WRITE | both ends |
//!
//! The server's own commands go by the client's socket, or by a twin of it if the client offers
//! that. Protocol major version 0. The specification is QEMU's `docs/interop/vfio-user.rst`; where a
//! real client differs from it, the client decides, and a test names the client.
//!
//! Not here: PCI, devices, guest memory, policy, `unsafe`.

pub mod client;
pub mod server;
pub mod socket;
pub mod wire;

pub use rustix::io::Errno;
