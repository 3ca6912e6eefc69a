//! The mediated device framework.
//!
//! A driver implements [`Driver`] and [`MediatedDevice`], or, for a physical device that vGPUs share,
//! [`ParentDriver`], [`Parent`] and [`MediatedDevice`]; everything between that device and a virtual
//! machine is here. A request from a client crosses these modules, in this order:
//!
//! - [`instance`]: a device and its clients, one after the other.
//! - [`session`]: one client. Turns requests into calls on its device.
//! - [`device`]: what a driver implements for one vGPU, and what it is given to do so.
//! - [`region`]: which regions a device has, and how a client reaches each.
//! - [`pci`]: configuration space that any device can use.
//! - [`irq`]: the eventfds that interrupt the guest.
//! - [`dma`]: which guest memory the device may reach, by IOVA.
//! - [`scanout`]: the picture that a device shows, for screenshots and consoles.
//! - [`keep`]: what outlives the process, so that another can go on under the same client.
//! - [`migration`]: the state of a device, taken out of one and put into another, as the stream of
//!   [`state`].
//! - [`sched`]: who runs next on an engine that several devices share.
//! - [`engine`]: a device's side of that: it waits for its turn, and is charged.
//! - [`input`]: what people do at a display, on its way into a device.
//! - [`parent`]: what a driver implements for a physical device that vGPUs share.
//! - [`host`]: that device, through the kernel's VFIO.
//!
//! Beside it: [`region_memory`] (memory of the device's own that a client maps), [`mailbox`]
//! (how other threads reach the device's own), [`polling`] (how a session waits), [`metrics`] (what
//! it counts), [`client_log`] (what it says, bounded), [`fake`] (a device that remembers, for tests
//! and as a first example).
//!
//! Not here: the protocol's bytes (`vfu`), any vendor's device (`drivers`), processes (`worker`).

pub mod client_log;
pub mod device;
pub mod dma;
pub mod engine;
pub mod fake;
pub mod host;
pub mod input;
pub mod instance;
pub mod irq;
pub mod keep;
pub mod mailbox;
pub mod metrics;
pub mod migration;
pub mod parent;
pub mod pci;
pub mod polling;
pub mod region;
pub mod region_memory;
pub mod scanout;
pub mod sched;
pub mod session;
pub mod state;

pub use device::{Attributes, Driver, MediatedDevice, Services, TypeSpec};
pub use migration::Migration;
pub use parent::{Parent, ParentDriver};
