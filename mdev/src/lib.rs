//! The mediated device framework.
//!
//! A driver implements [`Driver`] and [`MediatedDevice`]; everything between that device and a
//! virtual machine is here. A request from a client crosses these modules, in this order:
//!
//! - [`region`]: which regions a device has, and how a client reaches each.
//! - [`device`]: what a driver implements for one vGPU, and what it is given to do so.
//! - [`pci`]: configuration space that any device can use.
//! - [`irq`]: the eventfds that interrupt the guest.
//! - [`scanout`]: the picture that a device shows, for screenshots and consoles.
//!
//! Not here: the protocol's bytes (`vfu`), any vendor's device (`drivers`), processes (`worker`).

pub mod device;
pub mod irq;
pub mod pci;
pub mod region;
pub mod scanout;

pub use device::{Attributes, Driver, MediatedDevice, Services, TypeSpec};
