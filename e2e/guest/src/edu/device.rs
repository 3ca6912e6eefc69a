//! The device's registers, as QEMU documents them in `docs/specs/edu.rst`.

use std::fs::{File, OpenOptions};
use std::hint;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::mapping::Mapping;
use crate::Failure;

/// The length of the buffer in the device that transfers go to and come from.
pub(super) const BUFFER_LEN: usize = 4096;
/// The buffer's address, in the device's view.
const BUFFER: u64 = 0x40000;

const BAR_LEN: usize = 1 << 20;

const IDENTIFICATION: usize = 0x00;
const LIVENESS: usize = 0x04;
const FACTORIAL: usize = 0x08;
const STATUS: usize = 0x20;
const INTERRUPT_STATUS: usize = 0x24;
const INTERRUPT_RAISE: usize = 0x60;
const INTERRUPT_ACKNOWLEDGE: usize = 0x64;
const DMA_SOURCE: usize = 0x80;
const DMA_DESTINATION: usize = 0x88;
const DMA_COUNT: usize = 0x90;
const DMA_COMMAND: usize = 0x98;
/// Not in QEMU's device: why the last transfer failed.
const DMA_ERRNO: usize = 0xa0;

/// Nor is this one: there only for who asked for it.
const PANIC: usize = 0xc0;

/// Nor these: how many spins wait or run, and how many have ended.
const SPIN: usize = 0xc8;
const SPINS_ENDED: usize = 0xd0;
/// So many may wait.
const MOST_SPINS: u32 = 16;

const ID: u32 = 0x0100_00ed;
const STATUS_COMPUTING: u32 = 0x01;
const STATUS_INTERRUPT: u32 = 0x80;
const DMA_START: u32 = 1;
const DMA_TO_MEMORY: u32 = 2;
const DMA_INTERRUPT: u32 = 4;

/// `linux/pci_regs.h`.
const PCI_COMMAND: u64 = 4;
const PCI_COMMAND_MEMORY: u16 = 1 << 1;
const PCI_COMMAND_MASTER: u16 = 1 << 2;
const PCI_COMMAND_INTX_DISABLE: u16 = 1 << 10;
const PCI_STATUS: u64 = 6;
const PCI_STATUS_INTERRUPT: u16 = 1 << 3;

/// How long the device may take for anything.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Which way a transfer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    ToDevice,
    ToMemory,
}

/// Whether a transfer interrupts when it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Silent,
    Interrupt,
}

/// A part of the device's buffer, and what of memory belongs to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    pub(super) way: Way,
    pub(super) physical: u64,
    pub(super) at: usize,
    pub(super) len: usize,
}

/// The device at a PCI function.
pub(super) struct Device {
    sysfs: PathBuf,
    config: File,
    registers: Mapping,
}

impl Device {
    /// Opens the device, and lets it answer and transfer.
    pub(super) fn open(function: &str) -> Result<Self, Failure> {
        let sysfs = Path::new("/sys/bus/pci/devices").join(function);
        let open = |name| {
            let path = sysfs.join(name);
            let file = OpenOptions::new().read(true).write(true).open(&path);
            file.map_err(|error| format!("{}: {error}", path.display()))
        };
        let config = open("config")?;
        let registers = Mapping::of_file(&open("resource0")?, BAR_LEN)?;
        let device = Self {
            sysfs,
            config,
            registers,
        };
        device.command(|word| word | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER)?;
        device.check_alive()?;
        Ok(device)
    }

    /// Writes to the register that ends the process which serves the device, and has it answer.
    pub(super) fn panic(&self) {
        self.registers.store(PANIC, 1);
        self.registers.load(IDENTIFICATION);
    }

    /// Has spins of so many microseconds wait, as many as may.
    pub(super) fn feed_spins(&self, micros: u32) {
        for _ in self.registers.load(SPIN)..MOST_SPINS {
            self.registers.store(SPIN, micros);
        }
    }

    /// How many spins have ended, as far as 32 bits go.
    pub(super) fn spins_ended(&self) -> u32 {
        self.registers.load(SPINS_ENDED)
    }

    /// Its folder in sysfs.
    pub(super) fn sysfs(&self) -> &Path {
        &self.sysfs
    }

    fn check_alive(&self) -> Result<(), Failure> {
        let id = self.registers.load(IDENTIFICATION);
        self.registers.store(LIVENESS, 0x1234_5678);
        let inverted = self.registers.load(LIVENESS);
        if (id, inverted) == (ID, !0x1234_5678) {
            Ok(())
        } else {
            Err(format!("no edu: id {id:#x}, liveness {inverted:#x}").into())
        }
    }

    /// Lets the interrupt pin interrupt, as it does until a driver has handled one interrupt.
    pub(super) fn enable_interrupt(&self) -> Result<(), Failure> {
        self.command(|word| word & !PCI_COMMAND_INTX_DISABLE)
    }

    /// Whether the device wants to interrupt, even with its pin off.
    pub(super) fn is_interrupting(&self) -> Result<bool, Failure> {
        Ok(self.config_word(PCI_STATUS)? & PCI_STATUS_INTERRUPT != 0)
    }

    fn command(&self, change: impl FnOnce(u16) -> u16) -> Result<(), Failure> {
        let word = change(self.config_word(PCI_COMMAND)?).to_le_bytes();
        Ok(self.config.write_all_at(&word, PCI_COMMAND)?)
    }

    fn config_word(&self, at: u64) -> Result<u16, Failure> {
        let mut word = [0; 2];
        self.config.read_exact_at(&mut word, at)?;
        Ok(u16::from_le_bytes(word))
    }

    /// Starts a transfer, and waits until it has ended, well or not.
    pub(super) fn transfer(&self, transfer: Transfer) -> Result<(), Failure> {
        self.start(transfer, Ending::Silent);
        self.wait_transfer()
    }

    /// Starts a transfer.
    pub(super) fn start(&self, transfer: Transfer, ending: Ending) {
        let Transfer {
            way,
            physical,
            at,
            len,
        } = transfer;
        let buffer = BUFFER + at as u64;
        let (source, destination) = match way {
            Way::ToDevice => (physical, buffer),
            Way::ToMemory => (buffer, physical),
        };
        self.registers.store_long(DMA_SOURCE, source);
        self.registers.store_long(DMA_DESTINATION, destination);
        self.registers.store_long(DMA_COUNT, len as u64);
        let mut command = DMA_START;
        if way == Way::ToMemory {
            command |= DMA_TO_MEMORY;
        }
        if ending == Ending::Interrupt {
            command |= DMA_INTERRUPT;
        }
        self.registers.store(DMA_COMMAND, command);
    }

    /// Waits until no transfer is under way.
    pub(super) fn wait_transfer(&self) -> Result<(), Failure> {
        self.wait_clear(DMA_COMMAND, DMA_START)
    }

    /// Why the last transfer failed; 0 if it did not.
    pub(super) fn transfer_errno(&self) -> u32 {
        self.registers.load(DMA_ERRNO)
    }

    /// Has a factorial computed, and an interrupt raised when it is there.
    pub(super) fn start_factorial(&self, n: u32) {
        self.registers.store(STATUS, STATUS_INTERRUPT);
        self.registers.store(FACTORIAL, n);
    }

    /// Waits for a factorial that was started, and reads it.
    pub(super) fn wait_factorial(&self) -> Result<u32, Failure> {
        self.wait_clear(STATUS, STATUS_COMPUTING)?;
        Ok(self.registers.load(FACTORIAL))
    }

    /// Raises an interrupt for each bit of a number.
    pub(super) fn raise(&self, bits: u32) {
        self.registers.store(INTERRUPT_RAISE, bits);
    }

    /// The interrupts that nobody has acknowledged.
    pub(super) fn interrupts(&self) -> u32 {
        self.registers.load(INTERRUPT_STATUS)
    }

    /// Takes interrupts back.
    pub(super) fn acknowledge(&self, bits: u32) {
        self.registers.store(INTERRUPT_ACKNOWLEDGE, bits);
    }

    fn wait_clear(&self, register: usize, bit: u32) -> Result<(), Failure> {
        let started = Instant::now();
        while self.registers.load(register) & bit != 0 {
            if started.elapsed() > PATIENCE {
                return Err(format!("bit {bit:#x} of register {register:#x} stays").into());
            }
            hint::spin_loop();
        }
        Ok(())
    }
}
