//! The virtual devices, one folder each with the same file names in each:
//!
//! - `driver.rs`: the types of the family and how one is built,
//! - `device.rs`: the device itself, an [`mdev::MediatedDevice`],
//! - further files for its parts, each a model on its own.
//!
//! [`edu_host`] and [`bochs_host`] share a physical device. They have a `parent.rs` besides, which is
//! what the vGPUs on it have in common, an [`mdev::Parent`]; the devices of `edu_host` are those of
//! [`edu`]. Beside all of them `monitor`: what a guest finds at the end of a
//! display's cable; and `switch`: attributes that are `on` or `off`.
//!
//! Read `serial` first: it is the smallest. Then `edu`, the smallest with DMA and a thread; and
//! `edu_host`, the smallest on a physical device.

pub mod bochs;
pub mod bochs_host;
pub mod edu;
pub mod edu_host;
pub mod gpu;
pub mod input;
mod monitor;
pub mod serial;
mod switch;

use mdev::host::HostIdentity;
use mdev::{Driver, ParentDriver, TypeSpec};

/// Every driver of devices in software, in the order in which they are listed.
pub const DRIVERS: &[&dyn Driver] = &[
    &serial::SerialDriver,
    &edu::EduDriver,
    &bochs::BochsDriver,
    &gpu::GpuDriver,
    &input::InputDriver,
];

/// Every driver of physical devices.
pub const PARENT_DRIVERS: &[&dyn ParentDriver] =
    &[&edu_host::EduHostDriver, &bochs_host::BochsHostDriver];

/// The driver that shares physical devices of that kind, if there is one.
pub fn parent_driver(identity: &HostIdentity) -> Option<&'static dyn ParentDriver> {
    let mut drivers = PARENT_DRIVERS.iter().copied();
    drivers.find(|driver| driver.drives(identity))
}

/// Whether devices of that type, in software, share the engine of their parent.
pub fn uses_engine(name: &str) -> bool {
    find_type(name).is_some_and(|(driver, spec)| driver.uses_engine(&spec))
}

/// The driver and the type of that name, of devices in software, or `None`.
pub fn find_type(name: &str) -> Option<(&'static dyn Driver, TypeSpec)> {
    DRIVERS.iter().find_map(|driver| {
        let spec = driver.types().into_iter().find(|spec| spec.name == name)?;
        Some((*driver, spec))
    })
}
