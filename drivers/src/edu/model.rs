//! What the types differ in.

use mdev::pci::{Bar, Capability, Class, ConfigSpace, ExpressKind, Identity, Pin};
use mdev::region::{Access, Doorbell, RegionIndex, Regions};
use mdev::region_memory::RegionMemory;
use std::ops::Range;
use std::sync::Arc;

use super::registers::{BAR_SIZE, Register};

/// What QEMU's device says it is ("PCI specs"; revision and class are in its code,
/// `hw/misc/edu.c`).
const IDENTITY: Identity = Identity {
    vendor: 0x1234,
    device: 0x11e8,
    subsystem_vendor: 0x1af4,
    subsystem: 0x1100,
    revision: 0x10,
    class: Class {
        base: 0x00, // none of the classes,
        sub: 0xff,  // `PCI_CLASS_OTHERS`
        interface: 0,
    },
};

/// The region of the memory that only `edu-2` has.
pub(super) const MEMORY: RegionIndex = RegionIndex::Bar2;
/// Bytes of it.
pub(super) const MEMORY_LEN: u32 = 0x4000;
/// The parts of it that a client maps; what lies between is reached by messages.
const MAPPED: [Range<u64>; 2] = [0..0x1000, 0x2000..0x4000];

/// The types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Model {
    /// QEMU's device.
    Plain,
    /// With memory, and more vectors than one: what else a vfio-user device can have.
    Full,
    /// QEMU's device, on a physical one that it shares with others.
    Shared,
}

impl Model {
    /// Those that need no physical device.
    pub(super) const ALL: [Self; 2] = [Self::Plain, Self::Full];

    /// The name of the type.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "edu-1",
            Self::Full => "edu-2",
            Self::Shared => "edu-shared",
        }
    }

    /// What one gets, in a sentence.
    pub(crate) fn description(self) -> &'static str {
        match self {
            Self::Plain => "QEMU's educational device: factorials, DMA, INTx and MSI",
            Self::Full => {
                "The educational device with memory of its own, 16 KiB in BAR2, four vectors of MSI, \
                 and a function-level reset"
            }
            Self::Shared => {
                "QEMU's educational device: its transfers are those of a physical one, which others \
                 share"
            }
        }
    }

    pub(crate) fn config(self) -> ConfigSpace {
        let bar = |size| Bar::Memory32 {
            size,
            prefetchable: false,
        };
        let config = ConfigSpace::new(IDENTITY)
            .with_bar(RegionIndex::Bar0, bar(BAR_SIZE))
            .with_interrupt_pin(Pin::A);
        match self {
            Self::Plain | Self::Shared => config.with_capability(Capability::Msi { vectors: 1 }),
            Self::Full => config
                .with_bar(MEMORY, bar(MEMORY_LEN))
                .with_capability(Capability::Msi { vectors: 4 })
                .with_capability(Capability::Express {
                    kind: ExpressKind::Endpoint,
                }),
        }
    }

    /// The regions, with the memory if the type has any.
    pub(crate) fn regions(config: &ConfigSpace, memory: Option<&RegionMemory>) -> Regions {
        let mut regions = Regions::of(config);
        regions.add_doorbell(
            RegionIndex::Bar0,
            Doorbell {
                offset: Register::DmaDoorbell as u64,
                size: 4,
                datamatch: None,
            },
        );
        if let Some(memory) = memory {
            let access = Access::Sparse {
                fd: Arc::clone(memory.file()),
                areas: MAPPED.to_vec(),
            };
            regions.set_access(MEMORY, access);
        }
        regions
    }
}
