//! Where a PCI function is on its bus.

use std::fmt;
use std::str::FromStr;

/// The address of a PCI function, as `0000:01:00.0`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

/// Text that is no address of a PCI function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the address of a PCI function, such as 0000:01:00.0")]
pub struct NotAnAddress;

impl FromStr for PciAddress {
    type Err = NotAnAddress;

    /// Reads an address in full or, as lspci prints it, without its domain.
    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        Self::parse(text).ok_or(NotAnAddress)
    }
}

impl PciAddress {
    /// A number of 20 bits, another one for each function, as far as domains below 16 go.
    pub(super) fn number(self) -> u64 {
        let within = u64::from(self.bus) << 8 | u64::from(self.device << 3 | self.function);
        u64::from(self.domain & 0xf) << 16 | within
    }

    fn parse(text: &str) -> Option<Self> {
        let (rest, function) = text.rsplit_once('.')?;
        let (rest, device) = rest.rsplit_once(':')?;
        let (domain, bus) = rest.rsplit_once(':').unwrap_or(("0000", rest));
        let address = Self {
            // Virtual root complexes have domains of five digits and more.
            domain: digits(domain, 4..=8)?,
            bus: u8::try_from(digits(bus, 2..=2)?).ok()?,
            device: u8::try_from(digits(device, 2..=2)?).ok()?,
            function: u8::try_from(digits(function, 1..=1)?).ok()?,
        };
        (address.device < 32 && address.function < 8).then_some(address)
    }
}

/// A hexadecimal number of so many digits.
fn digits(text: &str, count: std::ops::RangeInclusive<usize>) -> Option<u32> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_so_long = count.contains(&text.len());
    (is_number && is_so_long).then(|| u32::from_str_radix(text, 16).ok())?
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            domain,
            bus,
            device,
            function,
        } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function:x}")
    }
}

impl fmt::Debug for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_in_full_or_without_its_domain_and_printed_in_full() {
        for (text, printed) in [
            ("0000:01:00.0", "0000:01:00.0"),
            ("01:1f.7", "0000:01:1f.7"),
            ("00FF:0A:1B.3", "00ff:0a:1b.3"),
            ("10000:e1:00.0", "10000:e1:00.0"),
        ] {
            let address: PciAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), printed);
            assert_eq!(printed.parse(), Ok(address));
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "01:00",
            "1:0.0",
            "01:20.0",
            "01:00.8",
            "01:00.00",
            "000:01:00.0",
            "0000:01:00.0\n",
            "0000:+1:00.0",
            "../0000:01:00.0",
            "123456789:01:00.0",
            "0000:01:00.0.0",
        ] {
            assert_eq!(text.parse::<PciAddress>(), Err(NotAnAddress), "{text:?}");
        }
    }
}
