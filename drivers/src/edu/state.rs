//! The state of a device: its registers, what its engine has to do, and the buffer.

use mdev::Migration;
use mdev::region_memory::RegionMemory;
use mdev::state::{Fields, StateError};

use super::device::{EduDevice, Registers};
use super::engine::State;
use super::registers::{command, spin};
use super::transfer::{BUFFER_LEN, Buffer};

impl Migration for EduDevice {
    fn kind(&self) -> &str {
        self.model.name()
    }

    /// The second one has spins at its end.
    fn version(&self) -> u32 {
        match self.settings.has_spin_register {
            false => 1,
            true => 2,
        }
    }

    /// A transfer that waits for the client is begun again by [`Self::resume`]: it may be half
    /// done, and does the same once more.
    fn stop(&mut self) {
        self.engine.stop();
        // What another process had begun and had no time to tell of is not begun again: the next
        // transfer is another one.
        let ended = self.engine.state().ended.number;
        self.transfers = self.transfers.max(ended);
    }

    fn resume(&mut self) {
        if self.engine.resume() {
            self.transfer();
        }
    }

    fn is_stopped(&self) -> bool {
        self.engine.is_stopped()
    }

    fn memories(&self) -> Vec<&RegionMemory> {
        self.memory.iter().collect()
    }

    fn save(&mut self, out: &mut Vec<u8>) {
        self.save_registers(&self.engine.state(), out);
        out.extend(self.engine.buffer());
        self.save_spins(&self.engine.state(), out);
    }

    fn restore(&mut self, version: u32, mut saved: Fields<'_>) -> Result<(), StateError> {
        let mut loaded = self.load_registers(&mut saved)?;
        let buffer = saved.array::<BUFFER_LEN>()?;
        if version > 1 {
            load_spins(&mut loaded.state, &mut saved)?;
        }
        saved.end()?;
        // It is none of those that this device has begun.
        self.transfers = self.transfers.wrapping_add(1);
        self.take(loaded, buffer);
        Ok(())
    }

    /// The buffer is where the engine's thread has stored it: a transfer that was under way is done
    /// again, unless it has ended since.
    fn checkpoint(&mut self, out: &mut Vec<u8>) -> bool {
        let state = self.engine.locked();
        self.save_registers(&state, out);
        out.push(u8::from(state.is_computing));
        out.extend(self.transfers.to_le_bytes());
        self.save_spins(&state, out);
        self.buffer.is_some()
    }

    fn recall(&mut self, version: u32, mut told: Fields<'_>) -> Result<(), StateError> {
        let mut loaded = self.load_registers(&mut told)?;
        loaded.state.is_computing = told.bool()?;
        let transfers = told.u64()?;
        if version > 1 {
            load_spins(&mut loaded.state, &mut told)?;
        }
        told.end()?;
        let mut buffer = [0; BUFFER_LEN];
        let store = self.buffer.as_ref().ok_or(StateError::NotAState)?;
        store.read(0, &mut buffer).map_err(StateError::Memory)?;
        self.transfers = transfers;
        self.take(loaded, buffer);
        Ok(())
    }
}

fn load_spins(state: &mut State, saved: &mut Fields<'_>) -> Result<(), StateError> {
    state.spins_ended = saved.u64()?;
    let waiting = saved.u32()? as usize;
    if waiting > spin::MOST {
        return Err(StateError::registers("more spins wait than can"));
    }
    for _ in 0..waiting {
        state.spins.push_back(saved.u32()?);
    }
    Ok(())
}

/// All but the buffer.
struct Loaded {
    registers: Registers,
    state: State,
    causes: u32,
    is_asserted: bool,
}

impl EduDevice {
    fn save_registers(&self, state: &State, out: &mut Vec<u8>) {
        out.extend(self.settings.mask.last().to_le_bytes());
        let registers = &self.registers;
        out.extend(registers.liveness.to_le_bytes());
        for register in [
            registers.source,
            registers.destination,
            registers.count,
            registers.command,
        ] {
            out.extend(register.to_le_bytes());
        }
        out.extend(state.factorial.to_le_bytes());
        out.push(u8::from(state.interrupt_after_factorial));
        out.push(u8::from(state.is_transferring));
        out.extend(state.dma_error.to_le_bytes());
        out.extend(state.dma_failures.to_le_bytes());
        out.extend(self.interrupt.causes().to_le_bytes());
        out.push(u8::from(self.interrupt.is_asserted()));
    }

    fn load_registers(&self, saved: &mut Fields<'_>) -> Result<Loaded, StateError> {
        if saved.u64()? != self.settings.mask.last() {
            return Err(StateError::registers("the device had another dma-mask"));
        }
        let registers = Registers {
            liveness: saved.u32()?,
            source: saved.u64()?,
            destination: saved.u64()?,
            count: saved.u64()?,
            command: saved.u64()?,
        };
        let state = State {
            factorial: saved.u32()?,
            interrupt_after_factorial: saved.bool()?,
            is_transferring: saved.bool()?,
            dma_error: saved.u32()?.cast_signed(),
            dma_failures: saved.u64()?,
            ..State::default()
        };
        let (causes, is_asserted) = (saved.u32()?, saved.bool()?);
        let is_commanded = registers.command & command::START != 0;
        let is_possible = (is_commanded || !state.is_transferring)
            && (0..4096).contains(&state.dma_error)
            && (causes != 0 || !is_asserted);
        if !is_possible {
            return Err(StateError::registers("the engine cannot be in that state"));
        }
        Ok(Loaded {
            registers,
            state,
            causes,
            is_asserted,
        })
    }

    fn save_spins(&self, state: &State, out: &mut Vec<u8>) {
        if !self.settings.has_spin_register {
            return;
        }
        out.extend(state.spins_ended.to_le_bytes());
        out.extend((state.spins.len() as u32).to_le_bytes());
        for spin in &state.spins {
            out.extend(spin.to_le_bytes());
        }
    }

    fn take(&mut self, loaded: Loaded, buffer: Buffer) {
        self.registers = loaded.registers;
        self.engine.load(loaded.state, buffer);
        self.interrupt.restore(loaded.causes, loaded.is_asserted);
    }
}
