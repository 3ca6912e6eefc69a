//! The state of a card: its ports, one after the other.

use mdev::Migration;
use mdev::state::{Fields, StateError};

use super::device::SerialDevice;
use super::driver::name_of;
use super::uart::Uart;

impl Migration for SerialDevice {
    fn kind(&self) -> &str {
        name_of(self.card)
    }

    fn version(&self) -> u32 {
        1
    }

    /// Nothing happens but what the guest does.
    fn stop(&mut self) {
        self.is_stopped = true;
    }

    fn resume(&mut self) {
        self.is_stopped = false;
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    fn save(&mut self, out: &mut Vec<u8>) {
        for port in &self.ports {
            port.save(out);
        }
    }

    fn restore(&mut self, _: u32, mut saved: Fields<'_>) -> Result<(), StateError> {
        let ports = self.ports.iter().map(|_| Uart::restore(&mut saved));
        let ports = ports.collect::<Result<_, _>>()?;
        saved.end()?;
        self.ports = ports;
        Ok(())
    }

    fn restored(&mut self) {
        self.update_interrupt();
    }

    /// It is small, and no thread changes it.
    fn checkpoint(&mut self, out: &mut Vec<u8>) -> bool {
        self.save(out);
        true
    }
}
