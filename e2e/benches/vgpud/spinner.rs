//! A client of `edu` that has its engine be busy: what is measured of sharing is what it gets.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use vfu::client::Client;
use vfu::wire::irq::{IrqAction, IrqData, SetIrqs};

/// The registers and their bits, as `drivers::edu::registers` has them.
const SPIN: u64 = 0xc8;
const SPINS_ENDED: u64 = 0xd0;
const INTERRUPT: u32 = 1 << 31;
const ACKNOWLEDGE: u64 = 0x64;
const CAUSE_SPIN: u32 = 0x200;
const MSI: u32 = 1;

/// So many spins wait or run at most.
pub(crate) const MOST: u64 = 16;

/// The attribute that it takes.
pub(crate) const ATTRIBUTE: &str = "spin-register=on";

/// Longer than any job here waits.
const LIMIT: Timespec = Timespec {
    tv_sec: 30,
    tv_nsec: 0,
};

pub(crate) struct Spinner {
    client: Client,
    micros: u32,
    /// Can be read when a spin with an interrupt has ended.
    interrupt: OwnedFd,
}

impl Spinner {
    /// A client at `socket` whose jobs take so many microseconds each.
    pub(crate) fn connect(socket: &Path, micros: u32) -> anyhow::Result<Self> {
        let mut client = Client::connect(socket).context("no client of edu")?;
        let interrupt = eventfd(0, EventfdFlags::CLOEXEC)?;
        client.set_irqs(&SetIrqs {
            index: MSI,
            start: 0,
            count: 1,
            action: IrqAction::Trigger,
            data: IrqData::Eventfd(vec![Some(interrupt.try_clone()?)]),
        })?;
        Ok(Self {
            client,
            micros,
            interrupt,
        })
    }

    fn read(&mut self, register: u64) -> anyhow::Result<u64> {
        let mut value = [0; 8];
        self.client.region_read(0, register, &mut value)?;
        Ok(u64::from_le_bytes(value))
    }

    fn write(&mut self, register: u64, value: u32) -> anyhow::Result<()> {
        Ok(self
            .client
            .region_write(0, register, &value.to_le_bytes())?)
    }

    /// Gives it as many jobs as it takes.
    pub(crate) fn feed(&mut self) -> anyhow::Result<()> {
        for _ in self.read(SPIN)?..MOST {
            self.write(SPIN, self.micros)?;
        }
        Ok(())
    }

    /// How long its jobs take from now on.
    pub(crate) fn set_length(&mut self, micros: u32) {
        self.micros = micros;
    }

    /// Whether no job waits or runs.
    pub(crate) fn is_idle(&mut self) -> anyhow::Result<bool> {
        Ok(self.read(SPIN)? == 0)
    }

    /// How many jobs have ended.
    pub(crate) fn ended(&mut self) -> anyhow::Result<u64> {
        self.read(SPINS_ENDED)
    }

    /// How much of the engine its jobs have used.
    pub(crate) fn service(&mut self) -> anyhow::Result<Duration> {
        Ok(Duration::from_micros(
            self.ended()? * u64::from(self.micros),
        ))
    }

    /// One job, from its start to its interrupt.
    pub(crate) fn one(&mut self) -> anyhow::Result<Duration> {
        let begin = Instant::now();
        self.write(SPIN, self.micros | INTERRUPT)?;
        let mut fds = [PollFd::new(&self.interrupt, PollFlags::IN)];
        anyhow::ensure!(poll(&mut fds, Some(&LIMIT))? > 0, "a job does not end");
        let took = begin.elapsed();
        rustix::io::read(&self.interrupt, &mut [0; 8])?;
        self.write(ACKNOWLEDGE, CAUSE_SPIN)?;
        Ok(took)
    }
}
