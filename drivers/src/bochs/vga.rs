//! What is left of a VGA: its ports, of which only those have an effect that blank the screen.

use mdev::state::{Fields, StateError};

/// Ports there are, from 0x3c0.
pub(super) const LEN: u64 = 0x20;

/// Attribute controller: index and data by turns (IBM VGA, "Attribute Controller Registers").
pub(super) const ATTRIBUTE: usize = 0x00;

/// Input status 1, port 0x3da. A read makes the next write to [`ATTRIBUTE`] an index.
const INPUT_STATUS: usize = 0x1a;

/// Of an attribute index: the palette is the screen's again, which ends blanking.
const PALETTE_ADDRESS_SOURCE: u8 = 1 << 5;

/// Of input status: not displaying, and in vertical retrace.
const RETRACE: u8 = 1 << 0 | 1 << 3;

/// The ports of one device.
#[derive(Clone, Debug, Default)]
pub(super) struct Vga {
    /// A VGA starts blank; this starts visible, for firmware that only knows DISPI must be seen.
    is_blanked: bool,
    attribute_is_data: bool,
    in_retrace: bool,
}

impl Vga {
    /// Whether the guest has blanked the screen.
    pub(super) fn is_blanked(&self) -> bool {
        self.is_blanked
    }

    /// Appends the state.
    pub(super) fn save(&self, out: &mut Vec<u8>) {
        let flags = [self.attribute_is_data, self.is_blanked, self.in_retrace];
        out.extend(flags.map(u8::from));
    }

    /// Takes a saved state.
    pub(super) fn restore(&mut self, saved: &mut Fields<'_>) -> Result<(), StateError> {
        self.attribute_is_data = saved.bool()?;
        self.is_blanked = saved.bool()?;
        self.in_retrace = saved.bool()?;
        Ok(())
    }

    /// Reads a port, counted from 0x3c0. All but input status are 0.
    pub(super) fn read(&mut self, port: usize) -> u8 {
        if port != INPUT_STATUS {
            return 0;
        }
        self.attribute_is_data = false;
        // There is no beam. Some guests wait for it to leave retrace, or to enter it.
        self.in_retrace = !self.in_retrace;
        if self.in_retrace { RETRACE } else { 0 }
    }

    /// Writes a port. All but the attribute controller's index are ignored.
    pub(super) fn write(&mut self, port: usize, byte: u8) {
        if port != ATTRIBUTE {
            return;
        }
        if !self.attribute_is_data {
            self.is_blanked = byte & PALETTE_ADDRESS_SOURCE == 0;
        }
        self.attribute_is_data = !self.attribute_is_data;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_index_without_the_palette_bit_blanks() {
        let status = None;
        for (accesses, blanked) in [
            (vec![], false),
            (vec![Some(0)], true),
            (vec![Some(0x20)], false),
            // The second write is data, unless input status was read.
            (vec![Some(0x20), Some(0)], false),
            (vec![Some(0x20), status, Some(0)], true),
            (vec![Some(0), status, Some(0x20)], false),
        ] {
            let mut vga = Vga::default();
            for access in &accesses {
                match access {
                    Some(byte) => vga.write(ATTRIBUTE, *byte),
                    None => _ = vga.read(INPUT_STATUS),
                }
            }
            assert_eq!(vga.is_blanked(), blanked, "{accesses:?}");
        }
    }

    #[test]
    fn retrace_comes_and_goes() {
        let mut vga = Vga::default();
        let read = [(); 4].map(|()| vga.read(INPUT_STATUS));
        assert_eq!(read, [RETRACE, 0, RETRACE, 0]);
    }
}
