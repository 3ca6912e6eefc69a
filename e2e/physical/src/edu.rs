//! The registers of the educational device, as QEMU documents them in `docs/specs/edu.rst`.

use std::thread;
use std::time::{Duration, Instant};

use mdev::host::{HostDevice, RegionMapping};

use crate::Failure;

pub(crate) const BAR: u32 = 0;
pub(crate) const BAR_LEN: u64 = 1 << 20;

pub(crate) const IDENTIFICATION: usize = 0x00;
pub(crate) const LIVENESS: usize = 0x04;
const FACTORIAL: usize = 0x08;
const STATUS: usize = 0x20;
const RAISE: usize = 0x60;
const ACKNOWLEDGE: usize = 0x64;
const SOURCE: usize = 0x80;
const DESTINATION: usize = 0x88;
const COUNT: usize = 0x90;
const COMMAND: usize = 0x98;

const STATUS_COMPUTING: u32 = 1;
const START: u32 = 1;
const TO_MEMORY: u32 = 2;
const INTERRUPT: u32 = 4;

/// The length of the buffer in the device that transfers go to and come from.
pub(crate) const BUFFER_LEN: usize = 4096;
/// Where it is, in the device's view.
const BUFFER: u32 = 0x40000;

/// How long the device may take for anything; a transfer takes a tenth of a second.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Which way a transfer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    ToDevice,
    ToMemory,
}

/// An educational device that answers, and is a bus master.
pub(crate) struct Edu {
    pub(crate) host: HostDevice,
    registers: RegionMapping,
}

impl Edu {
    pub(crate) fn new(host: HostDevice) -> Result<Self, Failure> {
        host.set_memory(true)?;
        host.set_bus_master(true)?;
        let registers = host.map(BAR, 0, BAR_LEN)?;
        Ok(Self { host, registers })
    }

    pub(crate) fn load(&self, register: usize) -> Result<u32, Failure> {
        let value = self.registers.read_u32(register);
        value.ok_or_else(|| format!("there is no register {register:#x}").into())
    }

    pub(crate) fn store(&self, register: usize, value: u32) -> Result<(), Failure> {
        let stored = self.registers.write_u32(register, value);
        stored.ok_or_else(|| format!("there is no register {register:#x}").into())
    }

    pub(crate) fn factorial(&self, of: u32) -> Result<u32, Failure> {
        self.store(FACTORIAL, of)?;
        self.wait_until("the factorial", STATUS, STATUS_COMPUTING)?;
        self.load(FACTORIAL)
    }

    pub(crate) fn raise(&self) -> Result<(), Failure> {
        self.store(RAISE, 1)
    }

    pub(crate) fn acknowledge(&self) -> Result<(), Failure> {
        self.store(ACKNOWLEDGE, u32::MAX)
    }

    /// Transfers between the device's buffer, from its start, and memory; returns when it says that
    /// it has done so, which it does as well where it could not.
    pub(crate) fn transfer(&self, way: Way, memory: u64, len: usize) -> Result<(), Failure> {
        self.start(way, memory, len, 0)?;
        self.wait_until("a transfer", COMMAND, START)
    }

    /// The same, with an interrupt at its end, for which the caller waits.
    pub(crate) fn start_with_interrupt(
        &self,
        way: Way,
        memory: u64,
        len: usize,
    ) -> Result<(), Failure> {
        self.start(way, memory, len, INTERRUPT)
    }

    fn start(&self, way: Way, memory: u64, len: usize, flags: u32) -> Result<(), Failure> {
        let memory = u32::try_from(memory)?;
        let (source, destination, to) = match way {
            Way::ToDevice => (memory, BUFFER, 0),
            Way::ToMemory => (BUFFER, memory, TO_MEMORY),
        };
        self.store(SOURCE, source)?;
        self.store(DESTINATION, destination)?;
        self.store(COUNT, u32::try_from(len)?)?;
        self.store(COMMAND, START | to | flags)
    }

    fn wait_until(&self, what: &str, register: usize, busy: u32) -> Result<(), Failure> {
        let end = Instant::now() + PATIENCE;
        while self.load(register)? & busy != 0 {
            if Instant::now() > end {
                return Err(format!("{what} does not end").into());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}
