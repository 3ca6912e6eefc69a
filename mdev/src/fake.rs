//! A device that remembers, for tests and as a first example.
//!
//! It has one of everything: trapped registers (an I/O BAR), a memory BAR that a client maps
//! whole, one that it maps in parts and that has a doorbell, a ROM, an interrupt pin, MSI and
//! MSI-X; and a state that can be saved.

mod state;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::device::{Fault, MediatedDevice, Reset};
use crate::irq::{Interrupts, IrqIndex};
use crate::keep::Keep;
use crate::migration::Migration;
use crate::pci::{Bar, Capability, Class, ConfigSpace, ExpressKind, Identity, Pin};
use crate::region::{Access, Doorbell, RegionIndex, Regions};
use crate::region_memory::RegionMemory;

const MEMORY_FAILED: Fault = Fault("the memory could not be reached");

/// Names of the memory files, as `/proc/PID/maps` shows them.
const WHOLE_NAME: &str = "fake device whole";
const PARTS_NAME: &str = "fake device parts";

/// What the fake says it is. No vendor has this number.
const IDENTITY: Identity = Identity {
    vendor: 0xfffe,
    device: 0x0001,
    subsystem_vendor: 0xfffe,
    subsystem: 0x0001,
    revision: 1,
    class: Class {
        base: 0xff, // none of those that there are
        sub: 0,
        interface: 0,
    },
};

/// The registers, in BAR0. What is not listed is memory.
pub mod register {
    /// Writing 1 asserts the interrupt pin, writing 0 lets it go.
    pub const LEVEL: u64 = 0;
    /// Writing fires that vector of MSI.
    pub const FIRE_MSI: u64 = 1;
    /// Writing fires that vector of MSI-X.
    pub const FIRE_MSIX: u64 = 2;
    /// Every access is a fault.
    pub const BROKEN: u64 = 3;
    /// The first of the registers that are only memory.
    pub const MEMORY: u64 = 4;
}

/// What happened to the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A write, also to memory if it came as a message.
    Write(RegionIndex, u64, Vec<u8>),
    /// A reset.
    Reset(Reset),
}

/// What happened, in order. Clones see the same.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<Event>>>);

impl Log {
    /// What happened since this was last asked.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events())
    }

    fn push(&self, event: Event) {
        self.events().push(event);
    }

    fn events(&self) -> MutexGuard<'_, Vec<Event>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The device.
#[derive(Debug)]
pub struct FakeDevice {
    config: ConfigSpace,
    regions: Regions,
    registers: [u8; Self::REGISTERS as usize],
    whole: RegionMemory,
    parts: RegionMemory,
    interrupts: Interrupts,
    log: Log,
    is_stopped: bool,
    keep: Keep,
}

impl FakeDevice {
    /// Bytes of BAR0, the registers: trapped.
    pub const REGISTERS: u32 = 32;
    /// Bytes of BAR1, memory that is mapped whole.
    pub const WHOLE: u32 = 0x1_0000;
    /// Bytes of BAR2, memory that is mapped in parts.
    pub const PARTS: u32 = 0x8000;
    /// The parts of BAR2 that are mapped.
    pub const AREAS: [std::ops::Range<u64>; 2] = [0x1000..0x2000, 0x4000..0x8000];
    /// The register of BAR2 that can be written by an eventfd: in a part that is not mapped.
    pub const DOORBELL: Doorbell = Doorbell {
        offset: 0x2010,
        size: 4,
        datamatch: Some(0x1234_5678),
    };
    /// What it calls itself in a saved state.
    pub const KIND: &str = "fake-1";
    /// Bytes of the ROM, which all hold [`Self::ROM_BYTE`].
    pub const ROM: u32 = 0x1000;
    /// What the ROM holds.
    pub const ROM_BYTE: u8 = 0x55;
    /// Vectors of MSI.
    pub const MSI: u8 = 4;
    /// Vectors of MSI-X.
    pub const MSIX: u16 = 32;

    /// A device that interrupts through `interrupts`, and the log of what happens to it.
    pub fn new(interrupts: Interrupts) -> io::Result<(Self, Log)> {
        Self::kept(interrupts, Keep::default())
    }

    /// One whose memories outlive it in `keep`, or are those that another has left there.
    pub fn kept(interrupts: Interrupts, keep: Keep) -> io::Result<(Self, Log)> {
        let config = config();
        let log = Log::default();
        let mut device = Self {
            regions: Regions::of(&config),
            config,
            registers: [0; Self::REGISTERS as usize],
            whole: keep.memory(WHOLE_NAME, Self::WHOLE.into())?,
            parts: keep.memory(PARTS_NAME, Self::PARTS.into())?,
            interrupts,
            log: log.clone(),
            is_stopped: false,
            keep,
        };
        device
            .regions
            .add_doorbell(RegionIndex::Bar2, Self::DOORBELL);
        device.give_memory();
        Ok((device, log))
    }

    /// The same device with nothing to map: every access is a message.
    #[must_use]
    pub fn all_trapped(mut self) -> Self {
        self.regions.set_access(RegionIndex::Bar1, Access::Trapped);
        let (fd, areas) = (Arc::clone(self.parts.file()), Vec::new());
        self.regions
            .set_access(RegionIndex::Bar2, Access::Sparse { fd, areas });
        self
    }

    fn give_memory(&mut self) {
        let fd = Arc::clone(self.whole.file());
        self.regions
            .set_access(RegionIndex::Bar1, Access::Mapped { fd });
        let fd = Arc::clone(self.parts.file());
        let areas = Self::AREAS.to_vec();
        self.regions
            .set_access(RegionIndex::Bar2, Access::Sparse { fd, areas });
    }

    fn write_register(&mut self, offset: u64, value: u8) -> Result<(), Fault> {
        match offset {
            register::LEVEL => self.set_level(value != 0),
            register::FIRE_MSI => self.interrupts.trigger(IrqIndex::Msi, value.into()),
            register::FIRE_MSIX => self.interrupts.trigger(IrqIndex::Msix, value.into()),
            register::BROKEN => return Err(Fault("this register is broken")),
            _ => {}
        }
        self.registers[offset as usize] = value;
        Ok(())
    }

    fn set_level(&mut self, asserted: bool) {
        self.config.set_interrupt_status(asserted);
        self.interrupts.set_intx(asserted);
    }
}

impl MediatedDevice for FakeDevice {
    fn config(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn regions(&self) -> &Regions {
        &self.regions
    }

    fn read(&mut self, region: RegionIndex, offset: u64, data: &mut [u8]) -> Result<(), Fault> {
        assert!(!data.is_empty(), "the session promises at least one byte");
        match region {
            RegionIndex::Bar0 => {
                for (at, byte) in (offset..).zip(data) {
                    if at == register::BROKEN {
                        return Err(Fault("this register is broken"));
                    }
                    *byte = self.registers[at as usize];
                }
            }
            RegionIndex::Bar1 => self.whole.read(offset, data).or(Err(MEMORY_FAILED))?,
            RegionIndex::Bar2 => self.parts.read(offset, data).or(Err(MEMORY_FAILED))?,
            RegionIndex::Rom => data.fill(Self::ROM_BYTE),
            _ => data.fill(0),
        }
        Ok(())
    }

    fn write(&mut self, region: RegionIndex, offset: u64, data: &[u8]) -> Result<(), Fault> {
        assert!(!data.is_empty(), "the session promises at least one byte");
        self.log.push(Event::Write(region, offset, data.to_vec()));
        match region {
            RegionIndex::Bar0 => {
                for (at, &byte) in (offset..).zip(data) {
                    self.write_register(at, byte)?;
                }
            }
            RegionIndex::Bar1 => self.whole.write(offset, data).or(Err(MEMORY_FAILED))?,
            RegionIndex::Bar2 => self.parts.write(offset, data).or(Err(MEMORY_FAILED))?,
            _ => {}
        }
        Ok(())
    }

    fn reset(&mut self, cause: Reset) {
        self.log.push(Event::Reset(cause));
        self.config.reset();
        self.registers.fill(0);
        self.interrupts.set_intx(false);
        self.is_stopped = false;
        let is_mapped = self.regions.any_mapped();
        if cause == Reset::Close && is_mapped {
            // The client that left may still have the old files mapped.
            let fresh = |name, len: u32| self.keep.memory(name, len.into());
            let whole = fresh(WHOLE_NAME, Self::WHOLE);
            if let (Ok(whole), Ok(parts)) = (whole, fresh(PARTS_NAME, Self::PARTS)) {
                (self.whole, self.parts) = (whole, parts);
                self.give_memory();
            }
        }
    }

    fn migration(&mut self) -> Option<&mut dyn Migration> {
        Some(self)
    }
}

fn config() -> ConfigSpace {
    let memory = |size| Bar::Memory32 {
        size,
        prefetchable: false,
    };
    ConfigSpace::new(IDENTITY)
        .with_bar(
            RegionIndex::Bar0,
            Bar::Io {
                size: FakeDevice::REGISTERS,
            },
        )
        .with_bar(RegionIndex::Bar1, memory(FakeDevice::WHOLE))
        .with_bar(RegionIndex::Bar2, memory(FakeDevice::PARTS))
        .with_bar(RegionIndex::Bar4, memory(0x1000))
        .with_rom(FakeDevice::ROM)
        .with_interrupt_pin(Pin::A)
        .with_capability(Capability::PowerManagement)
        .with_capability(Capability::Msi {
            vectors: FakeDevice::MSI,
        })
        .with_capability(Capability::Msix {
            vectors: FakeDevice::MSIX,
            table: (RegionIndex::Bar4, 0),
            pba: (RegionIndex::Bar4, 0x800),
        })
        .with_capability(Capability::Express {
            kind: ExpressKind::Endpoint,
        })
}
