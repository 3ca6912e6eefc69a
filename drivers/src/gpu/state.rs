//! What is saved of a GPU. Video memory and configuration space are the framework's to save.

use mdev::scanout::{Cursor, Rect};
use mdev::state::{Fields, StateError};

use super::adapter::Adapter;
use super::change::Change;
use super::cursors::IMAGE;
use super::table::Table;

impl Adapter {
    /// Nothing is there any more, and nothing is noted.
    pub(super) fn empty(&mut self) {
        self.table = self.table.emptied(self.model.budget);
        self.applied = None;
        self.stale.fill(false);
        self.late.fill(Rect::default());
        if let Some(journal) = &mut self.journal {
            journal.rewrite(&[]);
        }
        self.cursors.clear();
        for scanout in &self.scanouts {
            scanout.set_cursor(Cursor::default());
        }
    }

    /// Appends the changes that make the table, how many they are first, and the images of the cursors
    /// that are shown.
    pub(super) fn save(&self, out: &mut Vec<u8>) {
        let changes = self.table.changes();
        out.extend((changes.len() as u32).to_le_bytes());
        for change in changes {
            change.emit(out);
        }
        for head in 0..self.table.heads() {
            if let Some(look) = self.table.pointer(head).and_then(|pointer| pointer.look) {
                let image = self.cursors.read(head as usize, &look);
                let image = image.inspect_err(|error| tracing::error!(%error, "a cursor is lost"));
                out.extend(image.unwrap_or_else(|_| vec![0; IMAGE]));
            }
        }
    }

    pub(super) fn restore(&mut self, saved: &mut Fields<'_>) -> Result<(), StateError> {
        let count = saved.u32()?;
        let changes = (0..count).map(|_| Change::parse(saved));
        let changes = changes.collect::<Result<Vec<_>, _>>()?;
        let table = self.table.replayed(self.model.budget, &changes)?;
        let images = images(&table, saved)?;
        if !saved.is_empty() {
            return Err(StateError::registers("something follows the resources"));
        }
        if let Some(journal) = &mut self.journal
            && !journal.rewrite(&changes)
        {
            return Err(StateError::registers("there are too many resources"));
        }
        self.table = table;
        self.applied = None;
        self.stale.fill(true);
        self.late.fill(Rect::default());
        for (head, image) in images {
            if let Some(look) = self.table.pointer(head).and_then(|pointer| pointer.look)
                && let Err(error) = self.cursors.write(head as usize, &look, &image)
            {
                tracing::error!(%error, "a cursor is lost");
            }
        }
        Ok(())
    }

    /// Takes what another process has noted. The pixels are where it left them.
    pub(super) fn recall(&mut self) -> Result<(), StateError> {
        let journal = self.journal.as_ref().ok_or(StateError::NotAState)?;
        let noted = journal.read()?;
        self.table = self.table.replayed(self.model.budget, &noted.changes)?;
        self.applied = noted.position;
        // It may have died before it copied what it was to show, or cleared what was let go.
        self.stale.fill(true);
        self.put_off_all();
        if let Some(vram) = &mut self.vram {
            for part in self.table.free() {
                vram.clear(part.at, part.len);
            }
        }
        Ok(())
    }
}

/// The images of the cursors that are shown, by their head.
fn images(table: &Table, saved: &mut Fields<'_>) -> Result<Vec<(u32, Vec<u8>)>, StateError> {
    let heads = 0..table.heads();
    let shown = heads.filter(|head| table.pointer(*head).is_some_and(|it| it.look.is_some()));
    shown
        .map(|head| Ok((head, saved.bytes(IMAGE)?.to_vec())))
        .collect()
}
