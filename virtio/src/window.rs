//! The window in configuration space through which registers are reached without their BAR
//! (Virtio 1.2, section 4.1.4.9): firmware uses it where it cannot map a BAR.

use std::ops::Range;

use mdev::MediatedDevice;
use mdev::pci::{Capability, ConfigSpace};
use mdev::region::RegionIndex;

use crate::transport::VirtioPci;

/// The kind of structure; `VIRTIO_PCI_CAP_PCI_CFG`.
const KIND: u8 = 5;

/// Offsets in the capability; the fields before the data say where the window is open.
const BAR: u64 = 4;
const OFFSET: u64 = 8;
const LENGTH: u64 = 12;
const DATA: u64 = 16;
const END: u64 = 20;

/// Where in configuration space the window is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    capability: u64,
}

/// What is behind the window: a part of a BAR, of 1, 2 or 4 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(crate) region: RegionIndex,
    pub(crate) offset: u64,
    pub(crate) len: usize,
}

impl Window {
    /// The capability, which is a device's last.
    pub(crate) fn capability() -> Capability {
        const HEADER: u64 = 3;
        let content = (HEADER..END).map(|at| match at {
            HEADER => (KIND, 0),
            BAR | OFFSET..END => (0, 0xff),
            _ => (0, 0),
        });
        Capability::VendorWritable(content.collect())
    }

    /// The window of a device that has this space.
    pub(crate) fn of(config: &ConfigSpace) -> Self {
        let capabilities = config.vendor_capabilities();
        let last = capabilities.last().map_or(0, |range| range.start);
        Self {
            capability: last as u64,
        }
    }

    /// Whether an access to configuration space is one to what is behind the window.
    pub(crate) fn is_touched(&self, offset: u64, len: usize) -> bool {
        let data = self.data();
        let end = offset.saturating_add(len as u64);
        offset < data.end && data.start < end
    }

    /// Where the bytes lie that are behind it.
    pub(crate) fn data(&self) -> Range<u64> {
        self.capability + DATA..self.capability + END
    }

    /// What is behind it; `None` if the driver has set it to nothing that there is.
    pub(crate) fn opening(&self, config: &ConfigSpace) -> Option<Opening> {
        let field = |at| {
            let mut bytes = [0; 4];
            config.read(self.capability + at, &mut bytes);
            u32::from_le_bytes(bytes)
        };
        let region = RegionIndex::from_u32(field(BAR) & 0xff)?;
        let is_bar = !matches!(region, RegionIndex::Rom | RegionIndex::Config);
        let (offset, len) = (u64::from(field(OFFSET)), field(LENGTH));
        let is_inside = offset + u64::from(len) <= config.region_size(region);
        (is_bar && matches!(len, 1 | 2 | 4) && is_inside).then_some(Opening {
            region,
            offset,
            len: len as usize,
        })
    }
}

/// What is done through the window in configuration space.
impl VirtioPci {
    /// What is behind it; nothing while the state of the device is not to change.
    fn opening(&self) -> Option<Opening> {
        let opening = self.window.opening(&self.config);
        opening.filter(|_| !self.engine.is_stopped())
    }

    /// Reads what is behind it into its bytes: ones, if nothing is.
    pub(crate) fn look_through_window(&mut self) {
        let mut seen = [0xff; 4];
        if let Some(Opening {
            region,
            offset,
            len,
        }) = self.opening()
            && let Some(seen) = seen.get_mut(..len)
            && self.read(region, offset, seen).is_err()
        {
            seen.fill(0xff);
        }
        // They may be written, and nothing else lies there.
        let _ = self.config.write(self.window.data().start, &seen);
    }

    /// Writes its bytes to what is behind it.
    pub(crate) fn reach_through_window(&mut self) {
        let Some(opening) = self.opening() else {
            return;
        };
        let mut data = [0; 4];
        self.config.read(self.window.data().start, &mut data);
        if let Some(data) = data.get(..opening.len) {
            // A fault is a write that is dropped.
            let _ = self.write(opening.region, opening.offset, data);
        }
    }
}
