//! Regions: which a device has, how large each is, and how a client reaches it.

use std::ops::Range;
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
        areas: Vec<Range<u64>>,
    },
    /// The client maps as many bytes of `fd` as the region has, from `offset` on. Nothing but its own
    /// good will keeps it from the rest of that file.
    Window {
        /// A file that holds more than the region, such as a physical device's.
        fd: Arc<OwnedFd>,
        /// Where in it the region begins; a multiple of a page.
        offset: u64,
    },
}

impl Access {
    /// The file that a client maps, or parts of it.
    pub fn file(&self) -> Option<&Arc<OwnedFd>> {
        match self {
            Self::Trapped => None,
            Self::Mapped { fd } | Self::Window { fd, .. } => Some(fd),
            // Without a list of areas a client would map all of it.
            Self::Sparse { fd, areas } => (!areas.is_empty()).then_some(fd),
        }
    }

    /// Where in that file the region begins.
    pub fn file_offset(&self) -> u64 {
        match self {
            Self::Window { offset, .. } => *offset,
            _ => 0,
        }
    }
}

/// What a client can map.
const PAGE_SIZE: u64 = 4096;

/// A register of a memory BAR whose writes a client may tell of by an eventfd (KVM's ioeventfd).
///
/// To the device it is a write like any other; only, several may come as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doorbell {
    /// Where in the region.
    pub offset: u64,
    /// Bytes of a write: 1, 2, 4 or 8.
    pub size: u8,
    /// The only value whose writes count; else the value is not told, and the device is given 0.
    pub datamatch: Option<u64>,
}

/// One region. A size of 0 means that the device does not have it.
#[derive(Clone, Debug, Default)]
pub struct Region {
    /// Bytes.
    pub size: u64,
    /// How a client reaches it.
    pub access: Access,
    /// The registers that can be written by an eventfd.
    pub doorbells: Vec<Doorbell>,
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
    ///
    /// # Panics
    ///
    /// If the region cannot be reached that way: pages are what is mapped, so a mapped region, or
    /// area of it, is made of whole ones; areas lie in the region, in order; and configuration
    /// space is always trapped.
    pub fn set_access(&mut self, index: RegionIndex, access: Access) {
        let size = self.region(index).size;
        let is_possible = match &access {
            Access::Trapped => true,
            _ if index == RegionIndex::Config => false,
            Access::Mapped { .. } => size > 0 && size.is_multiple_of(PAGE_SIZE),
            Access::Sparse { areas, .. } => are_areas_of(areas, size),
            Access::Window { offset, .. } => size > 0 && (size | *offset).is_multiple_of(PAGE_SIZE),
        };
        assert!(is_possible, "{index:?} cannot be reached by {access:?}");
        self.regions[index as usize].access = access;
    }

    /// Says that a register can be written by an eventfd.
    ///
    /// # Panics
    ///
    /// If it does not lie in the region, or if there are more than [`Self::MAX_DOORBELLS`].
    pub fn add_doorbell(&mut self, index: RegionIndex, doorbell: Doorbell) {
        let region = &mut self.regions[index as usize];
        let end = doorbell.offset.checked_add(doorbell.size.into());
        let is_possible = matches!(doorbell.size, 1 | 2 | 4 | 8)
            && end.is_some_and(|end| end <= region.size)
            && region.doorbells.len() < Self::MAX_DOORBELLS;
        assert!(is_possible, "{index:?} cannot have {doorbell:?}");
        region.doorbells.push(doorbell);
    }

    /// Most doorbells of one region. Clients take 16 descriptors with a message at least, if they
    /// say so.
    pub const MAX_DOORBELLS: usize = 16;

    /// The region with this index.
    pub fn region(&self, index: RegionIndex) -> &Region {
        &self.regions[index as usize]
    }

    /// Whether any region can be mapped. QEMU posts writes only to devices where none can.
    pub fn any_mapped(&self) -> bool {
        self.regions
            .iter()
            .any(|region| region.access.file().is_some())
    }
}

/// Whether these are parts of a region of this size that a client can map.
fn are_areas_of(areas: &[Range<u64>], size: u64) -> bool {
    let are_pages = areas.iter().all(|area| {
        !area.is_empty() && (area.start | area.end).is_multiple_of(PAGE_SIZE) && area.end <= size
    });
    let are_in_order = areas.is_sorted_by(|a, b| a.end <= b.start);
    are_pages && are_in_order
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use rustix::fs::{MemfdFlags, memfd_create};

    use super::*;

    fn regions(size: u64) -> Regions {
        let mut regions = Regions::default();
        for index in [RegionIndex::Bar0, RegionIndex::Config] {
            regions.regions[index as usize].size = size;
        }
        regions
    }

    fn can(index: RegionIndex, size: u64, access: Access) -> bool {
        catch_unwind(AssertUnwindSafe(|| regions(size).set_access(index, access))).is_ok()
    }

    #[test]
    #[expect(clippy::single_range_in_vec_init, reason = "one area is what is meant")]
    fn what_is_mapped_are_whole_pages_of_the_region() {
        let fd = Arc::new(memfd_create("region", MemfdFlags::CLOEXEC).unwrap());
        let bar = RegionIndex::Bar0;
        for (size, possible) in [(0, false), (16, false), (0x1000, true), (0x1800, false)] {
            let fd = Arc::clone(&fd);
            assert_eq!(can(bar, size, Access::Mapped { fd }), possible, "{size:#x}");
            assert!(can(bar, size, Access::Trapped), "{size:#x}");
        }
        for (areas, possible) in [
            (vec![], true),
            (vec![0..0x1000], true),
            (vec![0..0x1000, 0x1000..0x4000], true),
            (vec![0x2000..0x3000, 0..0x1000], false),
            (vec![0..0x2000, 0x1000..0x3000], false),
            (vec![0x1000..0x1000], false),
            (vec![0x800..0x1000], false),
            (vec![0..0x1800], false),
            (vec![0x3000..0x5000], false),
        ] {
            let fd = Arc::clone(&fd);
            let words = format!("{areas:x?}");
            let access = Access::Sparse { fd, areas };
            assert_eq!(can(bar, 0x4000, access), possible, "{words}");
        }
        for (size, offset, possible) in [
            (0x1000, 0x7000, true),
            (0x1000, 0, true),
            (0x1000, 0x7800, false),
            (0x1800, 0x7000, false),
            (0, 0x7000, false),
        ] {
            let fd = Arc::clone(&fd);
            let window = Access::Window { fd, offset };
            assert_eq!(window.file_offset(), offset);
            assert_eq!(can(bar, size, window), possible, "{size:#x} {offset:#x}");
        }
        assert!(!can(RegionIndex::Config, 0x1000, Access::Mapped { fd }));
    }
}
