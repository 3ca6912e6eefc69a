//! The PCI Express capability (PCI Express Base 3.0, section 7.8), version 2.

use super::registers::Registers;

/// Where a PCI Express device sits (section 7.8.2, "Device/Port Type").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExpressKind {
    /// Behind a root port or a switch. Its link has one lane of 2.5 GT/s.
    Endpoint = 0b0000,
    /// On the root complex itself. It has no link.
    RootComplexIntegrated = 0b1001,
}

/// `PCI_CAP_EXP_ENDPOINT_SIZEOF_V2` in `linux/pci_regs.h`.
const LEN: usize = 0x3c;

/// PCI Express Capabilities: the version, then the kind of device.
const CAPABILITIES: usize = 0x02;
const VERSION: u16 = 2;
const KIND_SHIFT: u32 = 4;

/// Device Capabilities (section 7.8.3): payloads of 128 bytes.
const DEVICE_CAPABILITIES: usize = 0x04;
/// Required of every device since 1.1.
const ROLE_BASED_ERRORS: u32 = 1 << 15;
const FUNCTION_LEVEL_RESET: u32 = 1 << 28;

/// Device Control (section 7.8.4).
pub(super) const DEVICE_CONTROL: usize = 0x08;
const ERROR_REPORTING: u16 = 0b1111;
const RELAXED_ORDERING: u16 = 1 << 4;
const NO_SNOOP: u16 = 1 << 11;
/// Bits 14 to 12: the binary logarithm of the most bytes a read asks for, less 7.
const MAX_READ_REQUEST: u16 = 0b111 << 12;
const MAX_READ_REQUEST_512: u16 = 2 << 12;
/// Initiate Function Level Reset. Always reads 0.
pub(super) const INITIATE_RESET: u16 = 1 << 15;

/// Device Status (section 7.8.5): four errors that a guest clears by writing ones.
const DEVICE_STATUS: usize = 0x0a;
const DEVICE_ERRORS: u16 = 0b1111;

/// Link Capabilities (section 7.8.6): one lane of 2.5 GT/s, no power saving.
const LINK_CAPABILITIES: usize = 0x0c;
const LINK_X1_2_5_GT: u16 = 1 << 4 | 1;
/// Required of every device since 3.0.
const ASPM_OPTIONALITY: u32 = 1 << 22;

/// Link Control (section 7.8.7): ASPM, read completion boundary, common clock, extended synch.
const LINK_CONTROL: usize = 0x10;
const LINK_CONTROL_WRITABLE: u16 = 0b1100_1011;

/// Link Status (section 7.8.8).
const LINK_STATUS: usize = 0x12;

/// Device Capabilities 2 (section 7.8.15) and Device Control 2 (section 7.8.16). Every device
/// that reads memory must let its completion timeout be switched off.
const DEVICE_CAPABILITIES_2: usize = 0x24;
const DEVICE_CONTROL_2: usize = 0x28;
const COMPLETION_TIMEOUT_DISABLE: u16 = 1 << 4;

/// Link Capabilities 2 (section 7.8.18): the vector of speeds.
const LINK_CAPABILITIES_2: usize = 0x2c;
const SPEED_2_5_GT: u32 = 1 << 1;

/// The registers of the capability, all but its ID.
pub(super) fn registers(kind: ExpressKind) -> Registers {
    let mut registers = Registers::new(LEN);
    registers.define_u16(CAPABILITIES, VERSION | (kind as u16) << KIND_SHIFT, 0);
    registers.define_u32(
        DEVICE_CAPABILITIES,
        ROLE_BASED_ERRORS | FUNCTION_LEVEL_RESET,
        0,
    );
    registers.define_u16(
        DEVICE_CONTROL,
        RELAXED_ORDERING | NO_SNOOP | MAX_READ_REQUEST_512,
        ERROR_REPORTING | RELAXED_ORDERING | NO_SNOOP | MAX_READ_REQUEST | INITIATE_RESET,
    );
    registers.define_clearable(DEVICE_STATUS, DEVICE_ERRORS);
    let timeout = COMPLETION_TIMEOUT_DISABLE;
    registers.define_u32(DEVICE_CAPABILITIES_2, timeout.into(), 0);
    registers.define_u16(DEVICE_CONTROL_2, 0, timeout);
    match kind {
        ExpressKind::Endpoint => link(&mut registers),
        ExpressKind::RootComplexIntegrated => {}
    }
    registers
}

fn link(registers: &mut Registers) {
    registers.define_u32(
        LINK_CAPABILITIES,
        ASPM_OPTIONALITY | u32::from(LINK_X1_2_5_GT),
        0,
    );
    registers.define_u16(LINK_CONTROL, 0, LINK_CONTROL_WRITABLE);
    registers.define_u16(LINK_STATUS, LINK_X1_2_5_GT, 0);
    registers.define_u32(LINK_CAPABILITIES_2, SPEED_2_5_GT, 0);
}

#[cfg(test)]
mod tests {
    use super::super::tests::{IDENTITY, u16_at, u32_at};
    use super::super::{Capability, ConfigEvents, ConfigSpace};
    use super::ExpressKind;

    fn with(kind: ExpressKind) -> ConfigSpace {
        ConfigSpace::new(IDENTITY).with_capability(Capability::Express { kind })
    }

    #[test]
    fn a_device_on_the_root_complex_has_no_link() {
        for (kind, capabilities, link, status, speeds) in [
            (ExpressKind::Endpoint, 0x0002_0010, 0x0040_0011, 0x11, 2),
            (ExpressKind::RootComplexIntegrated, 0x0092_0010, 0, 0, 0),
        ] {
            let mut space = with(kind);
            assert_eq!(u32_at(&space, 0x40), capabilities, "{kind:?}");
            assert_eq!(u32_at(&space, 0x4c), link, "{kind:?}");
            assert_eq!(u16_at(&space, 0x52), status, "{kind:?}");
            assert_eq!(u32_at(&space, 0x6c), speeds, "{kind:?}");
            let _ = space.write(0x50, &[0xff; 2]);
            assert_eq!(u16_at(&space, 0x50) != 0, link != 0, "{kind:?}");
        }
    }

    #[test]
    fn a_function_level_reset_is_an_event_and_reads_zero() {
        let mut space = with(ExpressKind::Endpoint);
        assert_eq!(u32_at(&space, 0x44) & 1 << 28, 1 << 28);
        for (offset, data, events, control) in [
            (0x48, &[0x10, 0x28][..], ConfigEvents::empty(), 0x2810),
            (0x48, &[0x0f, 0xd0], ConfigEvents::FUNCTION_RESET, 0x500f),
            (0x49, &[0x80], ConfigEvents::FUNCTION_RESET, 0x000f),
            (0x46, &[0, 0, 0, 0x80], ConfigEvents::FUNCTION_RESET, 0),
            (0x48, &[0x80, 0x07], ConfigEvents::empty(), 0),
        ] {
            assert_eq!(space.write(offset, data), events, "{offset:#x} {data:x?}");
            assert_eq!(u16_at(&space, 0x48), control, "{offset:#x} {data:x?}");
        }
    }
}
