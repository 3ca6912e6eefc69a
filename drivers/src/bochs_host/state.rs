//! The state of a display: its monitor and registers. Video memory is saved as the file that holds its
//! picture, which the framework does: so a state fits whatever way the client has to its slice.
//! Foreground and aperture are the operator's, and not the guest's: they stay.

use mdev::Migration;
use mdev::region_memory::RegionMemory;
use mdev::state::{Fields, StateError};

use super::device::BochsSlice;

impl Migration for BochsSlice {
    fn kind(&self) -> &str {
        self.display.model.name
    }

    fn version(&self) -> u32 {
        1
    }

    fn stop(&mut self) {
        if let Some(vram) = &self.vram {
            vram.mirror().stop();
        }
        self.is_stopped = true;
    }

    fn resume(&mut self) {
        if let Some(vram) = &self.vram {
            vram.mirror().resume();
        }
        self.is_stopped = false;
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    fn memories(&self) -> Vec<&RegionMemory> {
        self.vram.iter().map(|vram| vram.memory()).collect()
    }

    fn save(&mut self, out: &mut Vec<u8>) {
        self.display.save(out);
    }

    fn restore(&mut self, _: u32, saved: Fields<'_>) -> Result<(), StateError> {
        self.display.restore(saved)?;
        self.was_recalled = false;
        Ok(())
    }

    fn restored(&mut self) {
        let was_recalled = std::mem::take(&mut self.was_recalled);
        if let Some(vram) = self.vram.as_ref().filter(|_| !was_recalled)
            && let Err(error) = vram.mirror().restored()
        {
            tracing::error!("the card does not hold what was saved: {error}");
        }
        self.show_anew();
    }

    fn checkpoint(&mut self, out: &mut Vec<u8>) -> bool {
        self.save(out);
        true
    }

    /// The slice holds what it held: the card has not died.
    fn recall(&mut self, version: u32, told: Fields<'_>) -> Result<(), StateError> {
        self.restore(version, told)?;
        self.was_recalled = true;
        Ok(())
    }
}
