//! A device that is none: it reaches what its IOMMU maps, by this process's own memory file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use mdev::dma::pin::DeviceIommu;
use mdev::dma::{Iova, IovaRange};
use mdev::host::HostError;
use vm_memory::VolatileSlice;

use crate::edu::registers::{Register, command};
use crate::edu::transfer::{BUFFER, BUFFER_LEN, Buffer};
use crate::edu_host::hardware::Hardware;

const PAGE: u64 = 4096;

/// A device and its IOMMU; clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Fake(Arc<Mutex<State>>);

#[derive(Debug)]
pub(super) struct State {
    /// The memory of this process.
    own: File,
    /// Where a page of the device's lies in this process, and whether it may be written.
    pages: BTreeMap<u64, (u64, bool)>,
    next_page: u64,
    registers: BTreeMap<u64, u32>,
    buffer: Buffer,
    is_bus_master: bool,
    /// Transfers do not end, until [`Fake::go_on`].
    pub(super) is_stuck: bool,
    pub(super) can_reset: bool,
    pub(super) resets: u32,
    begun: u64,
    faults: u64,
}

impl Fake {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            own: File::options()
                .read(true)
                .write(true)
                .open("/proc/self/mem")
                .unwrap(),
            pages: BTreeMap::new(),
            next_page: 1,
            registers: BTreeMap::new(),
            // What another had there.
            buffer: [0xee; BUFFER_LEN],
            is_bus_master: false,
            is_stuck: false,
            can_reset: false,
            resets: 0,
            begun: 0,
            faults: 0,
        })))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Pages that the device reaches.
    pub(super) fn mapped(&self) -> usize {
        self.state().pages.len()
    }

    /// Transfers that were begun.
    pub(super) fn begun(&self) -> u64 {
        self.state().begun
    }

    /// Pages that were reached without being mapped, or written without being mapped for that.
    pub(super) fn faults(&self) -> u64 {
        self.state().faults
    }

    pub(super) fn is_bus_master(&self) -> bool {
        self.state().is_bus_master
    }

    /// Ends what is stuck.
    pub(super) fn go_on(&self) {
        let mut state = self.state();
        state.is_stuck = false;
        state.transfer();
    }

    pub(super) fn wait_until_begun(&self, count: u64) {
        for _ in 0..20_000 {
            if self.state().begun >= count {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
        panic!("transfer {count} was never begun");
    }
}

impl State {
    fn register(&self, register: Register) -> u64 {
        let value = self.registers.get(&(register as u64));
        value.copied().unwrap_or(0).into()
    }

    /// Does what the registers say.
    fn transfer(&mut self) {
        let [source, destination, count, word] = [
            Register::DmaSource,
            Register::DmaDestination,
            Register::DmaCount,
            Register::DmaCommand,
        ]
        .map(|register| self.register(register));
        if word & command::START == 0 {
            return;
        }
        let to_memory = word & command::TO_RAM != 0;
        let (memory, buffer) = match to_memory {
            false => (source, destination),
            true => (destination, source),
        };
        for at in 0..count {
            let in_buffer = (buffer - BUFFER + at) as usize;
            self.byte(memory + at, in_buffer, to_memory);
        }
        self.registers
            .insert(Register::DmaCommand as u64, (word & !command::START) as u32);
    }

    fn byte(&mut self, memory: u64, in_buffer: usize, to_memory: bool) {
        if !self.is_bus_master {
            return;
        }
        let page = self.pages.get(&(memory / PAGE)).copied();
        let Some((host, _)) = page.filter(|&(_, may_write)| may_write || !to_memory) else {
            self.faults += 1;
            return;
        };
        let place = host + memory % PAGE;
        let byte = &mut self.buffer[in_buffer..=in_buffer];
        match to_memory {
            false => self.own.read_exact_at(byte, place).unwrap(),
            true => self.own.write_all_at(byte, place).unwrap(),
        }
    }
}

impl Hardware for Fake {
    fn load(&self, register: Register) -> u32 {
        self.state().register(register) as u32
    }

    fn store(&self, register: Register, value: u32) {
        let mut state = self.state();
        state.registers.insert(register as u64, value);
        if register == Register::DmaCommand {
            state.begun += 1;
            if !state.is_stuck {
                state.transfer();
            }
        }
    }

    fn wait(&self, limit: Duration) {
        thread::sleep(limit.min(Duration::from_millis(1)));
    }

    fn set_bus_master(&self, on: bool) -> Result<(), HostError> {
        self.state().is_bus_master = on;
        Ok(())
    }

    fn reset(&self) -> bool {
        let mut state = self.state();
        if state.can_reset {
            state.resets += 1;
            state.is_stuck = false;
            state.registers.clear();
        }
        state.can_reset
    }
}

impl DeviceIommu for Fake {
    fn map(&self, _: Iova, host: &VolatileSlice<'_>, write: bool) -> io::Result<IovaRange> {
        let mut state = self.state();
        let page = state.next_page;
        // Not side by side, so that each page is a job.
        state.next_page += 2;
        let place = host.ptr_guard().as_ptr() as u64;
        state.pages.insert(page, (place, write));
        Ok(IovaRange::new(Iova(page * PAGE), PAGE).unwrap())
    }

    fn unmap(&self, _: Iova, device: IovaRange) {
        let page = self.state().pages.remove(&(device.start().0 / PAGE));
        assert!(page.is_some(), "it is not mapped");
    }
}
