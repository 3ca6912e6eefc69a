//! What the vGPUs of a device have in common, and how one is built.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mdev::device::BuildError;
use mdev::dma::pin::DeviceIommu;
use mdev::host::Seat;
use mdev::region_memory::RegionMemory;
use mdev::{Attributes, MediatedDevice, Parent, Services, TypeSpec};

use super::card::Card;
use super::driver;
use super::hardware::Hardware;
use super::mover::{CardMover, OwnPage};
use crate::edu::device::{self, EduDevice};
use crate::edu::model::Model;
use crate::edu::settings::Settings;
use crate::edu::transfer::BUFFER_LEN;

/// A physical educational device.
pub(super) struct EduParent {
    card: Arc<Card>,
    iommu: Arc<dyn DeviceIommu>,
    /// How many vGPUs were built.
    seats: AtomicU64,
}

impl fmt::Debug for EduParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EduParent")
            .field("card", &self.card)
            .finish_non_exhaustive()
    }
}

impl EduParent {
    /// Of a device that is no bus master, and that sees memory through `iommu`. It is hung if it takes
    /// longer than `limit` for all that one transfer of a guest takes.
    pub(super) fn new(
        hardware: Box<dyn Hardware>,
        iommu: Arc<dyn DeviceIommu>,
        limit: Duration,
    ) -> Self {
        Self {
            card: Arc::new(Card::new(hardware, limit)),
            iommu,
            seats: AtomicU64::new(0),
        }
    }

    fn build_seat(&self, settings: Settings, services: Services) -> io::Result<EduDevice> {
        let seat = Seat(self.seats.fetch_add(1, Ordering::Relaxed) + 1);
        services.memory.set_device_iommu(Arc::clone(&self.iommu))?;
        let page = |file| OwnPage::new(seat, Arc::clone(&self.iommu), file);
        let store = device::store(&services.keep)?;
        let buffer = page(Arc::clone(&store))?;
        let copied = RegionMemory::new("vgpud-edu-copied", BUFFER_LEN as u64)?;
        let copied = page(Arc::new(copied))?;
        let mover = CardMover::new(seat, Arc::clone(&self.card), buffer, copied);
        EduDevice::moved_by(
            Model::Shared,
            settings,
            services,
            Some(store),
            Box::new(mover),
        )
    }
}

impl Parent for EduParent {
    fn build(
        &self,
        spec: &TypeSpec,
        attributes: &Attributes,
        services: Services,
    ) -> Result<Box<dyn MediatedDevice>, BuildError> {
        if spec.name != driver::spec().name {
            return Err(BuildError::UnknownType(spec.name.clone()));
        }
        let settings = Settings::parse(attributes)?;
        let seat = self.build_seat(settings, services);
        let seat = seat.map_err(|source| BuildError::Os {
            what: "give the device memory, or start the thread of its transfers",
            source,
        })?;
        Ok(Box::new(seat))
    }
}
