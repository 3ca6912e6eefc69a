//! A physical PCI device, which the kernel's VFIO gives to this process.
//!
//! - [`address`]: where it is on the bus.
//! - [`sysfs`]: what the kernel says of it, and of the devices that it cannot be told apart from.
//! - [`identity`]: what kind of device it is, before it is opened.
//! - [`device`]: the device itself: regions, configuration space, reset.
//! - [`files`]: what is open of it, for another process to keep.
//! - [`mapping`]: a region's memory, mapped.
//! - [`window`]: part of it for another process to map.
//! - [`interrupts`]: the eventfds that it signals.
//! - [`dma`]: memory that it may reach, at addresses that [`iova_space`] gives out.
//! - [`job`]: what its engine is to do with memory, which is held meanwhile.
//! - [`binding`]: devices given to user space, and given back; never those in `usage`.
//! - [`error`]: what can go wrong, and what to do about it.
//!
//! Below them: `container` (the kernel's three files), `info` (what it answers) and `ioctl`.
//!
//! Not here: iommufd, which no kernel of Debian's has; devices without an IOMMU, which could write
//! to any memory; several devices in one address space.

pub mod address;
pub mod binding;
mod container;
pub mod device;
pub mod dma;
pub mod error;
pub mod files;
pub mod identity;
mod info;
pub mod interrupts;
mod ioctl;
pub mod iova_space;
pub mod job;
pub mod mapping;
pub mod sysfs;
mod usage;
pub mod window;

pub use address::PciAddress;
pub use binding::{BindError, bind, unbind};
pub use device::{HostDevice, Region};
pub use dma::{DeviceAccess, DmaBuffer, HostDma};
pub use error::HostError;
pub use files::HostFiles;
pub use identity::HostIdentity;
pub use interrupts::Interrupt;
pub use job::{Hold, Job, Seat};
pub use mapping::RegionMapping;
pub use sysfs::PciBus;
pub use window::HostWindow;
