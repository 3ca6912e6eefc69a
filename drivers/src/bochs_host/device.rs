//! The PCI device: routes accesses to its parts, and publishes the picture they describe.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use mdev::device::{AttributeError, Fault, Reset};
use mdev::host::Seat;
use mdev::keep::Keep;
use mdev::pci::ConfigSpace;
use mdev::region::{RegionIndex, Regions};
use mdev::scanout::{Geometry, ScanoutPublisher};
use mdev::{MediatedDevice, Migration, Services};

use super::aperture::{APERTURE, Aperture};
use super::parent::Shared;
use super::place::Place;
use super::settings::{FOREGROUND, Settings};
use super::slices::Slice;
use super::vram::Vram;
use crate::bochs::display::Display;
use crate::bochs::model::{MODE, Model};
use crate::switch;

const NO_REGION: Fault = Fault("the device has no such region");
const OUTSIDE: Fault = Fault("the access leaves the slice");
const NO_MEMORY: Fault = Fault("the device has no video memory since the last client left");

/// One vGPU on a card.
///
/// Video memory outlives a reset. The attributes outlive the client, as they are the operator's, but for
/// the foreground, which a client that goes gives up.
pub(super) struct BochsSlice {
    pub(super) display: Display,
    pub(super) aperture: Aperture,
    pub(super) seat: Seat,
    pub(super) shared: Shared,
    config: ConfigSpace,
    pub(super) regions: Regions,
    /// `None` only if there was none to be had when a client left.
    pub(super) slice: Option<Arc<Slice>>,
    pub(super) vram: Option<Vram>,
    pub(super) scanout: ScanoutPublisher,
    pub(super) keep: Keep,
    pub(super) place: Place,
    /// What the client of now has made us publish.
    pub(super) shown: Option<Geometry>,
    /// For migration.
    pub(super) is_stopped: bool,
    /// The state came from a process that had the same slice, which holds what it held.
    pub(super) was_recalled: bool,
}

impl BochsSlice {
    pub(super) fn new(
        model: Model,
        settings: Settings,
        shared: Shared,
        seat: Seat,
        services: Services,
    ) -> io::Result<Self> {
        let place = Place::new(&services.keep)?;
        let noted = place.get()?;
        let len = u64::from(model.vram);
        let slice = match noted.len {
            0 => shared.slices.take(len),
            // What another process has left.
            noted_len if noted_len == len => shared.slices.take_again(noted.start, len),
            _ => None,
        };
        let display = Display::new(model, settings.preferred);
        let config = display.config();
        let mut device = Self {
            display,
            aperture: settings.aperture,
            seat,
            shared,
            regions: Regions::of(&config),
            config,
            slice: None,
            vram: None,
            scanout: services.scanout,
            keep: services.keep,
            place,
            shown: None,
            is_stopped: false,
            was_recalled: false,
        };
        let none = || io::Error::new(ErrorKind::StorageFull, "no slice of this size is free");
        let slice = slice.ok_or_else(none)?;
        device.set_slice(Some(Arc::new(slice)))?;
        if settings.aperture == Aperture::Direct {
            tracing::warn!("the client is given the whole card: it has to be trusted with that");
        }
        let is_new = noted.len == 0;
        if !is_new && noted.turn > 0 {
            device.shared.screen.take_again(seat, noted.turn);
            device.note(noted.turn);
        } else if is_new && settings.is_foreground {
            device.set_foreground(true);
        }
        Ok(device)
    }

    /// Publishes the picture that the registers describe, if it is not the one shown.
    pub(super) fn show(&mut self) {
        let picture = self.display.mmio.picture();
        if picture == self.shown {
            return;
        }
        if let Some(vram) = &self.vram {
            vram.mirror().set_picture(picture);
        }
        match (&self.vram, picture) {
            (Some(vram), Some(geometry)) => {
                let file = Arc::clone(vram.memory().file());
                self.scanout.publish(file, geometry);
            }
            _ => self.scanout.blank(),
        }
        self.shown = picture;
    }

    /// Shows anew what the registers describe.
    pub(super) fn show_anew(&mut self) {
        if let Some(vram) = &self.vram {
            vram.mirror().set_picture(None);
        }
        self.scanout.blank();
        self.shown = None;
        self.show();
    }

    fn set_foreground(&mut self, on: bool) {
        let turn = match (&self.vram, on) {
            (Some(vram), true) => vram.mirror().bring_to_front(),
            (None, true) => self.shared.screen.take(self.seat, None),
            (_, false) => {
                self.shared.screen.give_up(self.seat);
                0
            }
        };
        self.note(turn);
    }

    fn vram(&self) -> Result<&Vram, Fault> {
        self.vram.as_ref().ok_or(NO_MEMORY)
    }
}

impl MediatedDevice for BochsSlice {
    fn config(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn regions(&self) -> &Regions {
        &self.regions
    }

    fn read(&mut self, region: RegionIndex, offset: u64, data: &mut [u8]) -> Result<(), Fault> {
        match region {
            RegionIndex::Bar0 => self.vram()?.read(offset, data).ok_or(OUTSIDE),
            RegionIndex::Bar2 => self.display.mmio.read_all(offset, data),
            _ => Err(NO_REGION),
        }
    }

    fn write(&mut self, region: RegionIndex, offset: u64, data: &[u8]) -> Result<(), Fault> {
        match region {
            RegionIndex::Bar0 => self.vram()?.write(offset, data).ok_or(OUTSIDE),
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
        self.is_stopped = false;
        match cause {
            Reset::Device | Reset::Function => {
                if let Some(vram) = &self.vram {
                    vram.mirror().resume();
                    vram.mirror().set_picture(None);
                }
                self.scanout.blank();
            }
            Reset::Close => {
                if let Some(vram) = &self.vram {
                    vram.mirror().keep_last_picture();
                }
                self.renew();
            }
        }
        self.shown = None;
    }

    /// Without video memory there is nothing that another device could go on with.
    fn migration(&mut self) -> Option<&mut dyn Migration> {
        self.vram.is_some().then_some(self as &mut dyn Migration)
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![
            (MODE, self.display.preferred.to_string()),
            (APERTURE, self.aperture.to_string()),
            (
                FOREGROUND,
                switch::word(self.shared.screen.is_of(self.seat)),
            ),
        ]
    }

    fn set_attribute(&mut self, name: &str, value: &str) -> Result<(), AttributeError> {
        match name {
            MODE => self.display.set_mode(value)?,
            FOREGROUND => self.set_foreground(switch::parse(name, value)?),
            APERTURE => {
                Aperture::parse(value, true)?;
                return Err(AttributeError::Fixed(name.to_owned()));
            }
            _ => return Err(AttributeError::Unknown(name.to_owned())),
        }
        Ok(())
    }
}

impl Drop for BochsSlice {
    fn drop(&mut self) {
        self.shared.screen.give_up(self.seat);
    }
}
