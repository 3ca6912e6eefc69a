//! The state of a display: its monitor and registers. Video memory and configuration space are
//! the framework's to save.

use mdev::Migration;
use mdev::region_memory::RegionMemory;
use mdev::state::{Fields, StateError};

use super::device::Bochs;
use super::mmio::Mmio;
use crate::monitor::edid;

impl Migration for Bochs {
    fn kind(&self) -> &str {
        self.display.model.name
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

    fn memories(&self) -> Vec<&RegionMemory> {
        self.vram.iter().collect()
    }

    fn save(&mut self, out: &mut Vec<u8>) {
        self.display.save(out);
    }

    fn restore(&mut self, _: u32, saved: Fields<'_>) -> Result<(), StateError> {
        self.display.restore(saved)
    }

    fn restored(&mut self) {
        self.scanout.blank();
        self.shown = None;
        self.show();
    }

    /// It is small, and no thread changes it.
    fn checkpoint(&mut self, out: &mut Vec<u8>) -> bool {
        self.save(out);
        true
    }
}

impl Mmio {
    /// Appends the monitor and the registers.
    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        out.extend(&self.edid);
        self.vga.save(out);
        self.dispi.save(out);
        self.extended.save(out);
    }

    /// The registers of a device with `vram` bytes of video memory, as they were saved.
    pub(crate) fn restore(vram: u32, saved: &mut Fields<'_>) -> Result<Self, StateError> {
        let edid = saved.bytes(edid::LEN)?.to_vec();
        let mut restored = Self::new(vram, edid);
        restored.vga.restore(saved)?;
        restored.dispi.restore(saved)?;
        restored.extended.restore(saved)?;
        Ok(restored)
    }
}
