//! What a driver implements for a physical device that several vGPUs share.
//!
//! One process has the device, and each vGPU on it is a *seat* there: a device of its own, with a
//! client, interrupts and memory of its own, on a thread of its own. What the seats have in common is
//! a [`Parent`], behind as many locks as that takes.
//!
//! Not here: the physical device itself ([`crate::host`]), and whose turn its engine is
//! ([`crate::engine`]).

use std::fmt::Debug;
use std::sync::Arc;

use crate::device::BuildError;
use crate::host::{HostDevice, HostIdentity};
use crate::{Attributes, MediatedDevice, Services, TypeSpec};

/// A family of vGPUs that stand on a physical device.
pub trait ParentDriver: Sync {
    /// How its types' names begin: `edu`, `bochs-slice`.
    fn name(&self) -> &'static str;

    /// Whether it knows how to share devices of that kind.
    fn drives(&self, identity: &HostIdentity) -> bool;

    /// The types that can be had on such a device, smallest first. Their video memory is the device's.
    fn types(&self, identity: &HostIdentity) -> Vec<TypeSpec>;

    /// Bytes of video memory that the device has for all of them.
    fn video_memory(&self, identity: &HostIdentity) -> u64 {
        let _ = identity;
        0
    }

    /// How many bits the device's own addresses have: it is given no memory beyond them.
    fn address_bits(&self, identity: &HostIdentity) -> u32;

    /// Whether vGPUs of that type ask [`Services::engine`] before each job.
    fn uses_engine(&self, spec: &TypeSpec) -> bool {
        let _ = spec;
        false
    }

    /// The names of the settings that [`ParentDriver::open`] takes.
    fn settings(&self) -> &'static [&'static str] {
        &[]
    }

    /// Takes the device, which may be in any state, and quiets it: what another process has had it do
    /// ends here. `settings` are the parent's, as the administrator has them.
    fn open(
        &self,
        device: HostDevice,
        settings: &Attributes,
    ) -> Result<Arc<dyn Parent>, BuildError>;
}

/// A physical device that this process has, and what its vGPUs have in common.
///
/// Dropping it, once no seat is left, leaves the device quiet.
pub trait Parent: Debug + Send + Sync {
    /// Builds one vGPU, of a type that the device's driver lists. Dropping it gives back what it had of
    /// the device: its part is cleared, its pins are gone, and its jobs have ended.
    ///
    /// Guest memory that it pins reaches the device from [`HostDevice::dma`], which the driver sets
    /// with [`crate::dma::GuestMemory::set_device_iommu`].
    fn build(
        &self,
        spec: &TypeSpec,
        attributes: &Attributes,
        services: Services,
    ) -> Result<Box<dyn MediatedDevice>, BuildError>;
}
