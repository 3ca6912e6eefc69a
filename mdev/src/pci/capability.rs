//! What follows the header: the list of capabilities (PCI Local Bus 3.0, section 6.7).

use super::express::{self, ExpressKind};
use super::msi;
use super::registers::Registers;
use crate::region::RegionIndex;

/// Something that a device can do beyond what its header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Power management (PCI Bus Power Management 1.2, section 3.2): D0 and D3hot, no PME.
    ///
    /// `No_Soft_Reset` is set: the way back from D3hot keeps all state, so nothing happens to the
    /// device. To reset it is left to function-level reset.
    PowerManagement,
    /// MSI (PCI Local Bus 3.0, section 6.8.1): 64-bit addresses, no masking of single vectors.
    ///
    /// Masking is left out: it is the client that delivers, so a mask kept here would hold
    /// nothing back.
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
    /// Vendor-specific, and the guest writes to it: each byte after the length byte, and which of
    /// its bits are writable.
    VendorWritable(Vec<(u8, u8)>),
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

impl Capability {
    pub(super) fn id(&self) -> CapabilityId {
        match self {
            Self::PowerManagement => CapabilityId::PowerManagement,
            Self::Msi { .. } => CapabilityId::Msi,
            Self::Msix { .. } => CapabilityId::Msix,
            Self::Express { .. } => CapabilityId::Express,
            Self::Vendor(_) | Self::VendorWritable(_) => CapabilityId::Vendor,
        }
    }

    /// Its registers, the pointer to the next being 0. Panics if it is not well formed.
    ///
    /// `size_of` tells the size of a BAR.
    pub(super) fn registers(self, size_of: impl Fn(RegionIndex) -> u64) -> Registers {
        let id = self.id();
        let mut registers = match self {
            Self::PowerManagement => power_management(),
            Self::Msi { vectors } => msi::msi(vectors),
            Self::Msix {
                vectors,
                table,
                pba,
            } => msi::msix(vectors, table, pba, size_of),
            Self::Express { kind } => express::registers(kind),
            Self::Vendor(content) => vendor(content.into_iter().map(|byte| (byte, 0))),
            Self::VendorWritable(content) => vendor(content.into_iter()),
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

fn vendor(content: impl ExactSizeIterator<Item = (u8, u8)>) -> Registers {
    const LENGTH: usize = 2;
    const CONTENT: usize = 3;
    let len = CONTENT + content.len();
    let mut registers = Registers::new(len);
    registers.define_u8(
        LENGTH,
        u8::try_from(len).expect("a vendor capability has at most 252 bytes"),
        0,
    );
    for (at, (byte, writable)) in content.enumerate() {
        registers.define_u8(CONTENT + at, byte, writable);
    }
    registers
}

#[cfg(test)]
mod tests {
    use super::super::ConfigSpace;
    use super::super::tests::{IDENTITY, image, u16_at, u32_at};
    use super::Capability;

    fn with(capability: Capability) -> ConfigSpace {
        ConfigSpace::new(IDENTITY).with_capability(capability)
    }

    #[test]
    fn a_guest_moves_the_device_between_d0_and_d3hot_only() {
        let mut space = with(Capability::PowerManagement);
        assert_eq!(u32_at(&space, 0x40), 0x0003_0001);
        for (written, read) in [
            (3, 0x0b),
            (1, 0x0b),
            (0x8100, 0x08),
            (2, 0x08),
            (0xff, 0x0b),
        ] {
            let _ = space.write(0x44, &u16::to_le_bytes(written));
            assert_eq!(u16_at(&space, 0x44), read, "{written:#x}");
        }
    }

    #[test]
    fn a_vendor_capability_counts_its_header() {
        let mut space = with(Capability::Vendor(b"vgpu".to_vec()))
            .with_capability(Capability::Vendor(Vec::new()));
        let expected = [9, 0x48, 7, b'v', b'g', b'p', b'u', 0, 9, 0, 3, 0];
        assert_eq!(image(&space)[0x40..0x4c], expected);
        let _ = space.write(0x40, &[0xff; 12]);
        assert_eq!(image(&space)[0x40..0x4c], expected);
    }

    #[test]
    fn a_guest_writes_those_bits_of_a_vendor_capability_that_it_may() {
        let content = vec![(5, 0), (0x12, 0xf0), (0, 0xff)];
        let mut space =
            with(Capability::VendorWritable(content)).with_capability(Capability::Vendor(vec![7]));
        assert_eq!(space.vendor_capabilities(), [0x40..0x46, 0x48..0x4c]);
        let _ = space.write(0x40, &[0xaa; 12]);
        let expected = [9, 0x48, 6, 5, 0xa2, 0xaa, 0, 0, 9, 0, 4, 7];
        assert_eq!(image(&space)[0x40..0x4c], expected);
        space.reset();
        assert_eq!(image(&space)[0x43..0x46], [5, 0x12, 0]);
    }
}
