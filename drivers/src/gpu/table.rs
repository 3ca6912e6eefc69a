//! What there is: the resources, where each lies, what a head shows.
//!
//! It changes by [`Change`]s alone, so that the same ones make the same table elsewhere. It is not
//! about pixels: they lie in video memory.

use std::collections::BTreeMap;

use mdev::scanout::{Geometry, PixelFormat};
use mdev::state::StateError;

use super::change::Change;
use super::places::Places;
use super::protocol::Rect;
use super::resources::{Backing, MAX_SIDE, Resource, pixel_format};

/// Most resources of a device.
const MAX_RESOURCES: usize = 4096;

/// Most parts of guest memory that back all resources together.
const MAX_ENTRIES: usize = 1 << 20;

/// What a head shows: part of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) id: u32,
    pub(super) rect: Rect,
}

/// What there is.
#[derive(Clone, Debug)]
pub(super) struct Table {
    resources: BTreeMap<u32, Resource>,
    places: Places,
    entries: usize,
    heads: Vec<Option<Shown>>,
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
            heads: vec![None; heads],
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

    /// What a head shows.
    pub(super) fn shown(&self, head: usize) -> Option<Shown> {
        self.heads.get(head).copied().flatten()
    }

    /// Where a new resource could lie; `None` if the budget does not allow it.
    pub(super) fn find_place(&self, width: u32, height: u32) -> Option<u64> {
        let is_room = self.resources.len() < MAX_RESOURCES;
        let place = self.places.find(Resource::len(width, height));
        place.filter(|_| is_room)
    }

    /// Whether so many parts of guest memory more can be noted.
    pub(super) fn has_room_for(&self, entries: usize) -> bool {
        self.entries + entries <= MAX_ENTRIES
    }

    /// Where what a head shows lies in video memory.
    pub(super) fn geometry(&self, head: usize) -> Option<Geometry> {
        let Shown { id, rect } = self.shown(head)?;
        let resource = self.get(id)?;
        Some(Geometry {
            width: rect.width,
            height: rect.height,
            stride: resource.stride(),
            offset: resource.at + resource.offset(&rect),
            format: pixel_format(resource.format).unwrap_or(PixelFormat::Xrgb8888),
        })
    }

    /// Makes a change. On error nothing has changed.
    pub(super) fn apply(&mut self, change: &Change) -> Result<Option<Freed>, StateError> {
        let unknown = StateError::registers("there is no such resource");
        match change {
            Change::Create { .. } => self.create(change)?,
            Change::Unref { id } => {
                let resource = self.resources.remove(id).ok_or(unknown)?;
                self.count_out(resource.backing.as_ref());
                for head in &mut self.heads {
                    head.take_if(|shown| shown.id == *id);
                }
                let at = resource.at;
                let len = self.places.give_back(at);
                return Ok(Some(Freed { at, len }));
            }
            Change::Attach { id, entries } => {
                let has_room = self.has_room_for(entries.len());
                let resource = self.resources.get_mut(id).ok_or(unknown)?;
                if resource.backing.is_some() || !has_room {
                    return Err(StateError::registers("nothing can back this resource"));
                }
                self.entries += entries.len();
                resource.backing = Some(Backing::new(entries.clone()));
            }
            Change::Detach { id } => {
                let resource = self.resources.get_mut(id).ok_or(unknown)?;
                let backing = resource.backing.take();
                self.count_out(backing.as_ref());
            }
            Change::Scanout { head, id, rect } => {
                let is_possible = *id == 0
                    || self
                        .get(*id)
                        .is_some_and(|it| rect.is_within(it.width, it.height));
                let head = self.heads.get_mut(*head as usize);
                let Some(head) = head.filter(|_| is_possible) else {
                    return Err(StateError::registers("no head shows that"));
                };
                *head = (*id != 0).then_some(Shown {
                    id: *id,
                    rect: *rect,
                });
            }
        }
        Ok(None)
    }

    fn create(&mut self, change: &Change) -> Result<(), StateError> {
        let Change::Create {
            id,
            format,
            width,
            height,
            at,
        } = *change
        else {
            return Ok(());
        };
        let sides = 1..=MAX_SIDE;
        let is_possible = id != 0
            && !self.resources.contains_key(&id)
            && self.resources.len() < MAX_RESOURCES
            && pixel_format(format).is_some()
            && sides.contains(&width)
            && sides.contains(&height);
        if !is_possible || !self.places.take(at, Resource::len(width, height)) {
            return Err(StateError::registers("no resource is like that"));
        }
        let resource = Resource {
            format,
            width,
            height,
            at,
            backing: None,
        };
        self.resources.insert(id, resource);
        Ok(())
    }

    fn count_out(&mut self, backing: Option<&Backing>) {
        self.entries -= backing.map_or(0, |backing| backing.entries().len());
    }

    /// The changes that make this table of an empty one.
    pub(super) fn changes(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (id, resource) in &self.resources {
            let id = *id;
            changes.push(Change::Create {
                id,
                format: resource.format,
                width: resource.width,
                height: resource.height,
                at: resource.at,
            });
            if let Some(backing) = &resource.backing {
                let entries = backing.entries().to_vec();
                changes.push(Change::Attach { id, entries });
            }
        }
        for (head, shown) in (0..).zip(&self.heads) {
            if let Some(Shown { id, rect }) = *shown {
                changes.push(Change::Scanout { head, id, rect });
            }
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
