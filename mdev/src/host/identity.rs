//! What kind of device it is, and how much it has, before it is opened.

use std::fs;

use super::{HostError, PciAddress, PciBus};

/// The number of BARs of a function.
const BARS: usize = 6;

/// Class and subclass of bridges to further PCI devices, whatever their programming interface.
const BRIDGE: u32 = 0x0604;

/// A device's kind, as any user may read it in sysfs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostIdentity {
    /// Who made it.
    pub vendor: u16,
    /// What it is, by its maker's count.
    pub device: u16,
    /// Class, subclass and programming interface: `0x03_00_00` for a VGA card.
    pub class: u32,
    /// Bytes of each BAR; 0 for none.
    pub bars: [u64; BARS],
}

impl HostIdentity {
    /// That of a device of this machine.
    pub fn read(bus: &PciBus, address: PciAddress) -> Result<Self, HostError> {
        let folder = bus.device(address)?;
        let text = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).map_err(HostError::file(path))
        };
        let number = |name| text(name).map(|text| hexadecimal(text.trim()).unwrap_or(0));
        Ok(Self {
            vendor: number("vendor")? as u16,
            device: number("device")? as u16,
            class: number("class")? as u32,
            bars: bars(&text("resource")?),
        })
    }

    /// Whether it is a bridge to further PCI devices, which the kernel keeps, and no group is spoilt by.
    pub fn is_bridge(&self) -> bool {
        self.class >> 8 == BRIDGE
    }
}

fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// A line for each: first address, last, flags. What is not there has zeroes.
fn bars(resources: &str) -> [u64; BARS] {
    let size = |line: &str| {
        let mut words = line.split_whitespace().map(hexadecimal);
        let (first, last) = (words.next()??, words.next()??);
        let len = last.checked_sub(first)?.checked_add(1)?;
        (last > 0).then_some(len)
    };
    let mut bars = [0; BARS];
    for (bar, line) in bars.iter_mut().zip(resources.lines()) {
        *bar = size(line).unwrap_or(0);
    }
    bars
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_known_by_its_numbers_and_the_sizes_of_its_bars() {
        let root = tempfile::tempdir().unwrap();
        let bus = PciBus::new(root.path());
        let address: PciAddress = "00:01.0".parse().unwrap();
        let folder = bus.path(&format!("/sys/bus/pci/devices/{address}"));
        fs::create_dir_all(&folder).unwrap();
        let resources = "0x00000000fd000000 0x00000000fdffffff 0x0000000000042208\n\
             0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
             0x00000000febd6000 0x00000000febd6fff 0x0000000000040200\n";
        for (name, text) in [
            ("vendor", "0x1234\n"),
            ("device", "0x1111\n"),
            ("class", "0x038000\n"),
            ("resource", resources),
        ] {
            fs::write(folder.join(name), text).unwrap();
        }
        let expected = HostIdentity {
            vendor: 0x1234,
            device: 0x1111,
            class: 0x03_80_00,
            bars: [16 << 20, 0, 4096, 0, 0, 0],
        };
        assert_eq!(HostIdentity::read(&bus, address).unwrap(), expected);
        let missing = "00:02.0".parse().unwrap();
        assert!(matches!(
            HostIdentity::read(&bus, missing),
            Err(HostError::NoDevice(_))
        ));
    }

    #[test]
    fn what_the_kernel_has_never_said_is_no_bar() {
        for text in [
            "",
            "0x1",
            "0x2 0x1 0x0",
            "x y z",
            "0x0 0xffffffffffffffff 0x0",
        ] {
            assert_eq!(bars(text), [0; BARS], "{text}");
        }
    }
}
