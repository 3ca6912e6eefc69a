//! Message signalled interrupts: MSI (PCI Local Bus 3.0, section 6.8.1) and MSI-X (section 6.8.2).

use super::registers::Registers;
use crate::region::RegionIndex;

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

/// Bits 10 to 0: the vectors, less one.
const MSIX_LAST_VECTOR: u16 = 0x7ff;
const MSIX_FUNCTION_MASK: u16 = 1 << 14;
pub(super) const MSIX_ENABLE: u16 = 1 << 15;
const MSIX_TABLE: usize = 4;
const MSIX_PBA: usize = 8;
const MSIX_MAX_VECTORS: u16 = 2048;

/// The registers of the MSI capability, all but its ID.
pub(super) fn msi(vectors: u8) -> Registers {
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

/// How many vectors this message control of MSI announces.
pub(super) fn msi_vectors(control: u16) -> u32 {
    1 << ((control >> MSI_CAPABLE_SHIFT) & MSI_LOG_MASK)
}

/// How many vectors this message control of MSI-X announces.
pub(super) fn msix_vectors(control: u16) -> u32 {
    u32::from(control & MSIX_LAST_VECTOR) + 1
}

/// The message control of MSI with no more vectors enabled than the device is capable of.
pub(super) fn bound_vectors(control: u16) -> u16 {
    let capable = (control >> MSI_CAPABLE_SHIFT) & MSI_LOG_MASK;
    let enabled = (control >> MSI_ENABLED_SHIFT) & MSI_LOG_MASK;
    control & !(MSI_LOG_MASK << MSI_ENABLED_SHIFT) | enabled.min(capable) << MSI_ENABLED_SHIFT
}

/// The registers of the MSI-X capability, all but its ID. `size_of` tells the size of a BAR.
pub(super) fn msix(
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

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::super::tests::{IDENTITY, u16_at, u32_at};
    use super::super::{Bar, Capability, ConfigEvents, ConfigSpace};
    use crate::region::RegionIndex;

    fn with(capability: Capability) -> ConfigSpace {
        let size = 0x1000;
        let prefetchable = false;
        ConfigSpace::new(IDENTITY)
            .with_bar(RegionIndex::Bar1, Bar::Memory32 { size, prefetchable })
            .with_capability(capability)
    }

    #[test]
    fn a_guest_enables_no_more_vectors_than_there_are() {
        for (vectors, written, read) in [
            (1, 0x0001, 0x0081),
            (1, 0x0071, 0x0081),
            (4, 0x0011, 0x0095),
            (4, 0x0031, 0x00a5),
            (32, 0x0071, 0x00db),
            (32, 0xff8e, 0x008a),
        ] {
            let mut space = with(Capability::Msi { vectors });
            let _ = space.write(0x42, &u16::to_le_bytes(written));
            assert_eq!(u16_at(&space, 0x42), read, "{vectors}: {written:#x}");
            assert_eq!(space.msi_enabled(), written & 1 != 0);
            assert_eq!(space.irqs().msi, u32::from(vectors));
        }
    }

    #[test]
    fn a_guest_places_the_msi_message_anywhere() {
        let mut space = with(Capability::Msi { vectors: 1 });
        let events = space.write(0x44, &[0xff; 12]);
        assert_eq!(events, ConfigEvents::empty());
        assert_eq!(u32_at(&space, 0x44), 0xffff_fffc);
        assert_eq!(u32_at(&space, 0x48), 0xffff_ffff);
        assert_eq!(u32_at(&space, 0x4c), 0x0000_ffff);
    }

    #[test]
    fn a_guest_enables_and_masks_msix_and_changes_nothing_else() {
        let mut space = with(Capability::Msix {
            vectors: 64,
            table: (RegionIndex::Bar1, 0x800),
            pba: (RegionIndex::Bar1, 0xff8),
        });
        assert_eq!(space.irqs().msix, 64);
        for (written, read, enabled) in [
            (0xffff_u16, 0xc03f, true),
            (0x8000, 0x803f, true),
            (0x4000, 0x403f, false),
        ] {
            let events = space.write(0x42, &written.to_le_bytes());
            assert_eq!(events, ConfigEvents::MSI_CHANGED, "{written:#x}");
            assert_eq!(u16_at(&space, 0x42), read, "{written:#x}");
            assert_eq!(space.msix_enabled(), enabled, "{written:#x}");
        }
        let _ = space.write(0x44, &[0xff; 8]);
        assert_eq!(u32_at(&space, 0x44), 0x0801);
        assert_eq!(u32_at(&space, 0x48), 0x0ff9);
    }

    #[test]
    fn vectors_that_cannot_be_announced_are_refused() {
        let msix = |vectors, table, pba| Capability::Msix {
            vectors,
            table,
            pba,
        };
        let bar = RegionIndex::Bar1;
        for capability in [
            Capability::Msi { vectors: 0 },
            Capability::Msi { vectors: 3 },
            Capability::Msi { vectors: 64 },
            msix(0, (bar, 0), (bar, 0x800)),
            msix(2049, (bar, 0), (bar, 0x800)),
            msix(2, (bar, 4), (bar, 0x800)),
            msix(2, (bar, 0xff0), (bar, 0x800)),
            msix(65, (bar, 0), (bar, 0xff8)),
            msix(2, (RegionIndex::Bar2, 0), (bar, 0)),
            msix(2, (RegionIndex::Config, 0), (bar, 0)),
        ] {
            let refused = capability.clone();
            assert!(catch_unwind(|| with(refused)).is_err(), "{capability:?}");
        }
    }
}
