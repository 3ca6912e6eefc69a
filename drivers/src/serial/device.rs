//! The PCI function: finds the port and the register of an access, and drives INTA.

use mdev::device::{Fault, Reset};
use mdev::irq::Interrupts;
use mdev::pci::{Bar, Class, ConfigSpace, Identity, Pin};
use mdev::region::{RegionIndex, Regions};
use mdev::{MediatedDevice, Migration, Services};

use super::registers::Register;
use super::uart::Uart;

/// What `mtty` says it is: a CH352 of WCH. Linux knows its chips to be 16550A and asks no further.
const IDENTITY: Identity = Identity {
    vendor: 0x4348,
    device: 0x3253,
    subsystem_vendor: 0x4348,
    subsystem: 0x3253,
    revision: 0x10,
    class: SERIAL_16550,
};

/// A communication controller; a serial one; compatible with the 16550 (PCI Local Bus 3.0,
/// appendix D).
const SERIAL_16550: Class = Class {
    base: 0x07,
    sub: 0x00,
    interface: 0x02,
};

/// The BAR of each port. Linux takes successive I/O BARs of eight bytes for one port each.
const PORT_BARS: [RegionIndex; 2] = [RegionIndex::Bar0, RegionIndex::Bar1];

/// The registers of one port.
const PORT_BAR: Bar = Bar::Io {
    size: Register::ALL.len() as u32,
};

/// The cards that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Card {
    OnePort = 1,
    TwoPorts = 2,
}

/// A card with serial ports.
#[derive(Debug)]
pub(super) struct SerialDevice {
    pub(super) card: Card,
    config: ConfigSpace,
    regions: Regions,
    /// In the order of [`PORT_BARS`].
    pub(super) ports: Vec<Uart>,
    interrupts: Interrupts,
    /// For migration.
    pub(super) is_stopped: bool,
}

impl SerialDevice {
    /// A card as it is just after power-on.
    pub(super) fn new(card: Card, services: Services) -> Self {
        let ports = vec![Uart::new(); card as usize];
        let mut config = ConfigSpace::new(IDENTITY).with_interrupt_pin(Pin::A);
        for (&bar, _) in PORT_BARS.iter().zip(&ports) {
            config = config.with_bar(bar, PORT_BAR);
        }
        Self {
            card,
            regions: Regions::of(&config),
            config,
            ports,
            interrupts: services.interrupts,
            is_stopped: false,
        }
    }

    /// The port behind a region, and its registers from `offset` on, one for each byte.
    fn locate(
        &mut self,
        region: RegionIndex,
        offset: u64,
        count: usize,
    ) -> Result<(&mut Uart, &'static [Register]), Fault> {
        let port = PORT_BARS
            .iter()
            .zip(&mut self.ports)
            .find_map(|(&bar, port)| (bar == region).then_some(port))
            .ok_or(Fault("no port is behind this region"))?;
        let registers = usize::try_from(offset)
            .ok()
            .and_then(|start| Register::ALL.get(start..)?.get(..count))
            .ok_or(Fault("the access reaches past the last register"))?;
        Ok((port, registers))
    }

    /// The ports share one pin: it is asserted while any of them wants to interrupt.
    pub(super) fn update_interrupt(&mut self) {
        let asserted = self.ports.iter().any(Uart::interrupt);
        self.config.set_interrupt_status(asserted);
        self.interrupts.set_intx(asserted);
    }
}

impl MediatedDevice for SerialDevice {
    fn config(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn regions(&self) -> &Regions {
        &self.regions
    }

    /// Registers are one byte wide: a longer access is one to each register, in order.
    fn read(&mut self, region: RegionIndex, offset: u64, data: &mut [u8]) -> Result<(), Fault> {
        let (port, registers) = self.locate(region, offset, data.len())?;
        for (byte, &register) in data.iter_mut().zip(registers) {
            *byte = port.read(register);
        }
        self.update_interrupt();
        Ok(())
    }

    fn write(&mut self, region: RegionIndex, offset: u64, data: &[u8]) -> Result<(), Fault> {
        let (port, registers) = self.locate(region, offset, data.len())?;
        for (&byte, &register) in data.iter().zip(registers) {
            port.write(register, byte);
        }
        self.update_interrupt();
        Ok(())
    }

    fn reset(&mut self, _: Reset) {
        self.ports.fill(Uart::new());
        self.config.reset();
        self.is_stopped = false;
        self.update_interrupt();
    }

    fn migration(&mut self) -> Option<&mut dyn Migration> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use mdev::pci::Status;

    use super::*;
    use crate::serial::registers::{ier, lsr};

    const BAR0: RegionIndex = RegionIndex::Bar0;
    const BAR1: RegionIndex = RegionIndex::Bar1;

    fn two_ports() -> SerialDevice {
        SerialDevice::new(Card::TwoPorts, Services::default())
    }

    fn write(device: &mut SerialDevice, bar: RegionIndex, register: Register, value: u8) {
        device.write(bar, register as u64, &[value]).unwrap();
    }

    fn read(device: &mut SerialDevice, bar: RegionIndex, register: Register) -> u8 {
        let mut value = [0];
        device.read(bar, register as u64, &mut value).unwrap();
        value[0]
    }

    fn is_asserted(device: &SerialDevice) -> bool {
        device.config.status().contains(Status::INTERRUPT)
    }

    #[test]
    fn configuration_space_is_that_of_mtty() {
        let device = two_ports();
        for (what, offset, expected) in [
            ("vendor, device", 0x00, [0x48, 0x43, 0x53, 0x32]),
            ("revision, class", 0x08, [0x10, 0x02, 0x00, 0x07]),
            ("BAR0 is I/O", 0x10, [0x01, 0, 0, 0]),
            ("BAR1 is I/O", 0x14, [0x01, 0, 0, 0]),
            ("subsystem", 0x2c, [0x48, 0x43, 0x53, 0x32]),
            ("no capabilities", 0x34, [0, 0, 0, 0]),
            ("INTA", 0x3c, [0, 1, 0, 0]),
        ] {
            let mut bytes = [0; 4];
            device.config.read(offset, &mut bytes);
            assert_eq!(bytes, expected, "{what}");
        }
    }

    #[test]
    fn the_interrupt_is_asserted_while_any_port_wants_it() {
        let mut device = two_ports();
        for bar in [BAR0, BAR1] {
            write(&mut device, bar, Register::Ier, ier::RDI);
            assert!(!is_asserted(&device));
        }
        write(&mut device, BAR0, Register::Data, b'a');
        write(&mut device, BAR1, Register::Data, b'b');
        assert!(is_asserted(&device));
        assert_eq!(read(&mut device, BAR0, Register::Data), b'a');
        assert!(is_asserted(&device), "the second port still wants it");
        assert_eq!(read(&mut device, BAR1, Register::Data), b'b');
        assert!(!is_asserted(&device));
    }

    #[test]
    fn an_access_of_several_bytes_is_one_to_each_register() {
        let mut device = two_ports();
        let all = [b'x', 0, 0, 0x03, 0x0b, 0, 0, 0x5a];
        device.write(BAR0, 0, &all).unwrap();
        let mut back = [0; 8];
        device.read(BAR0, 0, &mut back).unwrap();
        assert_eq!(back, [b'x', 0, 0x01, 0x03, 0x0b, 0x60, 0xbb, 0x5a]);
    }

    #[test]
    fn an_access_that_is_not_all_within_the_registers_of_a_port_has_no_effect() {
        let mut device = SerialDevice::new(Card::OnePort, Services::default());
        write(&mut device, BAR0, Register::Data, b'a');
        for (region, offset, count) in [
            (BAR0, 8, 1),
            (BAR0, 0, 9),
            (BAR0, 5, 4),
            (BAR0, u64::MAX, 1),
            (BAR1, 0, 1),
            (RegionIndex::Rom, 0, 1),
        ] {
            let mut data = vec![0x55; count];
            let case = format!("{count} bytes at {offset:#x} of {region:?}");
            assert!(device.read(region, offset, &mut data).is_err(), "{case}");
            assert!(device.write(region, offset, &data).is_err(), "{case}");
        }
        assert_eq!(read(&mut device, BAR0, Register::Data), b'a');
        assert_eq!(read(&mut device, BAR0, Register::Scr), 0);
    }

    #[test]
    fn a_reset_for_any_cause_forgets_everything() {
        for cause in [Reset::Device, Reset::Function, Reset::Close] {
            let mut device = two_ports();
            let _ = device.config.write(0x10, &0xc000_u32.to_le_bytes());
            for register in Register::ALL {
                write(&mut device, BAR1, register, 0x0f);
            }
            assert!(is_asserted(&device), "{cause:?}");
            device.reset(cause);
            assert!(!is_asserted(&device), "{cause:?}");
            let mut bar = [0; 4];
            device.config.read(0x10, &mut bar);
            assert_eq!(u32::from_le_bytes(bar), 1, "{cause:?}");
            for register in Register::ALL {
                let expected = match register {
                    Register::IirFcr => 0x01,
                    Register::Lsr => lsr::THRE | lsr::TEMT,
                    _ => 0,
                };
                assert_eq!(read(&mut device, BAR1, register), expected, "{register:?}");
            }
        }
    }
}
