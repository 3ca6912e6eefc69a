//! Copies what has changed between a slice and the memory file of a vGPU.
//!
//! A client that maps the file draws there: what it has drawn goes to the card while the card shows this
//! vGPU. A client that reaches the slice draws on the card: what it has drawn goes to the file while
//! someone looks at that. Either way tiles are compared, 60 times a second at most, less often while
//! nothing changes, and not at all while nobody would see it: `thread`.

mod thread;

use std::io;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use mdev::host::Seat;
use mdev::region_memory::RegionMemory;
use mdev::scanout::{Geometry, Refresh, ScanoutPublisher};

use super::screen::Screen;
use super::slices::Slice;

/// Bytes that are compared, and copied if they differ.
const TILE: usize = 4096;

/// Bytes that are read at a time; of whole tiles.
const CHUNK: usize = 64 << 10;

/// From where to where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From the file to the slice.
    ToCard,
    /// From the slice to the file.
    FromCard,
}

/// A slice and a memory file of the same length.
#[derive(Debug)]
pub(super) struct Mirror {
    way: Way,
    seat: Seat,
    slice: Arc<Slice>,
    memory: RegionMemory,
    screen: Arc<Screen>,
    scanout: ScanoutPublisher,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// Where the guest has its picture in the slice.
    picture: Option<Geometry>,
    /// What the place holds that is copied to.
    there: Vec<u8>,
    is_stopped: bool,
    is_over: bool,
}

/// What a new mirror is made of.
pub(super) struct Parts {
    pub(super) way: Way,
    pub(super) seat: Seat,
    pub(super) slice: Arc<Slice>,
    pub(super) memory: RegionMemory,
    pub(super) screen: Arc<Screen>,
    pub(super) scanout: ScanoutPublisher,
}

impl Mirror {
    /// A mirror that shows nothing yet. What both sides hold may differ.
    pub(super) fn new(parts: Parts) -> io::Result<Self> {
        let len = usize::try_from(parts.slice.len()).map_err(io::Error::other)?;
        let mirror = Self {
            way: parts.way,
            seat: parts.seat,
            slice: parts.slice,
            memory: parts.memory,
            screen: parts.screen,
            scanout: parts.scanout,
            state: Mutex::new(State {
                picture: None,
                there: vec![0; len],
                is_stopped: false,
                is_over: false,
            }),
            changed: Condvar::new(),
        };
        mirror.learn(&mut mirror.state())?;
        Ok(mirror)
    }

    pub(super) fn slice(&self) -> &Slice {
        &self.slice
    }

    pub(super) fn memory(&self) -> &RegionMemory {
        &self.memory
    }

    /// The guest has another picture, or none.
    pub(super) fn set_picture(&self, picture: Option<Geometry>) {
        let mut state = self.state();
        state.picture = picture;
        // With nothing to copy before, it is shown at once.
        if self.way == Way::FromCard || picture.is_none() {
            self.screen.show(self.seat, self.on_card(picture));
        }
        self.changed.notify_all();
    }

    /// Brings the vGPU to the front of the card, with what is drawn by now. Returns its turn.
    pub(super) fn bring_to_front(&self) -> u64 {
        let mut state = self.state();
        if self.way == Way::ToCard {
            self.copy_picture(&mut state);
        }
        let turn = self.screen.take(self.seat, self.on_card(state.picture));
        self.changed.notify_all();
        turn
    }

    /// The client is gone: what it has drawn last stays in the file.
    pub(super) fn keep_last_picture(&self) {
        self.refresh();
    }

    /// Nothing is copied any more; the file holds all that is drawn.
    pub(super) fn stop(&self) {
        let mut state = self.state();
        if self.way == Way::FromCard && !state.is_stopped {
            self.copy(&mut state, 0..self.slice.len());
        }
        state.is_stopped = true;
    }

    /// Goes on.
    pub(super) fn resume(&self) {
        self.state().is_stopped = false;
        self.changed.notify_all();
    }

    /// The file holds what another vGPU has saved: the slice is to hold it as well.
    pub(super) fn restored(&self) -> io::Result<()> {
        let mut state = self.state();
        if self.way == Way::ToCard {
            return Ok(());
        }
        let mut chunk = vec![0; CHUNK];
        for at in (0..self.slice.len()).step_by(CHUNK) {
            let len = (self.slice.len() - at).min(CHUNK as u64) as usize;
            self.memory.read(at, &mut chunk[..len])?;
            self.slice.write(at, &chunk[..len]).ok_or_else(outside)?;
        }
        self.learn(&mut state)
    }

    /// Ends it: on return nothing is copied, whoever still looks.
    pub(super) fn end(&self) {
        self.state().is_over = true;
        self.changed.notify_all();
    }

    /// Copies what has changed of the picture. Whether anything has.
    fn copy_picture(&self, state: &mut State) -> bool {
        let Some(picture) = state.picture else {
            return false;
        };
        let tile = TILE as u64;
        let end = picture.end().unwrap_or(u64::MAX).min(self.slice.len());
        let whole = picture.offset / tile * tile..end.next_multiple_of(tile);
        self.copy(state, whole)
    }

    fn copy(&self, state: &mut State, range: Range<u64>) -> bool {
        let copied = self.try_copy(&mut state.there, range);
        copied.unwrap_or_else(|error| {
            tracing::error!("what is drawn cannot be copied: {error}");
            false
        })
    }

    fn try_copy(&self, there: &mut [u8], range: Range<u64>) -> io::Result<bool> {
        let mut has_changed = false;
        let mut chunk = [0; CHUNK];
        for at in range.clone().step_by(CHUNK) {
            let chunk = &mut chunk[..(range.end - at).min(CHUNK as u64) as usize];
            self.read(at, chunk)?;
            let known = there.get_mut(at as usize..).ok_or_else(outside)?;
            let tiles = chunk.chunks(TILE).zip(known.chunks_mut(TILE));
            for (at, (tile, known)) in (at..).step_by(TILE).zip(tiles) {
                if *tile != known[..tile.len()] {
                    self.write(at, tile)?;
                    known[..tile.len()].copy_from_slice(tile);
                    has_changed = true;
                }
            }
        }
        Ok(has_changed)
    }

    /// Looks what the place holds that is copied to.
    fn learn(&self, state: &mut State) -> io::Result<()> {
        match self.way {
            Way::ToCard => self.slice.read(0, &mut state.there).ok_or_else(outside),
            Way::FromCard => self.memory.read(0, &mut state.there),
        }
    }

    fn read(&self, at: u64, data: &mut [u8]) -> io::Result<()> {
        match self.way {
            Way::ToCard => self.memory.read(at, data),
            Way::FromCard => self.slice.read(at, data).ok_or_else(outside),
        }
    }

    fn write(&self, at: u64, data: &[u8]) -> io::Result<()> {
        match self.way {
            Way::ToCard => self.slice.write(at, data).ok_or_else(outside),
            Way::FromCard => self.memory.write(at, data),
        }
    }

    /// The picture, by the card's own memory.
    fn on_card(&self, picture: Option<Geometry>) -> Option<Geometry> {
        picture.map(|picture| Geometry {
            offset: self.slice.start() + picture.offset,
            ..picture
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refresh for Mirror {
    fn refresh(&self) {
        let mut state = self.state();
        if self.way == Way::FromCard && !state.is_over && !state.is_stopped {
            self.copy_picture(&mut state);
        }
    }

    fn watched(&self) {
        // The thread looks anew who sees it.
        drop(self.state());
        self.changed.notify_all();
    }
}

fn outside() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}
