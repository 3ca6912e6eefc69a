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
