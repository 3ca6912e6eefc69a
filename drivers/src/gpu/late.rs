//! What is flushed of a blob and not copied before somebody looks.
//!
//! A blob lies in guest memory, which nobody is given who may see the picture: a head that shows one
//! shows a copy of it. The driver of a guest waits until a flush is answered, and most of what is
//! flushed nobody sees. So a flush takes note of what is to be copied, and that is done when somebody
//! looks, before guest memory goes, and before a state is saved. Memory that is reached by messages is
//! copied at once: there may be nobody to ask later.

use mdev::dma::GuestMemory;
use mdev::scanout::Rect;

use super::adapter::{Adapter, Failure};
use super::drawing::Lines;
use super::protocol::Answer;
use super::resources::{Backing, PIXEL, Picture};
use super::table::{Shown, Source, Table};

impl Adapter {
    /// Part of a blob like that was flushed, which a head shows.
    pub(super) fn flush_blob(
        &mut self,
        head: u32,
        shown: &Shown,
        rect: Rect,
        memory: &GuestMemory,
    ) -> Result<(), Failure> {
        let drawn = match self.is_stale(head) {
            true => shown.rect,
            false => rect.intersection(shown.rect),
        };
        if drawn.is_empty() {
            return Ok(());
        }
        let lines = blob_lines(&self.table, head, drawn)?;
        let can_wait = lines.is_some_and(|(lines, backing)| {
            backing.has_direct_ends(memory, lines.from, lines.reach())
        });
        if can_wait && self.vram.is_some() {
            self.put_off(head, shown, drawn);
            return Ok(());
        }
        self.refresh(head, drawn, memory)?;
        if let Some(scanout) = self.scanouts.get(head as usize) {
            scanout.drawn(within(drawn, shown.rect));
        }
        Ok(())
    }

    /// Takes note that part of what a head shows is to be copied.
    fn put_off(&mut self, head: u32, shown: &Shown, rect: Rect) {
        if let Some(late) = self.late.get_mut(head as usize) {
            // Another part of the blob may be shown since: then all of it is late.
            let before = late.intersection(shown.rect);
            let all = if before == *late { rect } else { shown.rect };
            *late = before.union(all);
        }
        self.set_stale(head, false);
        if let Some(scanout) = self.scanouts.get(head as usize) {
            scanout.drawn_late(within(rect, shown.rect));
        }
    }

    /// Takes note that all blobs that are shown are to be copied.
    pub(super) fn put_off_all(&mut self) {
        for (head, late) in (0..).zip(&mut self.late) {
            let shown = self.table.shown(head);
            let blob = shown.filter(|shown| matches!(shown.source, Source::Blob(..)));
            *late = blob.map_or(Rect::default(), |shown| shown.rect);
        }
    }

    /// Copies what is late, for who looks, and says so. What cannot be had stays as it is, and late.
    pub(super) fn catch_up(&mut self) {
        let memory = self.memory.clone();
        for head in 0..self.table.heads() {
            let index = head as usize;
            let Some(late) = self.late.get_mut(index).map(std::mem::take) else {
                continue;
            };
            let Some(shown) = self.table.shown(head).filter(|_| !late.is_empty()) else {
                continue;
            };
            let rect = match late.intersection(shown.rect) {
                rect if rect == late => rect,
                _ => shown.rect,
            };
            let is_done = self.refresh(head, rect, &memory).is_ok();
            if !is_done && let Some(late) = self.late.get_mut(index) {
                *late = rect;
            }
            match self.scanouts.get(index) {
                Some(scanout) if is_done => scanout.caught_up(within(rect, shown.rect)),
                Some(scanout) => scanout.not_caught_up(),
                None => {}
            }
        }
    }

    /// Copies part of a blob to the picture of a head that shows it. `rect` is within what is shown. It
    /// may end half-way if guest memory is not there.
    pub(super) fn refresh(
        &mut self,
        head: u32,
        rect: Rect,
        memory: &GuestMemory,
    ) -> Result<(), Failure> {
        let Some((lines, backing)) = blob_lines(&self.table, head, rect)? else {
            return Ok(());
        };
        let vram = self.vram.as_mut().ok_or(Answer::OutOfMemory)?;
        lines.copy(backing, memory, vram)?;
        let shown = self.table.shown(head);
        if shown.is_some_and(|shown| shown.rect == rect) {
            self.set_stale(head, false);
        }
        Ok(())
    }

    fn is_stale(&self, head: u32) -> bool {
        self.stale.get(head as usize).copied().unwrap_or(false)
    }

    pub(super) fn set_stale(&mut self, head: u32, is_stale: bool) {
        if let Some(stale) = self.stale.get_mut(head as usize) {
            *stale = is_stale;
        }
    }
}

/// Part of a resource in the pixels of what is shown of it.
pub(super) fn within(rect: Rect, shown: Rect) -> Rect {
    Rect {
        x: rect.x - shown.x,
        y: rect.y - shown.y,
        ..rect
    }
}

/// How part of a blob that a head shows is to be copied, and from what; `None` if it shows none.
fn blob_lines(table: &Table, head: u32, rect: Rect) -> Result<Option<(Lines, &Backing)>, Answer> {
    let Some(shown) = table.shown(head).filter(|_| !rect.is_empty()) else {
        return Ok(None);
    };
    let Source::Blob(framebuffer, at) = shown.source else {
        return Ok(None);
    };
    let resource = table.get(shown.id).ok_or(Answer::InvalidResource)?;
    let backing = resource.backing.as_ref().ok_or(Answer::Unspecified)?;
    let left = u64::from(rect.x - shown.rect.x) * u64::from(PIXEL);
    let to_stride = Picture::len(shown.rect.width, 1);
    let lines = Lines {
        from: framebuffer.offset(rect.x, rect.y),
        from_stride: framebuffer.stride.into(),
        to: at + u64::from(rect.y - shown.rect.y) * to_stride + left,
        to_stride,
        count: rect.height.into(),
        len: Picture::len(rect.width, 1),
    };
    match backing.holds(lines.from, lines.reach()) {
        true => Ok(Some((lines, backing))),
        false => Err(Answer::Unspecified),
    }
}
