//! Configuration space.

use std::ops::Range;

use super::bar::{self, Bar};
use super::capability::{self, Capability, CapabilityId};
use super::express;
use super::header::{self, Command, Identity, Pin, Status, offset};
use super::msi;
use super::registers::Registers;
use crate::irq::IrqCounts;
use crate::region::RegionIndex;

/// Bytes of a conventional space (PCI Local Bus 3.0, section 6.1).
const CONVENTIONAL_LEN: usize = 256;
/// Bytes of a PCI Express space (PCI Express Base 3.0, section 7.2).
const EXPRESS_LEN: usize = 4096;
/// Capabilities begin at multiples of this (PCI Local Bus 3.0, section 6.7).
const CAPABILITY_ALIGNMENT: usize = 4;

bitflags::bitflags! {
    /// What a write to configuration space asks of the device.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    #[must_use = "a function-level reset is only asked for here"]
    pub struct ConfigEvents: u8 {
        /// [`ConfigSpace::command`] is another than before.
        const COMMAND_CHANGED = 1 << 0;
        /// The guest started a function-level reset. Nothing was reset yet.
        const FUNCTION_RESET = 1 << 1;
        /// The message control of MSI or of MSI-X is another than before.
        const MSI_CHANGED = 1 << 2;
    }
}

/// Configuration space of one function.
///
/// Nothing that a guest does to it can panic. The `with_` methods do panic, on a device that
/// cannot exist: they are for constants in a driver, which its first test then finds wrong.
#[derive(Clone, Debug)]
pub struct ConfigSpace {
    registers: Registers,
    sizes: [u64; RegionIndex::COUNT as usize],
    /// Where each capability lies, in order of the list.
    capabilities: Vec<(CapabilityId, Range<usize>)>,
}

/// The registers that a guest's write may have changed and someone must know of.
struct Controls {
    command: Command,
    power: Option<u16>,
    msi: Option<u16>,
    msix: Option<u16>,
}

impl ConfigSpace {
    /// A device without BARs, ROM, interrupt pin and capabilities.
    pub fn new(identity: Identity) -> Self {
        let mut space = Self {
            registers: header::registers(identity, CONVENTIONAL_LEN),
            sizes: [0; RegionIndex::COUNT as usize],
            capabilities: Vec::new(),
        };
        space.sizes[RegionIndex::Config as usize] = space.size();
        space
    }

    /// Adds a base address register.
    ///
    /// # Panics
    ///
    /// If `index` is no BAR or is taken, or if the size is not a power of two of at least 4 (I/O)
    /// or 16 (memory).
    #[must_use]
    pub fn with_bar(mut self, index: RegionIndex, bar: Bar) -> Self {
        bar.define(index, &mut self.registers);
        self.sizes[index as usize] = bar.size();
        self
    }

    /// Adds an expansion ROM.
    ///
    /// # Panics
    ///
    /// If the size is not a power of two of at least 2 KiB.
    #[must_use]
    pub fn with_rom(mut self, size: u32) -> Self {
        bar::define_rom(size, &mut self.registers);
        self.sizes[RegionIndex::Rom as usize] = size.into();
        self
    }

    /// Adds an interrupt pin, which makes the device one that can use INTx.
    #[must_use]
    pub fn with_interrupt_pin(mut self, pin: Pin) -> Self {
        self.registers
            .define_u8(offset::INTERRUPT_PIN, pin as u8, 0);
        self
    }

    /// Adds a capability at the end of the list.
    ///
    /// # Panics
    ///
    /// If it is not well formed, if the first 256 bytes are full, if MSI-X lies in a BAR that was
    /// not added before, or if the device has one like it already (except vendor-specific ones).
    #[must_use]
    pub fn with_capability(mut self, capability: Capability) -> Self {
        let id = capability.id();
        assert!(
            id == CapabilityId::Vendor || self.find(id).is_none(),
            "the device has two capabilities {id:?}"
        );
        let registers = capability.registers(|index| self.region_size(index));
        let (link, start) = match self.capabilities.last() {
            None => (offset::CAPABILITY_LIST, offset::HEADER_END),
            Some((_, last)) => (
                last.start + capability::NEXT,
                last.end.next_multiple_of(CAPABILITY_ALIGNMENT),
            ),
        };
        let end = start + registers.len();
        assert!(end <= CONVENTIONAL_LEN, "there is no room for {id:?}");
        let pointer = u8::try_from(start).expect("capabilities lie in the first 256 bytes");
        self.registers.define_u8(link, pointer, 0);
        self.registers.place(start, &registers);
        self.registers
            .define_u16(offset::STATUS, Status::CAPABILITIES.bits(), 0);
        self.capabilities.push((id, start..end));
        if id == CapabilityId::Express {
            self.registers.grow(EXPRESS_LEN);
            self.sizes[RegionIndex::Config as usize] = self.size();
        }
        self
    }

    /// Bytes of a region that this space announces: a BAR, the ROM, or the space itself. 0 for
    /// what the device does not have, and for the upper half of a 64-bit BAR.
    pub fn region_size(&self, index: RegionIndex) -> u64 {
        self.sizes[index as usize]
    }

    /// Bytes of the space: 256, or 4096 with [`Capability::Express`].
    pub fn size(&self) -> u64 {
        self.registers.len() as u64
    }

    /// Reads at any offset. Bytes past the end are 0xff.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        self.registers.read(offset, data);
    }

    /// Writes at any offset. Only writable bits change; bytes past the end are dropped.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> ConfigEvents {
        let before = self.controls();
        self.registers.write(offset, data);
        self.refuse_power_state(before.power);
        self.bound_msi_vectors();
        let after = self.controls();
        let messages = (before.msi, before.msix) != (after.msi, after.msix);
        let mut events = ConfigEvents::empty();
        events.set(
            ConfigEvents::COMMAND_CHANGED,
            before.command != after.command,
        );
        events.set(ConfigEvents::MSI_CHANGED, messages);
        events.set(ConfigEvents::FUNCTION_RESET, self.take_reset());
        events
    }

    /// The command register.
    pub fn command(&self) -> Command {
        Command::from_bits_truncate(self.registers.u16(offset::COMMAND))
    }

    /// The status register.
    pub fn status(&self) -> Status {
        Status::from_bits_truncate(self.registers.u16(offset::STATUS))
    }

    /// Shows or hides that the interrupt pin wants to be asserted. The bit does not depend on
    /// [`Command::INTX_DISABLE`].
    pub fn set_interrupt_status(&mut self, asserted: bool) {
        let mut status = self.status();
        status.set(Status::INTERRUPT, asserted);
        self.registers.set_u16(offset::STATUS, status.bits());
    }

    /// Records errors, until the guest clears them. Only [`Status::ERRORS`] count.
    pub fn report_errors(&mut self, errors: Status) {
        let status = self.status() | (errors & Status::ERRORS);
        self.registers.set_u16(offset::STATUS, status.bits());
    }

    /// How many vectors the device has, from its interrupt pin and its capabilities.
    pub fn irqs(&self) -> IrqCounts {
        let controls = self.controls();
        let mut pin = [0];
        self.read(offset::INTERRUPT_PIN as u64, &mut pin);
        IrqCounts {
            intx: u32::from(pin != [0]),
            msi: controls.msi.map_or(0, msi::msi_vectors),
            msix: controls.msix.map_or(0, msi::msix_vectors),
        }
    }

    /// Whether the guest has switched MSI on.
    pub fn msi_enabled(&self) -> bool {
        self.controls()
            .msi
            .is_some_and(|control| control & msi::MSI_ENABLE != 0)
    }

    /// Whether the guest has switched MSI-X on.
    pub fn msix_enabled(&self) -> bool {
        self.controls()
            .msix
            .is_some_and(|control| control & msi::MSIX_ENABLE != 0)
    }

    /// Where the vendor-specific capabilities lie, in order of the list.
    pub fn vendor_capabilities(&self) -> Vec<Range<usize>> {
        let list = self.capabilities.iter();
        let vendor = list.filter(|(id, _)| *id == CapabilityId::Vendor);
        vendor.map(|(_, range)| range.clone()).collect()
    }

    /// Returns every register to what it was when the device was built.
    ///
    /// A real function-level reset spares a few bits of the link's setup; no link is behind ours.
    pub fn reset(&mut self) {
        self.registers.reset();
    }

    /// Every byte as it is now, to be kept.
    pub fn save(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.registers.len()];
        self.registers.read(0, &mut bytes);
        bytes
    }

    /// The space as it was when `bytes` were saved, or `None` if it was that of another device:
    /// one of another size, or with other bits where nobody writes.
    pub fn restored(&self, bytes: &[u8]) -> Option<Self> {
        let mut space = self.clone();
        let mut bytes = bytes.to_vec();
        // The device says itself whether it interrupts.
        let interrupt = Status::INTERRUPT.bits().to_le_bytes()[0];
        let ours = self.status().bits().to_le_bytes()[0] & interrupt;
        let status = bytes.get_mut(offset::STATUS)?;
        *status = (*status & !interrupt) | ours;
        space.registers.restore(&bytes).then_some(())?;
        // Not to be trusted in what a guest could not have written either.
        space.refuse_power_state(Some(0));
        space.bound_msi_vectors();
        let _ = space.take_reset();
        Some(space)
    }

    fn controls(&self) -> Controls {
        let word = |id, at| {
            let start = self.find(id)?;
            Some(self.registers.u16(start + at))
        };
        Controls {
            command: self.command(),
            power: word(CapabilityId::PowerManagement, capability::PMCSR),
            msi: word(CapabilityId::Msi, msi::MESSAGE_CONTROL),
            msix: word(CapabilityId::Msix, msi::MESSAGE_CONTROL),
        }
    }

    /// Where the first capability of this kind begins.
    fn find(&self, id: CapabilityId) -> Option<usize> {
        let mut list = self.capabilities.iter();
        list.find(|(found, _)| *found == id)
            .map(|(_, range)| range.start)
    }

    /// A write of a state that the device does not have completes without effect (PCI Bus Power
    /// Management 1.2, section 3.2.4).
    fn refuse_power_state(&mut self, before: Option<u16>) {
        let Some((start, before)) = self.find(CapabilityId::PowerManagement).zip(before) else {
            return;
        };
        let at = start + capability::PMCSR;
        if matches!(self.registers.u16(at) & capability::PMCSR_STATE, 1 | 2) {
            self.registers.set_u16(at, before);
        }
    }

    /// A guest may take as many vectors as the device has, and no more.
    fn bound_msi_vectors(&mut self) {
        if let Some(start) = self.find(CapabilityId::Msi) {
            let at = start + msi::MESSAGE_CONTROL;
            let control = msi::bound_vectors(self.registers.u16(at));
            self.registers.set_u16(at, control);
        }
    }

    /// Whether the guest asks for a function-level reset; its bit reads 0 again (PCI Express
    /// Base 3.0, section 7.8.4).
    fn take_reset(&mut self) -> bool {
        let Some(start) = self.find(CapabilityId::Express) else {
            return false;
        };
        let at = start + express::DEVICE_CONTROL;
        let control = self.registers.u16(at);
        self.registers
            .set_u16(at, control & !express::INITIATE_RESET);
        control & express::INITIATE_RESET != 0
    }
}
