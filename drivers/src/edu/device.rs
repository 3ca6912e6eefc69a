//! The PCI function and its registers. They belong to the session's thread; what takes time is
//! the engine's.

use std::io;
use std::sync::Arc;

use mdev::device::{AttributeError, Fault, Reset};
use mdev::dma::IovaRange;
use mdev::keep::Keep;
use mdev::pci::ConfigSpace;
use mdev::region::{RegionIndex, Regions};
use mdev::region_memory::RegionMemory;
use mdev::{Attributes, MediatedDevice, Migration, Services};

use super::ended::STORE_LEN;
use super::engine::{Engine, TransferJob};
use super::interrupt::Interrupt;
use super::model::{MEMORY, MEMORY_LEN, Model};
use super::mover::{Copier, Mover};
use super::registers::{IDENTIFICATION, PANIC, Register, command, status};
use super::settings::{DMA, DMA_MASK, PANIC_REGISTER, SPIN_REGISTER, Settings, Way};
use super::transfer::{Direction, Request};
use crate::switch;

const NO_REGISTER: Fault = Fault("no register takes this access");
const MEMORY_FAILED: Fault = Fault("the memory could not be reached");

/// One educational device.
#[derive(Debug)]
pub(crate) struct EduDevice {
    pub(super) model: Model,
    config: ConfigSpace,
    regions: Regions,
    pub(super) settings: Settings,
    pub(super) registers: Registers,
    pub(super) interrupt: Arc<Interrupt>,
    pub(super) engine: Engine,
    /// Of [`Model::Full`]; without it only if the kernel had none to give when a client left.
    pub(super) memory: Option<RegionMemory>,
    /// How many transfers were begun, since the device was made: a reset does not end the count.
    pub(super) transfers: u64,
    /// Where the engine's thread stores the buffer and what has ended, if that is to outlive this process.
    pub(super) buffer: Option<Arc<RegionMemory>>,
    keep: Keep,
}

/// The registers that only the guest changes.
#[derive(Debug, Default)]
pub(super) struct Registers {
    pub(super) liveness: u32,
    pub(super) source: u64,
    pub(super) destination: u64,
    pub(super) count: u64,
    /// [`command::START`] stays set in it; the engine knows whether it has ended.
    pub(super) command: u64,
}

/// Names of the memory files, as `/proc/PID/maps` shows them.
const MEMORY_NAME: &str = "vgpud-edu-memory";
const BUFFER_NAME: &str = "vgpud-edu-buffer";

/// The memory of a fresh device.
fn fresh_memory(model: Model, keep: &Keep) -> io::Result<Option<RegionMemory>> {
    match model {
        Model::Plain | Model::Shared => Ok(None),
        Model::Full => keep.memory(MEMORY_NAME, MEMORY_LEN.into()).map(Some),
    }
}

/// Where the buffer is, and what has ended: at the start a page that another process finds again, if
/// something keeps it.
pub(crate) fn store(keep: &Keep) -> io::Result<Arc<RegionMemory>> {
    keep.memory(BUFFER_NAME, STORE_LEN).map(Arc::new)
}

impl EduDevice {
    /// A device as it is just after power-on.
    pub(super) fn new(model: Model, settings: Settings, services: Services) -> io::Result<Self> {
        let outlasting = services.keep.is_active();
        let store = outlasting.then(|| store(&services.keep)).transpose()?;
        let mover = Copier::new(store.clone());
        Self::moved_by(model, settings, services, store, Box::new(mover))
    }

    /// The same; `mover` has its buffer, which is in `store` as well.
    pub(crate) fn moved_by(
        model: Model,
        settings: Settings,
        services: Services,
        buffer: Option<Arc<RegionMemory>>,
        mover: Box<dyn Mover>,
    ) -> io::Result<Self> {
        let config = model.config();
        let interrupt = Arc::new(Interrupt::new(services.interrupts));
        let keep = services.keep;
        let memory = fresh_memory(model, &keep)?;
        Ok(Self {
            model,
            regions: Model::regions(&config, memory.as_ref()),
            config,
            settings,
            registers: Registers::default(),
            transfers: 0,
            engine: Engine::start(
                services.memory,
                services.engine,
                Arc::clone(&interrupt),
                buffer.clone(),
                mover,
            )?,
            interrupt,
            memory,
            buffer,
            keep,
        })
    }

    /// The memory, if this is the region that it is.
    fn memory_at(&self, region: RegionIndex) -> Option<&RegionMemory> {
        self.memory.as_ref().filter(|_| region == MEMORY)
    }

    /// Clears the memory; the next client, if there is one, gets a fresh file.
    fn reset_memory(&mut self, cause: Reset) {
        let Some(memory) = &self.memory else {
            return;
        };
        if cause != Reset::Close && memory.clear().is_ok() {
            return;
        }
        self.memory = fresh_memory(self.model, &self.keep)
            .inspect_err(|error| tracing::error!(%error, "cannot allocate fresh memory"))
            .unwrap_or_default();
        self.regions = Model::regions(&self.config, self.memory.as_ref());
    }

    /// The register of an access.
    fn locate(&self, region: RegionIndex, offset: u64, len: usize) -> Result<Register, Fault> {
        if region != RegionIndex::Bar0 {
            return Err(Fault("the device has no such region"));
        }
        let is_there = |register: &Register| {
            self.settings.has_spin_register
                || !matches!(register, Register::Spin | Register::SpinsEnded)
        };
        let register = Register::find(offset, len).filter(is_there);
        register.ok_or(NO_REGISTER)
    }

    /// The value of a register; `None` if it cannot be read.
    fn register(&self, register: Register) -> Option<u64> {
        let state = self.engine.state();
        Some(match register {
            Register::Identification => IDENTIFICATION.into(),
            Register::Liveness => self.registers.liveness.into(),
            Register::Factorial => state.factorial.into(),
            Register::Status => {
                let computing = bits_if(state.is_computing, status::COMPUTING);
                let interrupt = bits_if(
                    state.interrupt_after_factorial,
                    status::INTERRUPT_AFTER_FACTORIAL,
                );
                (computing | interrupt).into()
            }
            Register::InterruptStatus => self.interrupt.causes().into(),
            Register::InterruptRaise | Register::InterruptAcknowledge | Register::DmaDoorbell => {
                return None;
            }
            Register::DmaSource => self.registers.source,
            Register::DmaDestination => self.registers.destination,
            Register::DmaCount => self.registers.count,
            Register::DmaCommand if state.is_transferring => self.registers.command,
            Register::DmaCommand => self.registers.command & !command::START,
            Register::DmaError => u64::from(state.dma_error.unsigned_abs()),
            Register::DmaFailures => state.dma_failures,
            Register::Spin => state.spins.len() as u64,
            Register::SpinsEnded => state.spins_ended,
        })
    }

    /// Writes a register. Those that are read only ignore it.
    fn set_register(&mut self, register: Register, value: u64) {
        let low = value as u32;
        let is_transferring = self.engine.state().is_transferring;
        match register {
            Register::Liveness => self.registers.liveness = !low,
            Register::Factorial => self.engine.compute(low),
            Register::Status => self
                .engine
                .set_interrupt_after_factorial(low & status::INTERRUPT_AFTER_FACTORIAL != 0),
            Register::InterruptRaise => self.interrupt.raise(low),
            Register::InterruptAcknowledge => self.interrupt.acknowledge(low),
            Register::DmaSource if !is_transferring => self.registers.source = value,
            Register::DmaDestination if !is_transferring => self.registers.destination = value,
            Register::DmaCount if !is_transferring => self.registers.count = value,
            Register::DmaCommand if !is_transferring => self.command(value),
            Register::DmaDoorbell if !is_transferring => self.command(self.registers.command),
            Register::Spin => self.engine.spin(low),
            Register::DmaSource
            | Register::DmaDestination
            | Register::DmaCount
            | Register::DmaCommand
            | Register::DmaDoorbell
            | Register::Identification
            | Register::InterruptStatus
            | Register::DmaError
            | Register::DmaFailures
            | Register::SpinsEnded => {}
        }
    }

    /// Starts a transfer, if the command says so.
    fn command(&mut self, value: u64) {
        if value & command::START == 0 {
            return;
        }
        self.registers.command = value;
        self.transfers = self.transfers.wrapping_add(1);
        self.transfer();
    }

    /// Starts the transfer that the registers describe: the last that was begun, maybe once more.
    pub(super) fn transfer(&mut self) {
        let value = self.registers.command;
        let request = Request {
            direction: match value & command::TO_RAM {
                0 => Direction::FromRam,
                _ => Direction::ToRam,
            },
            source: self.registers.source,
            destination: self.registers.destination,
            count: self.registers.count,
        };
        self.engine.transfer(TransferJob {
            number: self.transfers,
            transfer: request.check(self.settings.mask),
            way: self.settings.way,
            interrupt: value & command::INTERRUPT != 0,
        });
    }
}

impl MediatedDevice for EduDevice {
    /// The engine's thread may have changed the level of the pin since the last look.
    fn config(&mut self) -> &mut ConfigSpace {
        self.config
            .set_interrupt_status(self.interrupt.is_asserted());
        &mut self.config
    }

    fn regions(&self) -> &Regions {
        &self.regions
    }

    fn read(&mut self, region: RegionIndex, offset: u64, data: &mut [u8]) -> Result<(), Fault> {
        if let Some(memory) = self.memory_at(region) {
            return memory.read(offset, data).or(Err(MEMORY_FAILED));
        }
        let register = self.locate(region, offset, data.len())?;
        let value = self.register(register).ok_or(NO_REGISTER)?;
        for (byte, value) in data.iter_mut().zip(value.to_le_bytes()) {
            *byte = value;
        }
        Ok(())
    }

    /// Four bytes written to a register of eight are its low half; the high half becomes 0.
    fn write(&mut self, region: RegionIndex, offset: u64, data: &[u8]) -> Result<(), Fault> {
        if let Some(memory) = self.memory_at(region) {
            return memory.write(offset, data).or(Err(MEMORY_FAILED));
        }
        assert!(
            !self.settings.has_panic_register || (region, offset) != (RegionIndex::Bar0, PANIC),
            "the guest wrote to the register that is there for that"
        );
        let register = self.locate(region, offset, data.len())?;
        let mut value = [0; 8];
        for (value, byte) in value.iter_mut().zip(data) {
            *value = *byte;
        }
        self.set_register(register, u64::from_le_bytes(value));
        Ok(())
    }

    fn reset(&mut self, cause: Reset) {
        // First, since what is under way may still interrupt.
        self.engine.reset();
        self.registers = Registers::default();
        self.interrupt.acknowledge(u32::MAX);
        self.config.reset();
        self.reset_memory(cause);
    }

    fn migration(&mut self) -> Option<&mut dyn Migration> {
        let has_all = self.model != Model::Full || self.memory.is_some();
        has_all.then_some(self as &mut dyn Migration)
    }

    fn dma_unmap(&mut self, range: IovaRange) {
        // One that waits for its turn may begin meanwhile: it pins, and the unmap waits for its pins.
        self.engine.finish_in(range);
    }

    fn attributes(&self) -> Vec<(&'static str, String)> {
        vec![
            (DMA, self.settings.way.to_string()),
            (DMA_MASK, self.settings.mask.to_string()),
            (
                PANIC_REGISTER,
                switch::word(self.settings.has_panic_register),
            ),
            (SPIN_REGISTER, switch::word(self.settings.has_spin_register)),
        ]
    }

    fn set_attribute(&mut self, name: &str, value: &str) -> Result<(), AttributeError> {
        match name {
            DMA => {
                self.settings.way = Way::parse(value)?;
                Ok(())
            }
            DMA_MASK | PANIC_REGISTER | SPIN_REGISTER => {
                // A value that a new device would not take either is no reason to make one.
                let value = (name.to_owned(), value.to_owned());
                Settings::parse(&Attributes(vec![value]))?;
                Err(AttributeError::Fixed(name.to_owned()))
            }
            _ => Err(AttributeError::Unknown(name.to_owned())),
        }
    }
}

/// `bits` if the condition holds, else 0.
fn bits_if(condition: bool, bits: u32) -> u32 {
    if condition { bits } else { 0 }
}
