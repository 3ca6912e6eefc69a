//! The registers and the interrupt of the physical device.

use std::fmt::Debug;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use mdev::host::{HostDevice, HostError, Interrupt, RegionMapping};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::edu::registers::{BAR_SIZE, IDENTIFICATION, Register};

/// The region of the registers.
const BAR: u32 = 0;

/// An educational device, as what shares it sees it.
pub(super) trait Hardware: Debug + Send + Sync {
    /// Reads a register; all ones if the device is not there any more.
    fn load(&self, register: Register) -> u32;

    /// Writes a register. One of eight bytes has zeroes above then.
    fn store(&self, register: Register, value: u32);

    /// Sleeps until the device has interrupted, or until `limit` is over.
    fn wait(&self, limit: Duration);

    /// Whether it may reach memory. One that may not is quiet.
    fn set_bus_master(&self, on: bool) -> Result<(), HostError>;

    /// Resets it; `false` if that cannot be done.
    fn reset(&self) -> bool;
}

/// The one behind the kernel's VFIO.
#[derive(Debug)]
pub(super) struct Physical {
    device: HostDevice,
    registers: RegionMapping,
    /// What it interrupts.
    event: OwnedFd,
}

impl Physical {
    /// Takes the device. It is no bus master.
    pub(super) fn new(device: HostDevice) -> Result<Self, HostError> {
        device.set_bus_master(false)?;
        if device.can_reset() {
            device.reset()?;
        }
        device.set_memory(true)?;
        let registers = device.map(BAR, 0, BAR_SIZE.into())?;
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let event = event.map_err(|error| HostError::Call {
            what: "make an eventfd",
            source: error.into(),
        })?;
        let physical = Self {
            device,
            registers,
            event,
        };
        let found = physical.load(Register::Identification);
        if found != IDENTIFICATION {
            let words = format!("it says that it is {found:#x}, which no edu is");
            return Err(HostError::Call {
                what: "know the device",
                source: io::Error::new(io::ErrorKind::InvalidData, words),
            });
        }
        let device = &physical.device;
        device.signal(Interrupt::Msi, &[physical.event.as_fd()])?;
        Ok(physical)
    }

    pub(super) fn device(&self) -> &HostDevice {
        &self.device
    }
}

impl Hardware for Physical {
    fn load(&self, register: Register) -> u32 {
        let value = self.registers.read_u32(register as usize);
        value.unwrap_or(u32::MAX)
    }

    fn store(&self, register: Register, value: u32) {
        // All registers lie in the mapping.
        let _ = self.registers.write_u32(register as usize, value);
    }

    fn wait(&self, limit: Duration) {
        let limit = Timespec {
            tv_sec: limit.as_secs() as i64,
            tv_nsec: limit.subsec_nanos().into(),
        };
        // A wait that is interrupted is over early: whoever waits looks again.
        let _ = poll(&mut [PollFd::new(&self.event, PollFlags::IN)], Some(&limit));
        let _ = rustix::io::read(&self.event, &mut [0; 8]);
    }

    fn set_bus_master(&self, on: bool) -> Result<(), HostError> {
        self.device.set_bus_master(on)
    }

    fn reset(&self) -> bool {
        self.device.can_reset()
            && self.device.reset().is_ok()
            && self.device.set_memory(true).is_ok()
    }
}
