//! The state of the fake is its registers: configuration space and the memories are the
//! framework's to save.

use super::{FakeDevice, register};
use crate::migration::Migration;
use crate::region_memory::RegionMemory;
use crate::state::{Fields, StateError};

impl Migration for FakeDevice {
    fn kind(&self) -> &str {
        Self::KIND
    }

    fn version(&self) -> u32 {
        1
    }

    /// There are no threads to stop: nothing happens but what the guest does.
    fn stop(&mut self) {
        self.is_stopped = true;
    }

    fn resume(&mut self) {
        self.is_stopped = false;
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    fn memories(&self) -> Vec<&RegionMemory> {
        vec![&self.whole, &self.parts]
    }

    fn save(&mut self, out: &mut Vec<u8>) {
        out.extend(self.registers);
    }

    /// All is read and judged before the first of it is taken.
    fn restore(&mut self, _: u32, mut saved: Fields<'_>) -> Result<(), StateError> {
        let registers = saved.array()?;
        saved.end()?;
        self.registers = registers;
        Ok(())
    }

    /// Configuration space is there now, and may show the level of the pin.
    fn restored(&mut self) {
        self.set_level(self.registers[register::LEVEL as usize] != 0);
    }

    fn checkpoint(&mut self, out: &mut Vec<u8>) -> bool {
        self.save(out);
        true
    }
}
