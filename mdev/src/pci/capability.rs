//! What follows the header: the list of capabilities (PCI Local Bus 3.0, section 6.7).

use super::express::{self, ExpressKind};
use super::registers::Registers;
use crate::region::RegionIndex;

/// Something that a device can do beyond what its header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Power management (PCI Bus Power Management 1.2, section 3.2): D0 and D3hot, no PME.
    ///
    /// `No_Soft_Reset` is set: the way back from D3hot keeps all state, so nothing happens to the
    /// device. A guest that wants it reset has function-level reset.
    PowerManagement,
    /// MSI (PCI Local Bus 3.0, section 6.8.1): 64-bit addresses, no masking of single vectors.
    ///
    /// Masking is left out since the client delivers: it has the vectors, and we would have to
    /// hold back what it masks.
    Msi {
        /// How many: 1, 2, 4, 8, 16 or 32.
        vectors: u8,
    },
    /// MSI-X (PCI Local Bus 3.0, section 6.8.2).
    Msix {
        /// How many: 1 to 2048.
        vectors: u16,
        /// A BAR, and the offset in it, of the table: 16 bytes for each vector.
        table: (RegionIndex, u32),
        /// A BAR, and the offset in it, of the pending bits: 8 bytes for each 64 vectors.
        pba: (RegionIndex, u32),
    },
    /// PCI Express (PCI Express Base 3.0, section 7.8), with function-level reset. Makes the
    /// space 4096 bytes long.
    Express {
        /// Where the device sits.
        kind: ExpressKind,
    },
    /// Vendor-specific (PCI Local Bus 3.0, appendix H): read-only bytes after the length byte.
    Vendor(Vec<u8>),
}

/// Capability IDs (PCI Local Bus 3.0, appendix H); `PCI_CAP_ID_*` in `linux/pci_regs.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum CapabilityId {
    PowerManagement = 0x01,
    Msi = 0x05,
    Vendor = 0x09,
    Express = 0x10,
    Msix = 0x11,
}

/// Where each capability points to the next.
pub(super) const NEXT: usize = 1;

/// Power Management Capabilities: version 3 of the interface, D0 and D3hot.
const PMC: usize = 2;
const PMC_VERSION: u16 = 3;
/// Power Management Control/Status.
pub(super) const PMCSR: usize = 4;
/// The power state: 0 is D0, 3 is D3hot.
pub(super) const PMCSR_STATE: u16 = 0b11;
const PMCSR_NO_SOFT_RESET: u16 = 1 << 3;

/// Message Control, of MSI as of MSI-X.
pub(super) const MESSAGE_CONTROL: usize = 2;

pub(super) const MSI_ENABLE: u16 = 1 << 0;
/// Multiple Message Capable, the binary logarithm of the vectors; Multiple Message Enable.
const MSI_CAPABLE_SHIFT: u32 = 1;
const MSI_ENABLED_SHIFT: u32 = 4;
const MSI_LOG_MASK: u16 = 0b111;
const MSI_64_BIT: u16 = 1 << 7;
const MSI_ADDRESS: usize = 4;
const MSI_DATA: usize = 12;
const MSI_MAX_VECTORS: u8 = 32;

const MSIX_FUNCTION_MASK: u16 = 1 << 14;
pub(super) const MSIX_ENABLE: u16 = 1 << 15;
const MSIX_TABLE: usize = 4;
const MSIX_PBA: usize = 8;
const MSIX_MAX_VECTORS: u16 = 2048;

impl Capability {
    pub(super) fn id(&self) -> CapabilityId {
        match self {
            Self::PowerManagement => CapabilityId::PowerManagement,
            Self::Msi { .. } => CapabilityId::Msi,
            Self::Msix { .. } => CapabilityId::Msix,
            Self::Express { .. } => CapabilityId::Express,
            Self::Vendor(_) => CapabilityId::Vendor,
        }
    }

    /// Its registers, the pointer to the next being 0. Panics if it is not well formed.
    ///
    /// `size_of` tells the size of a BAR.
    pub(super) fn registers(self, size_of: impl Fn(RegionIndex) -> u64) -> Registers {
        let id = self.id();
        let mut registers = match self {
            Self::PowerManagement => power_management(),
            Self::Msi { vectors } => msi(vectors),
            Self::Msix {
                vectors,
                table,
                pba,
            } => msix(vectors, table, pba, size_of),
            Self::Express { kind } => express::registers(kind),
            Self::Vendor(content) => vendor(content),
        };
        registers.define_u8(0, id as u8, 0);
        registers
    }
}

fn power_management() -> Registers {
    let mut registers = Registers::new(8);
    registers.define_u16(PMC, PMC_VERSION, 0);
    registers.define_u16(PMCSR, PMCSR_NO_SOFT_RESET, PMCSR_STATE);
    registers
}

fn msi(vectors: u8) -> Registers {
    assert!(
        vectors.is_power_of_two() && vectors <= MSI_MAX_VECTORS,
        "MSI cannot have {vectors} vectors"
    );
    let capable = (vectors.ilog2() as u16) << MSI_CAPABLE_SHIFT;
    let mut registers = Registers::new(14);
    registers.define_u16(
        MESSAGE_CONTROL,
        MSI_64_BIT | capable,
        MSI_ENABLE | MSI_LOG_MASK << MSI_ENABLED_SHIFT,
    );
    registers.define_u64(MSI_ADDRESS, 0, !0b11);
    registers.define_u16(MSI_DATA, 0, u16::MAX);
    registers
}

/// The message control of MSI with no more vectors enabled than the device is capable of.
pub(super) fn bound_msi_vectors(control: u16) -> u16 {
    let capable = (control >> MSI_CAPABLE_SHIFT) & MSI_LOG_MASK;
    let enabled = (control >> MSI_ENABLED_SHIFT) & MSI_LOG_MASK;
    control & !(MSI_LOG_MASK << MSI_ENABLED_SHIFT) | enabled.min(capable) << MSI_ENABLED_SHIFT
}

fn msix(
    vectors: u16,
    table: (RegionIndex, u32),
    pba: (RegionIndex, u32),
    size_of: impl Fn(RegionIndex) -> u64,
) -> Registers {
    assert!(
        (1..=MSIX_MAX_VECTORS).contains(&vectors),
        "MSI-X cannot have {vectors} vectors"
    );
    let place = |(bar, offset): (RegionIndex, u32), len: u64| {
        assert!(
            bar < RegionIndex::Rom
                && offset.is_multiple_of(8)
                && u64::from(offset) + len <= size_of(bar),
            "MSI-X cannot have {len} bytes at {offset:#x} of {bar:?}"
        );
        offset | bar as u32
    };
    let mut registers = Registers::new(12);
    registers.define_u16(
        MESSAGE_CONTROL,
        vectors - 1,
        MSIX_FUNCTION_MASK | MSIX_ENABLE,
    );
    registers.define_u32(MSIX_TABLE, place(table, 16 * u64::from(vectors)), 0);
    let pending = 8 * u64::from(vectors.div_ceil(64));
    registers.define_u32(MSIX_PBA, place(pba, pending), 0);
    registers
}

fn vendor(content: Vec<u8>) -> Registers {
    const LENGTH: usize = 2;
    const CONTENT: usize = 3;
    let len = CONTENT + content.len();
    let mut registers = Registers::new(len);
    registers.define_u8(
        LENGTH,
        u8::try_from(len).expect("a vendor capability has at most 252 bytes"),
        0,
    );
    for (at, byte) in content.into_iter().enumerate() {
        registers.define_u8(CONTENT + at, byte, 0);
    }
    registers
}
