//! Which cards are shared, and which types there are on them.

use std::sync::Arc;

use mdev::device::BuildError;
use mdev::host::{HostDevice, HostIdentity};
use mdev::{Attributes, Parent, ParentDriver, TypeSpec};

use super::card::HostCard;
use super::model;
use super::parent::BochsParent;
use super::settings;
use crate::bochs::display::IDENTITY;

/// Where the card's memory and its registers are.
const MEMORY: usize = 0;
const REGISTERS: usize = 2;

/// Shares bochs displays, and VGA cards of the same registers.
#[derive(Clone, Copy, Debug)]
pub struct BochsHostDriver;

impl ParentDriver for BochsHostDriver {
    fn name(&self) -> &'static str {
        "bochs-slice"
    }

    fn drives(&self, identity: &HostIdentity) -> bool {
        (identity.vendor, identity.device) == (IDENTITY.vendor, IDENTITY.device)
            && identity.bars[MEMORY] >= model::SMALLEST
            && identity.bars[REGISTERS] > 0
    }

    fn types(&self, identity: &HostIdentity) -> Vec<TypeSpec> {
        model::types(self.video_memory(identity))
    }

    fn video_memory(&self, identity: &HostIdentity) -> u64 {
        identity.bars[MEMORY]
    }

    /// It makes no transfers.
    fn address_bits(&self, _: &HostIdentity) -> u32 {
        32
    }

    fn settings(&self) -> &'static [&'static str] {
        &[settings::DIRECT]
    }

    fn open(
        &self,
        device: HostDevice,
        settings: &Attributes,
    ) -> Result<Arc<dyn Parent>, BuildError> {
        let may_be_direct = settings::may_be_direct(settings)?;
        let failed = |error| BuildError::Os {
            what: "take the card",
            source: std::io::Error::other(error),
        };
        let card = HostCard::new(device).map_err(failed)?;
        let parent = BochsParent::new(Arc::new(card), may_be_direct).map_err(failed)?;
        Ok(Arc::new(parent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_known_by_its_numbers_memory_and_registers() {
        let display = HostIdentity {
            vendor: 0x1234,
            device: 0x1111,
            class: 0x03_80_00,
            bars: [16 << 20, 0, 4096, 0, 0, 0],
        };
        assert!(BochsHostDriver.drives(&display));
        assert_eq!(BochsHostDriver.types(&display).len(), 3);
        assert_eq!(BochsHostDriver.video_memory(&display), 16 << 20);
        let vga = HostIdentity {
            class: 0x03_00_00,
            ..display
        };
        assert!(BochsHostDriver.drives(&vga));
        for other in [
            HostIdentity {
                device: 0x11e8,
                ..display
            },
            HostIdentity {
                bars: [16 << 20, 0, 0, 0, 0, 0],
                ..display
            },
            HostIdentity {
                bars: [2 << 20, 0, 4096, 0, 0, 0],
                ..display
            },
        ] {
            assert!(!BochsHostDriver.drives(&other), "{other:?}");
        }
    }
}
