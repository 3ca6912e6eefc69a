//! What every display of this kind is, wherever its video memory lies: a monitor, and registers.

use mdev::device::AttributeError;
use mdev::pci::{Bar, Class, ConfigSpace, Identity};
use mdev::region::RegionIndex;
use mdev::state::{Fields, StateError};

use super::mmio::{self, Mmio};
use super::model::Model;
use crate::monitor::{Mode, edid};

/// What QEMU's `bochs-display` says. Revision 2 tells a guest that there are extended registers.
pub(crate) const IDENTITY: Identity = Identity {
    vendor: 0x1234,
    device: 0x1111,
    subsystem_vendor: 0x1af4,
    subsystem: 0x1100,
    revision: 2,
    class: Class {
        base: 0x03, // display
        sub: 0x80,  // other: there is no VGA text mode for firmware to expect
        interface: 0,
    },
};

/// A monitor and registers. The mode that the monitor prefers is the operator's, and outlives a reset.
pub(crate) struct Display {
    pub(crate) model: Model,
    pub(crate) preferred: Mode,
    pub(crate) mmio: Mmio,
}

impl Display {
    /// One that was just switched on.
    pub(crate) fn new(model: Model, preferred: Mode) -> Self {
        let edid = edid::block(preferred, model.largest);
        Self {
            model,
            preferred,
            mmio: Mmio::new(model.vram, edid),
        }
    }

    /// Its configuration space: video memory is BAR0, the registers are BAR2.
    pub(crate) fn config(&self) -> ConfigSpace {
        let vram = Bar::Memory32 {
            size: self.model.vram,
            prefetchable: true,
        };
        let registers = Bar::Memory32 {
            size: mmio::SIZE,
            prefetchable: false,
        };
        ConfigSpace::new(IDENTITY)
            .with_bar(RegionIndex::Bar0, vram)
            .with_bar(RegionIndex::Bar2, registers)
    }

    /// Has the monitor prefer another mode, which a guest sees when it next reads the EDID.
    pub(crate) fn set_mode(&mut self, value: &str) -> Result<(), AttributeError> {
        self.preferred = self.model.parse_mode(value)?;
        let edid = edid::block(self.preferred, self.model.largest);
        self.mmio.set_edid(edid);
        Ok(())
    }

    /// Appends the state.
    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        out.extend(self.preferred.width.to_le_bytes());
        out.extend(self.preferred.height.to_le_bytes());
        self.mmio.save(out);
    }

    /// Takes a state that was saved; on error it stays what it is.
    ///
    /// The preferred mode comes along, as the guest has read it in the EDID. The EDID itself does
    /// too: another version of this program may write another.
    pub(crate) fn restore(&mut self, mut saved: Fields<'_>) -> Result<(), StateError> {
        let preferred = Mode::new(saved.u16()?, saved.u16()?);
        if Mode::parse(&preferred.to_string()) != Some(preferred) || !self.model.offers(preferred) {
            return Err(StateError::registers(
                "the monitor's mode is none of this type",
            ));
        }
        let mmio = Mmio::restore(self.model.vram, &mut saved)?;
        saved.end()?;
        self.preferred = preferred;
        self.mmio = mmio;
        Ok(())
    }
}
