//! The heads: what each shows, and its cursor.

use mdev::scanout::{Geometry, PixelFormat, Rect};
use mdev::state::StateError;

use super::super::change::Change;
use super::super::cursors::{Look, Pointer};
use super::super::resources::{Framebuffer, PIXEL, Picture, pixel_format};
use super::{Freed, Table};

/// One head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    shown: Option<Shown>,
    pointer: Pointer,
}

/// What a head shows: part of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Shown {
    pub(in super::super) id: u32,
    pub(in super::super) rect: Rect,
    pub(in super::super) source: Source,
}

/// Where the pixels are that a head shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Source {
    /// In its resource.
    Resource,
    /// At a place in video memory, where they are copied to from a blob like that.
    Blob(Framebuffer, u64),
}

impl Shown {
    /// The place of the copy, if there is one, and its length.
    fn copy(&self) -> Option<(u64, u64)> {
        match self.source {
            Source::Resource => None,
            Source::Blob(_, at) => Some((at, Picture::len(self.rect.width, self.rect.height))),
        }
    }
}

impl Head {
    /// Appends the changes that make a head like that.
    pub(super) fn changes(&self, head: u32, changes: &mut Vec<Change>) {
        if let Some(Shown { id, rect, source }) = self.shown {
            changes.push(match source {
                Source::Resource => Change::Scanout { head, id, rect },
                Source::Blob(framebuffer, at) => Change::ScanoutBlob {
                    head,
                    id,
                    rect,
                    framebuffer,
                    at,
                },
            });
        }
        let Pointer { look, x, y } = self.pointer;
        if self.pointer != Pointer::default() {
            changes.push(Change::Cursor { head, look, x, y });
        }
    }
}

impl Table {
    /// What a head shows.
    pub(in super::super) fn shown(&self, head: u32) -> Option<Shown> {
        self.heads.get(head as usize)?.shown
    }

    /// The cursor of a head, if there is such a head.
    pub(in super::super) fn pointer(&self, head: u32) -> Option<Pointer> {
        self.heads.get(head as usize).map(|head| head.pointer)
    }

    /// Where what a head shows lies in video memory.
    pub(in super::super) fn geometry(&self, head: u32) -> Option<Geometry> {
        let Shown { id, rect, source } = self.shown(head)?;
        let (stride, offset, format) = match source {
            Source::Resource => {
                let picture = self.get(id)?.picture()?;
                let offset = picture.at + picture.offset(&rect);
                (picture.stride(), offset, picture.format)
            }
            Source::Blob(framebuffer, at) => (rect.width * PIXEL, at, framebuffer.format),
        };
        Some(Geometry {
            width: rect.width,
            height: rect.height,
            stride,
            offset,
            format: pixel_format(format).unwrap_or(PixelFormat::Xrgb8888),
        })
    }

    /// Where what a head is to show of a blob could be copied to; `None` if the budget does not allow
    /// it. The place of the copy that it shows now counts as free, and is taken again if it fits.
    pub(in super::super) fn find_copy_place(&self, head: u32, rect: &Rect) -> Option<u64> {
        let len = Picture::len(rect.width, rect.height);
        let mut places = self.places.clone();
        if let Some((at, shown)) = self.shown(head).and_then(|shown| shown.copy()) {
            if shown == len {
                return Some(at);
            }
            places.give_back(at);
        }
        places.find(len)
    }

    /// A head shows part of a resource that lies in video memory, or nothing.
    pub(super) fn show(
        &mut self,
        head: u32,
        id: u32,
        rect: Rect,
    ) -> Result<Vec<Freed>, StateError> {
        let picture = self.get(id).and_then(|resource| resource.picture());
        let is_possible = id == 0 || picture.is_some_and(|it| rect.is_within(it.width, it.height));
        if !is_possible || self.heads.len() <= head as usize {
            return Err(StateError::registers("no head shows that"));
        }
        let shown = (id != 0).then_some(Shown {
            id,
            rect,
            source: Source::Resource,
        });
        Ok(self.replace(head as usize, shown))
    }

    /// A head shows part of a blob, by a copy.
    pub(super) fn show_blob(&mut self, head: u32, shown: Shown) -> Result<Vec<Freed>, StateError> {
        let impossible = StateError::registers("no head shows that of a blob");
        let Shown { id, rect, .. } = shown;
        let size = self.get(id).and_then(|resource| resource.blob());
        let is_possible = match shown.source {
            Source::Resource => false,
            Source::Blob(framebuffer, _) => {
                size.is_some_and(|size| framebuffer.is_within(size))
                    && rect.is_within(framebuffer.width, framebuffer.height)
            }
        };
        let Some((at, len)) = shown.copy().filter(|_| is_possible) else {
            return Err(impossible);
        };
        if self.heads.len() <= head as usize {
            return Err(impossible);
        }
        let before = self.shown(head).and_then(|shown| shown.copy());
        if before == shown.copy() {
            // Another picture of the same size, in the same place.
            if let Some(head) = self.heads.get_mut(head as usize) {
                head.shown = Some(shown);
            }
            return Ok(Vec::new());
        }
        let freed = before.map(|(at, _)| Freed {
            at,
            len: self.places.give_back(at),
        });
        if !self.places.take(at, len) {
            if let Some(Freed { at, len }) = freed {
                self.places.take(at, len);
            }
            return Err(impossible);
        }
        if let Some(head) = self.heads.get_mut(head as usize) {
            head.shown = Some(shown);
        }
        Ok(freed.into_iter().collect())
    }

    /// No head shows a resource any more.
    pub(super) fn hide(&mut self, id: u32) -> Vec<Freed> {
        let heads = 0..self.heads.len();
        let showing = heads.filter(|head| {
            let shown = self.heads.get(*head).and_then(|head| head.shown);
            shown.is_some_and(|shown| shown.id == id)
        });
        let showing: Vec<_> = showing.collect();
        let freed = showing
            .into_iter()
            .flat_map(|head| self.replace(head, None));
        freed.collect()
    }

    fn replace(&mut self, head: usize, shown: Option<Shown>) -> Vec<Freed> {
        let Some(head) = self.heads.get_mut(head) else {
            return Vec::new();
        };
        let before = std::mem::replace(&mut head.shown, shown);
        let copy = before.and_then(|before| before.copy());
        let freed = copy.map(|(at, _)| Freed {
            at,
            len: self.places.give_back(at),
        });
        freed.into_iter().collect()
    }

    pub(super) fn set_cursor(
        &mut self,
        head: u32,
        look: Option<Look>,
        x: u32,
        y: u32,
    ) -> Result<(), StateError> {
        let head = self.heads.get_mut(head as usize);
        let is_possible = look.is_none_or(|look| look.is_possible());
        let Some(head) = head.filter(|_| is_possible) else {
            return Err(StateError::registers("no cursor is like that"));
        };
        head.pointer = Pointer { look, x, y };
        Ok(())
    }

    pub(super) fn move_cursor(&mut self, head: u32, x: u32, y: u32) -> Result<(), StateError> {
        let unknown = StateError::registers("a cursor is on no head");
        let head = self.heads.get_mut(head as usize).ok_or(unknown)?;
        (head.pointer.x, head.pointer.y) = (x, y);
        Ok(())
    }
}
