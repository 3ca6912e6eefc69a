//! What there is: the resources, where each lies, what a head shows, and its cursor.
//!
//! It changes by [`Change`]s alone, so that the same ones make the same table elsewhere. It is not
//! about pixels: they lie in video memory.

mod heads;

use std::collections::BTreeMap;

use mdev::state::StateError;

use super::change::Change;
use super::places::Places;
use super::resources::{Backing, Content, Entry, Picture, Resource};
use heads::Head;
pub(super) use heads::{Shown, Source};

/// Most resources of a device.
const MAX_RESOURCES: usize = 4096;

/// Most parts of guest memory that back all resources together.
const MAX_ENTRIES: usize = 1 << 20;

/// What there is.
#[derive(Clone, Debug)]
pub(super) struct Table {
    resources: BTreeMap<u32, Resource>,
    places: Places,
    entries: usize,
    heads: Vec<Head>,
}

/// A part of video memory that nobody has any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Freed {
    pub(super) at: u64,
    pub(super) len: u64,
}

impl Table {
    /// Nothing, with a budget for what comes.
    pub(super) fn new(budget: u64, heads: usize) -> Self {
        Self {
            resources: BTreeMap::new(),
            places: Places::new(budget),
            entries: 0,
            heads: vec![Head::default(); heads],
        }
    }

    /// As after a reset.
    pub(super) fn emptied(&self, budget: u64) -> Self {
        Self::new(budget, self.heads.len())
    }

    /// The resource with this number.
    pub(super) fn get(&self, id: u32) -> Option<&Resource> {
        self.resources.get(&id)
    }

    /// How many heads there are.
    pub(super) fn heads(&self) -> u32 {
        self.heads.len() as u32
    }

    /// Where a new resource could lie; `None` if the budget does not allow it.
    pub(super) fn find_place(&self, width: u32, height: u32) -> Option<u64> {
        let is_room = self.has_number_free();
        let place = self.places.find(Picture::len(width, height));
        place.filter(|_| is_room)
    }

    /// Whether there can be a resource more.
    pub(super) fn has_number_free(&self) -> bool {
        self.resources.len() < MAX_RESOURCES
    }

    /// Whether so many parts of guest memory more can be noted.
    pub(super) fn has_room_for(&self, entries: usize) -> bool {
        self.entries + entries <= MAX_ENTRIES
    }

    /// The parts of video memory that nobody has.
    pub(super) fn free(&self) -> Vec<Freed> {
        let free = self.places.free().into_iter();
        free.map(|(at, len)| Freed { at, len }).collect()
    }

    /// Makes a change; what lies nowhere any more. On error nothing has changed.
    pub(super) fn apply(&mut self, change: &Change) -> Result<Vec<Freed>, StateError> {
        match change {
            Change::Create {
                id,
                format,
                width,
                height,
                at,
            } => self.create_picture(
                *id,
                Picture {
                    format: *format,
                    width: *width,
                    height: *height,
                    at: *at,
                },
            )?,
            Change::CreateBlob { id, size, entries } => self.create_blob(*id, *size, entries)?,
            Change::Unref { id } => return self.unref(*id),
            Change::Attach { id, entries } => {
                let has_room = self.has_room_for(entries.len());
                let resource = self.known(*id)?;
                if resource.backing.is_some() || !has_room {
                    return Err(StateError::registers("nothing can back this resource"));
                }
                resource.backing = Some(Backing::new(entries.clone()));
                self.entries += entries.len();
            }
            Change::Detach { id } => {
                let backing = self.known(*id)?.backing.take();
                self.count_out(backing.as_ref());
            }
            Change::AssignUuid { id, uuid } => self.known(*id)?.uuid = Some(*uuid),
            Change::Scanout { head, id, rect } => return self.show(*head, *id, *rect),
            Change::ScanoutBlob {
                head,
                id,
                rect,
                framebuffer,
                at,
            } => {
                let source = Source::Blob(*framebuffer, *at);
                let (id, rect) = (*id, *rect);
                return self.show_blob(*head, Shown { id, rect, source });
            }
            Change::Cursor { head, look, x, y } => self.set_cursor(*head, *look, *x, *y)?,
            Change::MoveCursor { head, x, y } => self.move_cursor(*head, *x, *y)?,
        }
        Ok(Vec::new())
    }

    fn known(&mut self, id: u32) -> Result<&mut Resource, StateError> {
        let unknown = StateError::registers("there is no such resource");
        self.resources.get_mut(&id).ok_or(unknown)
    }

    fn create_picture(&mut self, id: u32, picture: Picture) -> Result<(), StateError> {
        let Picture {
            format,
            width,
            height,
            at,
        } = picture;
        let is_possible = self.may_be_new(id) && Picture::is_possible(format, width, height);
        if !is_possible || !self.places.take(at, Picture::len(width, height)) {
            return Err(StateError::registers("no resource is like that"));
        }
        self.insert(id, Content::Picture(picture), None);
        Ok(())
    }

    fn create_blob(&mut self, id: u32, size: u64, entries: &[Entry]) -> Result<(), StateError> {
        let backing = Backing::new(entries.to_vec());
        let is_backed = entries.is_empty() || backing.len() >= size;
        let has_room = self.has_room_for(entries.len());
        if !self.may_be_new(id) || size == 0 || !is_backed || !has_room {
            return Err(StateError::registers("no blob is like that"));
        }
        self.entries += entries.len();
        let backing = (!entries.is_empty()).then_some(backing);
        self.insert(id, Content::Blob(size), backing);
        Ok(())
    }

    fn may_be_new(&self, id: u32) -> bool {
        id != 0 && !self.resources.contains_key(&id) && self.has_number_free()
    }

    fn insert(&mut self, id: u32, content: Content, backing: Option<Backing>) {
        let resource = Resource {
            content,
            backing,
            uuid: None,
        };
        self.resources.insert(id, resource);
    }

    fn unref(&mut self, id: u32) -> Result<Vec<Freed>, StateError> {
        self.known(id)?;
        let mut freed = self.hide(id);
        if let Some(resource) = self.resources.remove(&id) {
            self.count_out(resource.backing.as_ref());
            if let Content::Picture(Picture { at, .. }) = resource.content {
                let len = self.places.give_back(at);
                freed.push(Freed { at, len });
            }
        }
        Ok(freed)
    }

    fn count_out(&mut self, backing: Option<&Backing>) {
        self.entries -= backing.map_or(0, |backing| backing.entries().len());
    }

    /// The changes that make this table of an empty one.
    pub(super) fn changes(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (id, resource) in &self.resources {
            let id = *id;
            let backing = resource.backing.as_ref();
            let entries = backing.map(|backing| backing.entries().to_vec());
            changes.push(match resource.content {
                Content::Picture(picture) => Change::Create {
                    id,
                    format: picture.format,
                    width: picture.width,
                    height: picture.height,
                    at: picture.at,
                },
                // What backs it comes by itself: it may be less than what one is made with has to be.
                Content::Blob(size) => Change::CreateBlob {
                    id,
                    size,
                    entries: Vec::new(),
                },
            });
            changes.extend(entries.map(|entries| Change::Attach { id, entries }));
            let uuid = resource.uuid;
            changes.extend(uuid.map(|uuid| Change::AssignUuid { id, uuid }));
        }
        for (head, it) in (0..).zip(&self.heads) {
            it.changes(head, &mut changes);
        }
        changes
    }

    /// The table that some changes make of an empty one.
    pub(super) fn replayed(&self, budget: u64, changes: &[Change]) -> Result<Self, StateError> {
        let mut table = self.emptied(budget);
        for change in changes {
            table.apply(change)?;
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests;
