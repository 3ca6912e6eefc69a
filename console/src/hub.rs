//! Where the source of the picture and the viewers meet.
//!
//! A viewer that wants an update says so (`Place::want`), and has its bell rung once the source
//! has looked at the picture since then and there is something to see. While nobody wants anything,
//! the source looks at nothing.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::frame::{Frame, SIZE_AT_FIRST};
use crate::rfb::update::ResizeStatus;
use crate::wake::{self, Bell, Ringer};

/// Most viewers at a time. Each has a thread, and some memory.
pub const MAX_VIEWERS: usize = 16;

/// What the source and the viewers share.
#[derive(Debug)]
pub struct Hub {
    state: Mutex<State>,
    source: Ringer,
}

#[derive(Debug)]
struct State {
    frame: Frame,
    /// Looks that were begun.
    begun: u64,
    /// The last of them that has ended.
    done: u64,
    viewers: BTreeMap<u64, Viewer>,
    /// The number of the next viewer.
    next: u64,
}

#[derive(Debug)]
struct Viewer {
    ringer: Ringer,
    /// The look that it waits for, or whatever look after it shows something new.
    waits_for: Option<u64>,
    /// The size that it wishes the picture had, and what came of that.
    wish: Option<(u16, u16)>,
    answer: Option<ResizeStatus>,
}

/// A viewer's place. Dropping it gives it up.
#[derive(Debug)]
pub(crate) struct Place {
    hub: Arc<Hub>,
    number: u64,
    pub(crate) bell: Bell,
}

impl Hub {
    /// A hub without viewers, and the bell that rings when one wants something.
    pub(crate) fn new() -> io::Result<(Arc<Self>, Bell)> {
        let (source, bell) = wake::bell()?;
        let state = State {
            frame: Frame::new(SIZE_AT_FIRST),
            begun: 0,
            done: 0,
            viewers: BTreeMap::new(),
            next: 0,
        };
        let hub = Self {
            state: Mutex::new(state),
            source,
        };
        Ok((Arc::new(hub), bell))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place, if there is one.
    pub(crate) fn join(self: &Arc<Self>) -> io::Result<Option<Place>> {
        let (ringer, bell) = wake::bell()?;
        let mut state = self.lock();
        if state.viewers.len() >= MAX_VIEWERS {
            return Ok(None);
        }
        let number = state.next;
        state.next += 1;
        let viewer = Viewer {
            ringer,
            waits_for: None,
            wish: None,
            answer: None,
        };
        state.viewers.insert(number, viewer);
        Ok(Some(Place {
            hub: Arc::clone(self),
            number,
            bell,
        }))
    }

    /// Looks at the picture, or changes it. For moments: everyone else waits.
    pub(crate) fn with_frame<T>(&self, act: impl FnOnce(&mut Frame) -> T) -> T {
        act(&mut self.lock().frame)
    }

    /// Whether a viewer wants an update.
    pub(crate) fn is_wanted(&self) -> bool {
        let state = self.lock();
        state
            .viewers
            .values()
            .any(|viewer| viewer.waits_for.is_some())
    }

    /// Whether a viewer waits for a look that is yet to be begun, whether that finds anything or not.
    pub(crate) fn is_awaited(&self) -> bool {
        let state = self.lock();
        let mut viewers = state.viewers.values();
        viewers.any(|viewer| viewer.waits_for.is_some_and(|look| look > state.done))
    }

    /// A size that a viewer wishes for, which then waits for [`Self::answer`].
    pub(crate) fn take_wish(&self) -> Option<(u64, (u16, u16))> {
        let mut state = self.lock();
        let mut viewers = state.viewers.iter_mut();
        viewers.find_map(|(&number, viewer)| Some((number, viewer.wish.take()?)))
    }

    /// Whether a viewer wishes for a size.
    pub(crate) fn has_wish(&self) -> bool {
        let state = self.lock();
        state.viewers.values().any(|viewer| viewer.wish.is_some())
    }

    /// Says what came of a viewer's wish.
    pub(crate) fn answer(&self, number: u64, status: ResizeStatus) {
        if let Some(viewer) = self.lock().viewers.get_mut(&number) {
            viewer.answer = Some(status);
            viewer.ringer.ring();
        }
    }

    /// Begins a look at the picture.
    pub(crate) fn begin_look(&self) {
        let mut state = self.lock();
        state.begun += 1;
        state.frame.begin_turn();
    }

    /// Ends it, and rings for whoever waited for it.
    pub(crate) fn end_look(&self, has_changed: bool) {
        let mut state = self.lock();
        state.done = state.begun;
        let done = state.done;
        for viewer in state.viewers.values() {
            if viewer
                .waits_for
                .is_some_and(|look| look == done || has_changed)
            {
                viewer.ringer.ring();
            }
        }
    }
}

impl Place {
    /// Says that this viewer wants an update, of the picture as it is from now on.
    pub(crate) fn want(&self) {
        let mut state = self.hub.lock();
        let next = state.begun + 1;
        if let Some(viewer) = state.viewers.get_mut(&self.number) {
            viewer.waits_for.get_or_insert(next);
        }
        drop(state);
        self.hub.source.ring();
    }

    /// What `act` makes of the picture, if it was looked at since this viewer wanted an update. If
    /// that is something, the viewer does not want it any more.
    pub(crate) fn serve<T>(&self, act: impl FnOnce(&mut Frame) -> Option<T>) -> Option<T> {
        let mut state = self.hub.lock();
        let done = state.done;
        let viewer = state.viewers.get(&self.number)?;
        viewer.waits_for.filter(|&look| look <= done)?;
        let made = act(&mut state.frame)?;
        if let Some(viewer) = state.viewers.get_mut(&self.number) {
            viewer.waits_for = None;
        }
        Some(made)
    }

    /// Says which size this viewer wishes the picture had. Of several wishes the last counts.
    pub(crate) fn wish(&self, size: (u16, u16)) {
        if let Some(viewer) = self.hub.lock().viewers.get_mut(&self.number) {
            viewer.wish = Some(size);
        }
        self.hub.source.ring();
    }

    /// What came of that, once.
    pub(crate) fn take_answer(&self) -> Option<ResizeStatus> {
        let mut state = self.hub.lock();
        state.viewers.get_mut(&self.number)?.answer.take()
    }

    /// The hub.
    pub(crate) fn hub(&self) -> &Hub {
        &self.hub
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.hub.lock().viewers.remove(&self.number);
    }
}
