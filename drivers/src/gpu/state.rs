//! What is saved of a GPU. Video memory and configuration space are the framework's to save.

use mdev::state::{Fields, StateError};

use super::adapter::{Adapter, Display};
use super::change::Change;
use super::device::{Gpu, lock};
use super::protocol::EVENT_DISPLAY;
use crate::monitor::Mode;

impl Gpu {
    pub(super) fn save_display(&self, out: &mut Vec<u8>) {
        let display = *lock(&self.display);
        out.extend(display.mode.width.to_le_bytes());
        out.extend(display.mode.height.to_le_bytes());
        out.extend(display.events.to_le_bytes());
    }

    /// The mode comes along, as the guest has read it in the EDID.
    pub(super) fn load_display(&self, saved: &mut Fields<'_>) -> Result<Display, StateError> {
        let mode = Mode::new(saved.u16()?, saved.u16()?);
        let events = saved.u32()?;
        let is_mode = Mode::parse(&mode.to_string()) == Some(mode) && self.model.offers(mode);
        if !is_mode || events & !EVENT_DISPLAY != 0 {
            return Err(StateError::registers("the display cannot be like that"));
        }
        Ok(Display { mode, events })
    }
}

impl Adapter {
    /// Nothing is there any more, and nothing is noted.
    pub(super) fn empty(&mut self) {
        self.table = self.table.emptied(self.model.budget);
        self.applied = None;
        if let Some(journal) = &mut self.journal {
            journal.rewrite(&[]);
        }
    }

    /// Appends the changes that make the table, and how many they are.
    pub(super) fn save(&self, out: &mut Vec<u8>) {
        let changes = self.table.changes();
        out.extend((changes.len() as u32).to_le_bytes());
        for change in changes {
            change.emit(out);
        }
    }

    pub(super) fn restore(&mut self, saved: &mut Fields<'_>) -> Result<(), StateError> {
        let count = saved.u32()?;
        let changes = (0..count).map(|_| Change::parse(saved));
        let changes = changes.collect::<Result<Vec<_>, _>>()?;
        if !saved.is_empty() {
            return Err(StateError::registers("something follows the resources"));
        }
        let table = self.table.replayed(self.model.budget, &changes)?;
        if let Some(journal) = &mut self.journal
            && !journal.rewrite(&changes)
        {
            return Err(StateError::registers("there are too many resources"));
        }
        self.table = table;
        self.applied = None;
        Ok(())
    }

    /// Takes what another process has noted. The pixels are where it left them.
    pub(super) fn recall(&mut self) -> Result<(), StateError> {
        let journal = self.journal.as_ref().ok_or(StateError::NotAState)?;
        let noted = journal.read()?;
        self.table = self.table.replayed(self.model.budget, &noted.changes)?;
        self.applied = noted.position;
        Ok(())
    }
}
