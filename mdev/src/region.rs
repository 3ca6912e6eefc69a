//! Regions: which a device has, how large each is, and how a client reaches it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::pci::ConfigSpace;

/// Regions of a PCI device; `VFIO_PCI_*_REGION_INDEX` in `linux/vfio.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
#[expect(missing_docs, reason = "the names say it")]
pub enum RegionIndex {
    Bar0 = 0,
    Bar1 = 1,
    Bar2 = 2,
    Bar3 = 3,
    Bar4 = 4,
    Bar5 = 5,
    Rom = 6,
    Config = 7,
    Vga = 8,
}

impl RegionIndex {
    /// `VFIO_PCI_NUM_REGIONS`.
    pub const COUNT: u32 = 9;

    /// All regions, in index order.
    pub const ALL: [Self; Self::COUNT as usize] = [
        Self::Bar0,
        Self::Bar1,
        Self::Bar2,
        Self::Bar3,
        Self::Bar4,
        Self::Bar5,
        Self::Rom,
        Self::Config,
        Self::Vga,
    ];

    /// The region with this index, or `None` past the last.
    pub fn from_u32(index: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(index).ok()?).copied()
    }
}

/// How a client reaches a region.
#[derive(Clone, Debug, Default)]
pub enum Access {
    /// Every access is a message.
    #[default]
    Trapped,
    /// The client maps all of `fd`, from its first byte.
    Mapped {
        /// A memory file at least as long as the region.
        fd: Arc<OwnedFd>,
    },
    /// The client maps `areas` of `fd`; the rest is messages.
    Sparse {
        /// A memory file whose offsets are the region's.
        fd: Arc<OwnedFd>,
        /// Page-aligned parts of the region, in order, not overlapping.
        areas: Vec<std::ops::Range<u64>>,
    },
}

/// One region. A size of 0 means that the device does not have it.
#[derive(Clone, Debug, Default)]
pub struct Region {
    /// Bytes.
    pub size: u64,
    /// How a client reaches it.
    pub access: Access,
}

/// The regions of one device, in index order.
#[derive(Clone, Debug, Default)]
pub struct Regions {
    regions: [Region; RegionIndex::COUNT as usize],
}

impl Regions {
    /// The regions that `config` announces: its BARs, its ROM and itself, all trapped.
    pub fn of(config: &ConfigSpace) -> Self {
        let mut all = Self::default();
        for index in RegionIndex::ALL {
            all.regions[index as usize].size = config.region_size(index);
        }
        all
    }

    /// Changes how a client reaches a region.
    pub fn set_access(&mut self, index: RegionIndex, access: Access) {
        self.regions[index as usize].access = access;
    }

    /// The region with this index.
    pub fn region(&self, index: RegionIndex) -> &Region {
        &self.regions[index as usize]
    }

    /// Whether any region can be mapped. QEMU posts writes only to devices where none can.
    pub fn any_mapped(&self) -> bool {
        self.regions
            .iter()
            .any(|region| !matches!(region.access, Access::Trapped))
    }
}
