//! What a guest and its VMM do with an educational device that is served to them.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant;

use drivers::edu::registers::{Register, command};
use mdev::irq::IrqIndex;
use mdev::region_memory::RegionMemory;
use vfu::client::Client;
use vfu::wire::dma::{DmaFlags, DmaMap, DmaUnmap};
use vfu::wire::irq::{IrqAction, IrqData, SetIrqs};
use vfu::wire::version::Capabilities;

use crate::Failure;
use crate::edu::PATIENCE;
use crate::eventfd::Eventfd;

const BAR: u32 = 0;
const CONFIG: u32 = 7;
const COMMAND: u64 = 4;
const MEMORY_AND_BUS_MASTER: u16 = 0b110;

pub(crate) const PAGE: u64 = 4096;
/// Where the device sees its buffer.
pub(crate) const BUFFER: u64 = 0x4_0000;
/// Where the guest has its memory: the same for all guests.
pub(crate) const MEMORY: u64 = 0x80_0000;

/// A transfer, as the registers take it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    pub(crate) to_memory: bool,
    /// In the guest's memory.
    pub(crate) memory: u64,
    /// In the device's buffer.
    pub(crate) at: u64,
    pub(crate) len: u64,
}

/// A guest with memory of which its VMM has a file, and its device.
pub(crate) struct Guest {
    pub(crate) client: Client,
    file: RegionMemory,
    event: Eventfd,
    irq: IrqIndex,
}

impl Guest {
    /// With so many pages of memory at [`MEMORY`], of which devices may only read the last. The device
    /// interrupts by `irq`.
    pub(crate) fn new(socket: UnixStream, pages: u64, irq: IrqIndex) -> Result<Self, Failure> {
        let offer = Capabilities {
            max_msg_fds: Some(16),
            ..Capabilities::default()
        };
        let mut guest = Self {
            client: Client::negotiate(socket.into(), offer)?,
            file: RegionMemory::new("guest", pages * PAGE)?,
            event: Eventfd::new()?,
            irq,
        };
        let command = MEMORY_AND_BUS_MASTER.to_le_bytes();
        guest.client.region_write(CONFIG, COMMAND, &command)?;
        guest.map(0, pages - 1, DmaFlags::READ | DmaFlags::WRITE)?;
        guest.map(pages - 1, 1, DmaFlags::READ)?;
        let event = guest.event.as_fd().try_clone_to_owned()?;
        let set = SetIrqs {
            index: irq as u32,
            start: 0,
            count: 1,
            action: IrqAction::Trigger,
            data: IrqData::Eventfd(vec![Some(event)]),
        };
        guest.client.set_irqs(&set)?;
        Ok(guest)
    }

    /// Lets devices reach so many pages of memory.
    pub(crate) fn map(&mut self, first: u64, count: u64, flags: DmaFlags) -> Result<(), Failure> {
        let map = DmaMap {
            flags,
            offset: first * PAGE,
            iova: MEMORY + first * PAGE,
            size: count * PAGE,
        };
        let file: OwnedFd = Arc::clone(self.file.file()).try_clone()?;
        Ok(self.client.dma_map(&map, Some(file.as_fd()))?)
    }

    /// Takes them away again: all that were given together.
    pub(crate) fn unmap(&mut self, first: u64, count: u64) -> Result<(), Failure> {
        let unmap = DmaUnmap::One {
            iova: MEMORY + first * PAGE,
            size: count * PAGE,
        };
        Ok(self.client.dma_unmap(&unmap)?)
    }

    /// Writes to memory, as the guest does.
    pub(crate) fn fill(&self, offset: u64, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.file.write(offset, bytes)?)
    }

    /// All of the memory.
    pub(crate) fn memory(&self) -> Result<Vec<u8>, Failure> {
        let mut bytes = vec![0; usize::try_from(self.file.len())?];
        self.file.read(0, &mut bytes)?;
        Ok(bytes)
    }

    pub(crate) fn load(&mut self, register: Register) -> Result<u32, Failure> {
        let mut value = [0; 4];
        self.client.region_read(BAR, register as u64, &mut value)?;
        Ok(u32::from_le_bytes(value))
    }

    pub(crate) fn store(&mut self, register: Register, value: u32) -> Result<(), Failure> {
        let bytes = value.to_le_bytes();
        Ok(self.client.region_write(BAR, register as u64, &bytes)?)
    }

    fn store_wide(&mut self, register: Register, value: u64) -> Result<(), Failure> {
        let bytes = value.to_le_bytes();
        Ok(self.client.region_write(BAR, register as u64, &bytes)?)
    }

    /// Starts a transfer that interrupts at its end.
    pub(crate) fn start(&mut self, transfer: Transfer) -> Result<(), Failure> {
        let buffer = BUFFER.wrapping_add(transfer.at);
        let (source, destination, way) = match transfer.to_memory {
            false => (transfer.memory, buffer, 0),
            true => (buffer, transfer.memory, command::TO_RAM),
        };
        self.store_wide(Register::DmaSource, source)?;
        self.store_wide(Register::DmaDestination, destination)?;
        self.store_wide(Register::DmaCount, transfer.len)?;
        let command = command::START | command::INTERRUPT | way;
        self.store_wide(Register::DmaCommand, command)
    }

    /// Waits for the interrupt that ends a transfer: one, and for no other reason. Returns its errno.
    pub(crate) fn finish(&mut self) -> Result<i32, Failure> {
        crate::expect("interrupts", &self.event.wait()?, &1)?;
        self.ended()
    }

    /// The same where whoever serves was replaced meanwhile: each of the two may have told of the end.
    pub(crate) fn finish_after_both(&mut self) -> Result<i32, Failure> {
        crate::expect(
            "interrupts of both",
            &(1..=2).contains(&self.event.wait()?),
            &true,
        )?;
        self.ended()
    }

    /// What the registers say of a transfer that has ended.
    fn ended(&mut self) -> Result<i32, Failure> {
        self.acknowledge()
    }

    /// The same, where whoever served it has died meanwhile: another may have told of it once more.
    pub(crate) fn finish_again(&mut self) -> Result<i32, Failure> {
        self.event.wait()?;
        let errno = self.acknowledge()?;
        self.event.take()?;
        Ok(errno)
    }

    fn acknowledge(&mut self) -> Result<i32, Failure> {
        let command = u64::from(self.load(Register::DmaCommand)?);
        crate::expect("a transfer under way", &(command & command::START), &0)?;
        let causes = self.load(Register::InterruptStatus)?;
        crate::expect("causes", &causes, &drivers::edu::registers::cause::DMA)?;
        self.store(Register::InterruptAcknowledge, causes)?;
        if self.irq == IrqIndex::Intx {
            let unmask = SetIrqs {
                index: self.irq as u32,
                start: 0,
                count: 1,
                action: IrqAction::Unmask,
                data: IrqData::None,
            };
            self.client.set_irqs(&unmask)?;
        }
        Ok(self.load(Register::DmaError)?.cast_signed())
    }

    /// Does all of a transfer, and returns its errno.
    pub(crate) fn transfer(&mut self, transfer: Transfer) -> Result<i32, Failure> {
        self.start(transfer)?;
        self.finish()
    }

    /// How many interrupts came that nobody waited for.
    pub(crate) fn spurious(&self) -> Result<u64, Failure> {
        self.event.take()
    }

    /// Tries the registers that are each guest's own.
    pub(crate) fn check_registers(&mut self, number: u32) -> Result<(), Failure> {
        let id = self.load(Register::Identification)?;
        crate::expect("the identification", &id, &0x0100_00ed)?;
        self.store(Register::Liveness, number)?;
        self.store(Register::Factorial, number)?;
        let end = Instant::now() + PATIENCE;
        while self.load(Register::Status)? & 1 != 0 {
            if Instant::now() > end {
                return Err("a factorial does not end".into());
            }
        }
        let product: u32 = (1..=number).product();
        crate::expect("a factorial", &self.load(Register::Factorial)?, &product)?;
        crate::expect("liveness", &self.load(Register::Liveness)?, &!number)
    }
}
