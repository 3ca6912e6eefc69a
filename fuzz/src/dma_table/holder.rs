//! The device behind the table.

use mdev::MediatedDevice;
use mdev::device::{Fault, Reset};
use mdev::dma::{IovaRange, Pin};
use mdev::pci::{Class, ConfigSpace, Identity};
use mdev::region::{RegionIndex, Regions};

/// A device that holds pins, and lets go of them when it has to.
pub(super) struct Holder {
    config: ConfigSpace,
    regions: Regions,
    pins: Vec<(IovaRange, Pin)>,
}

impl Holder {
    pub(super) fn new() -> Self {
        let config = ConfigSpace::new(Identity {
            vendor: 0,
            device: 0,
            subsystem_vendor: 0,
            subsystem: 0,
            revision: 0,
            class: Class {
                base: 0,
                sub: 0,
                interface: 0,
            },
        });
        Self {
            regions: Regions::of(&config),
            config,
            pins: Vec::new(),
        }
    }

    /// What it holds.
    pub(super) fn pins(&mut self) -> &mut Vec<(IovaRange, Pin)> {
        &mut self.pins
    }
}

impl MediatedDevice for Holder {
    fn config(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn regions(&self) -> &Regions {
        &self.regions
    }

    fn read(&mut self, _: RegionIndex, _: u64, _: &mut [u8]) -> Result<(), Fault> {
        Ok(())
    }

    fn write(&mut self, _: RegionIndex, _: u64, _: &[u8]) -> Result<(), Fault> {
        Ok(())
    }

    fn reset(&mut self, _: Reset) {}

    fn dma_unmap(&mut self, range: IovaRange) {
        self.pins.retain(|(pinned, _)| !pinned.overlaps(range));
    }
}
