//! The PCI device: routes accesses to its parts, and publishes the picture they describe.

use std::io;
use std::sync::Arc;

use mdev::device::{AttributeError, Fault, Reset};
use mdev::keep::Keep;
use mdev::pci::ConfigSpace;
use mdev::region::{Access, RegionIndex, Regions};
use mdev::region_memory::RegionMemory;
use mdev::scanout::{Geometry, ScanoutPublisher};
use mdev::{MediatedDevice, Migration, Services};

use super::display::Display;
use super::model::{MODE, Model};
use crate::monitor::Mode;

const NO_REGION: Fault = Fault("the device has no such region");
const NO_MEMORY: Fault = Fault("the device has no video memory since the last client left");
const MEMORY_FAILED: Fault = Fault("video memory could not be reached");

/// One bochs display.
///
/// Video memory outlives a reset, as it does in QEMU, and the attribute outlives the client: it
/// is the operator's.
pub(super) struct Bochs {
    pub(super) display: Display,
    config: ConfigSpace,
    regions: Regions,
    /// `None` only if the kernel had none to give when a client left.
    pub(super) vram: Option<RegionMemory>,
    pub(super) scanout: ScanoutPublisher,
    keep: Keep,
    /// What the client of now has made us publish.
    pub(super) shown: Option<Geometry>,
    /// For migration.
    pub(super) is_stopped: bool,
}

/// Name of the memory file, as `/proc/PID/maps` shows it.
const VRAM_NAME: &str = "vgpud-bochs-vram";

impl Bochs {
    pub(super) fn new(model: Model, preferred: Mode, services: Services) -> io::Result<Self> {
        let vram = services.keep.memory(VRAM_NAME, model.vram.into())?;
        let display = Display::new(model, preferred);
        let config = display.config();
        let mut device = Self {
            display,
            regions: Regions::of(&config),
            config,
            vram: None,
            scanout: services.scanout,
            keep: services.keep,
            shown: None,
            is_stopped: false,
        };
        device.set_vram(Some(vram));
        Ok(device)
    }

    fn set_vram(&mut self, vram: Option<RegionMemory>) {
        let access = match &vram {
            Some(vram) => Access::Mapped {
                fd: Arc::clone(vram.file()),
            },
            None => Access::Trapped,
        };
        self.regions.set_access(RegionIndex::Bar0, access);
        self.vram = vram;
    }

    /// Takes fresh memory for the next client. If there is none to be had, that client gets
    /// faults, and never the memory of the last one.
    fn renew_vram(&mut self) {
        let vram = self
            .keep
            .memory(VRAM_NAME, self.display.model.vram.into())
            .inspect_err(|error| tracing::error!(%error, "cannot allocate fresh video memory"))
            .ok();
        self.set_vram(vram);
    }

    /// Publishes the picture that the registers describe, if it is not the one shown.
    pub(super) fn show(&mut self) {
        let picture = self.display.mmio.picture();
        if picture == self.shown {
            return;
        }
        match (&self.vram, picture) {
            (Some(vram), Some(geometry)) => {
                self.scanout.publish(Arc::clone(vram.file()), geometry);
            }
            _ => self.scanout.blank(),
        }
        self.shown = picture;
    }

    fn vram(&self) -> Result<&RegionMemory, Fault> {
        self.vram.as_ref().ok_or(NO_MEMORY)
    }
}

impl MediatedDevice for Bochs {
    fn config(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn regions(&self) -> &Regions {
        &self.regions
    }

    fn read(&mut self, region: RegionIndex, offset: u64, data: &mut [u8]) -> Result<(), Fault> {
        match region {
            RegionIndex::Bar0 => self.vram()?.read(offset, data).or(Err(MEMORY_FAILED)),
            RegionIndex::Bar2 => self.display.mmio.read_all(offset, data),
            _ => Err(NO_REGION),
        }
    }

    fn write(&mut self, region: RegionIndex, offset: u64, data: &[u8]) -> Result<(), Fault> {
        match region {
            RegionIndex::Bar0 => self.vram()?.write(offset, data).or(Err(MEMORY_FAILED)),
            RegionIndex::Bar2 => {
                self.display.mmio.write_all(offset, data)?;
                self.show();
                Ok(())
            }
            _ => Err(NO_REGION),
        }
    }

    fn reset(&mut self, cause: Reset) {
        self.config.reset();
        self.display.mmio.reset();
        self.shown = None;
        self.is_stopped = false;
        match cause {
            Reset::Device | Reset::Function => self.scanout.blank(),
            Reset::Close => self.renew_vram(),
        }
    }

    /// Without video memory there is nothing that another device could go on with.
    fn migration(&mut self) -> Option<&mut dyn Migration> {
        self.vram.is_some().then_some(self as &mut dyn Migration)
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![(MODE, self.display.preferred.to_string())]
    }

    fn set_attribute(&mut self, name: &str, value: &str) -> Result<(), AttributeError> {
        match name {
            MODE => self.display.set_mode(value),
            _ => Err(AttributeError::Unknown(name.to_owned())),
        }
    }
}
