//! BAR2: the register page.
//!
//! The layout is QEMU's (`docs/specs/standard-vga.rst`, "PCI bar 2"). Every register works by
//! bytes, so an access of any size, aligned or not, is the accesses of its bytes in order.

use std::ops::Range;

use mdev::device::Fault;
use mdev::scanout::Geometry;

pub(crate) use super::dispi::Index;
use super::dispi::{self, Dispi};
use super::extended::{self, Extended};
use super::vga::{self, Vga};

/// Bytes of BAR2.
pub(crate) const SIZE: u32 = 4096;

const OUTSIDE: Fault = Fault("the access leaves the region");

/// Where each part begins.
const VGA: u64 = 0x400;
const DISPI: u64 = 0x500;
const EXTENDED: u64 = 0x600;

/// Where VGA's attribute controller is told an index, then a value.
pub(crate) const VGA_ATTRIBUTE: u64 = VGA + vga::ATTRIBUTE as u64;

/// Where the byte order of pixels is set.
pub(crate) const BYTE_ORDER: u64 = EXTENDED + extended::ENDIANNESS as u64;

/// Where a register of the display is.
pub(crate) const fn dispi(index: Index) -> u64 {
    DISPI + 2 * index as u64
}

/// The registers of one device, and the monitor at its end.
#[derive(Clone, Debug)]
pub(crate) struct Mmio {
    pub(super) edid: Vec<u8>,
    pub(super) vga: Vga,
    pub(super) dispi: Dispi,
    pub(super) extended: Extended,
}

/// A byte of the page, counted from the start of the part that it belongs to.
enum Place {
    Edid(usize),
    Vga(usize),
    Dispi(usize),
    Extended(usize),
    Unused,
}

impl Place {
    fn of(offset: u64) -> Self {
        const VGA_END: u64 = VGA + vga::LEN;
        const DISPI_END: u64 = DISPI + dispi::LEN;
        const EXTENDED_END: u64 = EXTENDED + extended::LEN;
        match offset {
            0..VGA => Self::Edid(offset as usize),
            VGA..VGA_END => Self::Vga((offset - VGA) as usize),
            DISPI..DISPI_END => Self::Dispi((offset - DISPI) as usize),
            EXTENDED..EXTENDED_END => Self::Extended((offset - EXTENDED) as usize),
            _ => Self::Unused,
        }
    }
}

impl Mmio {
    /// The registers of a device with `vram` bytes of video memory.
    pub(crate) fn new(vram: u32, edid: Vec<u8>) -> Self {
        Self {
            edid,
            vga: Vga::default(),
            dispi: Dispi::new(vram),
            extended: Extended::default(),
        }
    }

    /// Returns the registers to what they were at first. The monitor stays.
    pub(crate) fn reset(&mut self) {
        self.vga = Vga::default();
        self.dispi.reset();
        self.extended = Extended::default();
    }

    /// Puts another monitor at the end.
    pub(crate) fn set_edid(&mut self, edid: Vec<u8>) {
        self.edid = edid;
    }

    /// Reads the bytes of an access.
    pub(crate) fn read_all(&mut self, offset: u64, data: &mut [u8]) -> Result<(), Fault> {
        for (at, byte) in places(offset, data.len())?.zip(data) {
            *byte = self.read(at);
        }
        Ok(())
    }

    /// Writes the bytes of an access.
    pub(crate) fn write_all(&mut self, offset: u64, data: &[u8]) -> Result<(), Fault> {
        for (at, byte) in places(offset, data.len())?.zip(data) {
            self.write(at, *byte);
        }
        Ok(())
    }

    /// The byte at `offset`; 0 where there is no register.
    pub(crate) fn read(&mut self, offset: u64) -> u8 {
        match Place::of(offset) {
            Place::Edid(at) => self.edid.get(at).copied().unwrap_or(0),
            Place::Vga(at) => self.vga.read(at),
            Place::Dispi(at) => self.dispi.read(at),
            Place::Extended(at) => self.extended.read(at),
            Place::Unused => 0,
        }
    }

    /// Writes the byte at `offset`. Ignored where there is no register.
    pub(crate) fn write(&mut self, offset: u64, byte: u8) {
        match Place::of(offset) {
            Place::Vga(at) => self.vga.write(at, byte),
            Place::Dispi(at) => self.dispi.write(at, byte),
            Place::Extended(at) => self.extended.write(at, byte),
            Place::Edid(_) | Place::Unused => {}
        }
    }

    /// The picture that the registers describe, or `None` for a blank screen.
    pub(crate) fn picture(&self) -> Option<Geometry> {
        self.dispi
            .picture(self.extended.format())
            .filter(|_| !self.vga.is_blanked())
    }
}

/// The offsets of the bytes of an access.
fn places(offset: u64, len: usize) -> Result<Range<u64>, Fault> {
    let end = offset.checked_add(len as u64);
    let end = end.filter(|end| *end <= u64::from(SIZE));
    end.map(|end| offset..end).ok_or(OUTSIDE)
}
