//! The first 64 bytes: a type 0 header (PCI Local Bus 3.0, section 6.1, "Configuration Space
//! Organization").

use super::registers::Registers;

/// Where the registers lie; `PCI_*` in `linux/pci_regs.h`.
pub(super) mod offset {
    pub(crate) const VENDOR_ID: usize = 0x00;
    pub(crate) const DEVICE_ID: usize = 0x02;
    pub(crate) const COMMAND: usize = 0x04;
    pub(crate) const STATUS: usize = 0x06;
    pub(crate) const REVISION_ID: usize = 0x08;
    pub(crate) const CLASS_PROG: usize = 0x09;
    pub(crate) const SUBCLASS: usize = 0x0a;
    pub(crate) const BASE_CLASS: usize = 0x0b;
    pub(crate) const CACHE_LINE_SIZE: usize = 0x0c;
    pub(crate) const LATENCY_TIMER: usize = 0x0d;
    pub(crate) const BASE_ADDRESS_0: usize = 0x10;
    pub(crate) const SUBSYSTEM_VENDOR_ID: usize = 0x2c;
    pub(crate) const SUBSYSTEM_ID: usize = 0x2e;
    pub(crate) const ROM_ADDRESS: usize = 0x30;
    pub(crate) const CAPABILITY_LIST: usize = 0x34;
    pub(crate) const INTERRUPT_LINE: usize = 0x3c;
    pub(crate) const INTERRUPT_PIN: usize = 0x3d;
    /// `PCI_STD_HEADER_SIZEOF`: the first byte that a capability may take.
    pub(crate) const HEADER_END: usize = 0x40;
}

/// Who a device is (PCI Local Bus 3.0, section 6.2.1, "Device Identification").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Subsystem Vendor ID (section 6.2.4).
    pub subsystem_vendor: u16,
    /// Subsystem ID (section 6.2.4).
    pub subsystem: u16,
    /// Revision ID.
    pub revision: u8,
    /// What the device is for.
    pub class: Class,
}

/// What a device is for (PCI Local Bus 3.0, section 6.2.1 and appendix D, "Class Codes").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// Base class: 0x03 is a display controller.
    pub base: u8,
    /// Subclass: 0x00 is VGA compatible if the base is 0x03.
    pub sub: u8,
    /// Programming interface.
    pub interface: u8,
}

/// The interrupt pin of a device (PCI Local Bus 3.0, section 6.2.4, "Interrupt Pin").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Pin {
    A = 1,
    B = 2,
    C = 3,
    D = 4,
}

bitflags::bitflags! {
    /// The command register (PCI Local Bus 3.0, section 6.2.2, "Device Control").
    ///
    /// These bits are writable; the others are 0, as PCI Express demands.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Command: u16 {
        /// The device answers in I/O space.
        const IO = 1 << 0;
        /// The device answers in memory space.
        const MEMORY = 1 << 1;
        /// The device may use DMA, and send MSI.
        const BUS_MASTER = 1 << 2;
        /// Parity Error Response. Without effect here.
        const PARITY = 1 << 6;
        /// SERR# Enable. Without effect here.
        const SERR = 1 << 8;
        /// The device must not assert its interrupt pin.
        const INTX_DISABLE = 1 << 10;
    }
}

bitflags::bitflags! {
    /// The status register (PCI Local Bus 3.0, section 6.2.3, "Device Status").
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Status: u16 {
        /// The interrupt pin would be asserted, if [`Command::INTX_DISABLE`] allows.
        const INTERRUPT = 1 << 3;
        /// There are capabilities. Fixed.
        const CAPABILITIES = 1 << 4;
        /// Master Data Parity Error.
        const MASTER_DATA_PARITY = 1 << 8;
        /// The device refused an access for good.
        const SIGNALED_TARGET_ABORT = 1 << 11;
        /// An access of the device was refused for good.
        const RECEIVED_TARGET_ABORT = 1 << 12;
        /// Nobody answered an access of the device.
        const RECEIVED_MASTER_ABORT = 1 << 13;
        /// The device asserted SERR#.
        const SIGNALED_SYSTEM_ERROR = 1 << 14;
        /// Detected Parity Error.
        const DETECTED_PARITY = 1 << 15;
    }
}

impl Status {
    /// The bits that a guest clears by writing ones.
    pub const ERRORS: Self = Self::MASTER_DATA_PARITY
        .union(Self::SIGNALED_TARGET_ABORT)
        .union(Self::RECEIVED_TARGET_ABORT)
        .union(Self::RECEIVED_MASTER_ABORT)
        .union(Self::SIGNALED_SYSTEM_ERROR)
        .union(Self::DETECTED_PARITY);
}

/// The header of a device without BARs, ROM, pin and capabilities.
pub(super) fn registers(identity: Identity, len: usize) -> Registers {
    let mut header = Registers::new(len);
    header.define_u16(offset::VENDOR_ID, identity.vendor, 0);
    header.define_u16(offset::DEVICE_ID, identity.device, 0);
    header.define_u16(offset::COMMAND, 0, Command::all().bits());
    header.define_clearable(offset::STATUS, Status::ERRORS.bits());
    header.define_u8(offset::REVISION_ID, identity.revision, 0);
    header.define_u8(offset::CLASS_PROG, identity.class.interface, 0);
    header.define_u8(offset::SUBCLASS, identity.class.sub, 0);
    header.define_u8(offset::BASE_CLASS, identity.class.base, 0);
    header.define_u8(offset::CACHE_LINE_SIZE, 0, 0xff);
    header.define_u8(offset::LATENCY_TIMER, 0, 0xff);
    header.define_u16(offset::SUBSYSTEM_VENDOR_ID, identity.subsystem_vendor, 0);
    header.define_u16(offset::SUBSYSTEM_ID, identity.subsystem, 0);
    header.define_u8(offset::INTERRUPT_LINE, 0, 0xff);
    header
}

#[cfg(test)]
mod tests {
    use super::super::tests::{IDENTITY, u16_at};
    use super::super::{Capability, ConfigEvents, ConfigSpace};
    use super::{Command, Status};

    #[test]
    fn a_change_of_the_command_register_is_told() {
        let mut space = ConfigSpace::new(IDENTITY).with_capability(Capability::PowerManagement);
        for (data, events, command) in [
            (
                &[0x06, 0x04][..],
                ConfigEvents::COMMAND_CHANGED,
                Command::MEMORY | Command::BUS_MASTER | Command::INTX_DISABLE,
            ),
            (
                &[0x06],
                ConfigEvents::empty(),
                Command::MEMORY | Command::BUS_MASTER | Command::INTX_DISABLE,
            ),
            (
                &[0xb8, 0x00],
                ConfigEvents::COMMAND_CHANGED,
                Command::empty(),
            ),
        ] {
            assert_eq!(space.write(4, data), events, "{data:x?}");
            assert_eq!(space.command(), command, "{data:x?}");
        }
    }

    #[test]
    fn errors_stay_until_ones_are_written_and_the_interrupt_until_the_device_says() {
        let mut space = ConfigSpace::new(IDENTITY).with_capability(Capability::PowerManagement);
        space.report_errors(Status::RECEIVED_MASTER_ABORT | Status::INTERRUPT);
        assert_eq!(u16_at(&space, 6), 0x2010);
        space.set_interrupt_status(true);
        for (written, status) in [(0, 0x2018), (0x4000, 0x2018), (0x2008, 0x0018)] {
            let _ = space.write(6, &u16::to_le_bytes(written));
            assert_eq!(u16_at(&space, 6), status, "{written:#06x}");
        }
        space.set_interrupt_status(false);
        assert_eq!(space.status(), Status::CAPABILITIES);
    }
}
