//! What is saved of a device: the registers, how far each queue is served, and what its type has.

use mdev::Migration;
use mdev::device::Reset;
use mdev::region_memory::RegionMemory;
use mdev::state::{Fields, StateError};

use crate::common::Common;
use crate::signals::isr;
use crate::transport::VirtioPci;

/// What the registers are.
struct Registers {
    common: Common,
    isr: u8,
    needs_reset: bool,
}

impl VirtioPci {
    fn save_registers(&self, out: &mut Vec<u8>) {
        self.common.save(out);
        out.push(self.signals.look_at_isr());
        out.push(u8::from(self.signals.needs_reset()));
    }

    fn load_registers(&self, saved: &mut Fields<'_>) -> Result<Registers, StateError> {
        let registers = Registers {
            common: self.common.restored(saved)?,
            isr: saved.u8()?,
            needs_reset: saved.bool()?,
        };
        if registers.isr & !(isr::QUEUE | isr::CONFIG) != 0 {
            return Err(StateError::registers("no interrupt is like that"));
        }
        Ok(registers)
    }

    fn take(&mut self, registers: Registers) {
        self.common = registers.common;
        self.signals.restore(registers.isr, registers.needs_reset);
        self.follow();
    }
}

impl Migration for VirtioPci {
    fn kind(&self) -> &str {
        self.device.kind()
    }

    fn version(&self) -> u32 {
        1
    }

    fn stop(&mut self) {
        self.engine.set_stopped(true);
        self.device.settle();
    }

    /// What the driver has notified of is looked at again.
    fn resume(&mut self) {
        if self.engine.is_stopped() {
            self.engine.notify(self.notified());
            self.engine.set_stopped(false);
        }
    }

    fn is_stopped(&self) -> bool {
        self.engine.is_stopped()
    }

    fn memories(&self) -> Vec<&RegionMemory> {
        self.device.memories()
    }

    fn save(&mut self, out: &mut Vec<u8>) {
        self.save_registers(out);
        for queue in 0..self.common.queues.len() {
            out.extend(self.ledger.used(queue as u16).to_le_bytes());
        }
        self.device.save(out);
    }

    fn restore(&mut self, _: u32, mut saved: Fields<'_>) -> Result<(), StateError> {
        let registers = self.load_registers(&mut saved)?;
        let used = (0..self.common.queues.len()).map(|_| saved.u64());
        let used = used.collect::<Result<Vec<_>, _>>()?;
        self.device.restore(&mut saved)?;
        // What was done here before is not that of this state.
        self.resets = self.ledger.resets() + 1;
        self.queue_resets.fill(0);
        self.engine.forget();
        self.ledger.begin_reset(self.resets);
        for (queue, used) in (0..).zip(used) {
            self.ledger.set_used(queue, used);
        }
        self.ledger.end_reset(self.resets);
        self.take(registers);
        Ok(())
    }

    fn restored(&mut self) {
        self.device.restored();
    }

    fn checkpoint(&mut self, out: &mut Vec<u8>) -> bool {
        self.save_registers(out);
        for count in [&[self.resets][..], &self.queue_resets].concat() {
            out.extend(count.to_le_bytes());
        }
        self.device.checkpoint(out);
        true
    }

    fn recall(&mut self, _: u32, mut told: Fields<'_>) -> Result<(), StateError> {
        let registers = self.load_registers(&mut told)?;
        let resets = told.u64()?;
        let queue_resets = self.queue_resets.iter().map(|_| told.u64());
        let queue_resets = queue_resets.collect::<Result<Vec<_>, _>>()?;
        let noted = (0..).map(|queue| self.ledger.queue_resets(queue));
        let is_ahead = queue_resets
            .iter()
            .zip(noted)
            .any(|(told, noted)| *told > noted);
        if resets > self.ledger.resets() || (resets == self.ledger.resets() && is_ahead) {
            return Err(StateError::registers("they are of a reset that was not"));
        }
        self.device.recall(&mut told)?;
        if self.ledger.is_resetting() {
            // Whoever began it died before its end. What asked for it comes again.
            let number = self.ledger.resets();
            self.ledger.begin_reset(number);
            self.device.reset(Reset::Device);
            self.ledger.end_reset(number);
        }
        self.resets = resets;
        self.queue_resets = queue_resets;
        self.take(registers);
        self.engine.set_unsure();
        Ok(())
    }
}
