//! Which vGPU of a physical device the device shows: the one that was turned to last.
//!
//! The device's driver sees to it that there is one at most. Here the others' attributes follow, so
//! that each is what it was when its worker is replaced, or the host started again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use crate::api::Attribute;
use crate::catalogue::physical::is_device;
use crate::error::Error;

use super::Manager;

/// The attribute of a vGPU that says whether the device shows it.
const ATTRIBUTE: &str = "foreground";

/// The vGPU that was turned to last, by parent.
#[derive(Debug, Default)]
pub(super) struct Foreground {
    last: Last,
    /// Each held while a vGPU of that parent is turned to. Whoever has one waits for no turn, nor for
    /// another of them.
    turning: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

type Last = Arc<Mutex<BTreeMap<String, Uuid>>>;

/// A vGPU is being turned to. Unless that is done, nothing has changed.
#[must_use = "no other one can be turned to until it is done"]
pub(super) struct Turning {
    uuid: Uuid,
    parent: String,
    last: Last,
    _turning: OwnedMutexGuard<()>,
}

/// A vGPU was turned to.
#[must_use = "what comes after it may fail"]
pub(super) struct Turned {
    uuid: Uuid,
    parent: String,
    last: Last,
    before: Option<Uuid>,
}

impl Turning {
    /// It has been turned to.
    pub(super) fn done(self) -> Turned {
        let before = lock(&self.last).insert(self.parent.clone(), self.uuid);
        Turned {
            uuid: self.uuid,
            parent: self.parent,
            last: self.last,
            before,
        }
    }
}

impl Turned {
    /// It came to nothing: unless another one was turned to since, the one before is the last.
    pub(super) fn undo(self) {
        let mut last = lock(&self.last);
        if last.get(&self.parent) == Some(&self.uuid) {
            match self.before {
                Some(before) => last.insert(self.parent, before),
                None => last.remove(&self.parent),
            };
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Manager {
    /// To be called before a vGPU's worker is given `attributes`, and not for longer than that takes: if
    /// it is turned to by them, no other of its device is until what comes back is done or dropped.
    pub(super) async fn turn_to(&self, uuid: Uuid, attributes: &[Attribute]) -> Option<Turning> {
        let parent = self.parent_of(uuid).ok()?;
        if !is_device(&parent) || !is_on(attributes) {
            return None;
        }
        let foreground = &self.0.foreground;
        let turning = Arc::clone(lock(&foreground.turning).entry(parent.clone()).or_default());
        Some(Turning {
            uuid,
            parent,
            last: Arc::clone(&foreground.last),
            _turning: turning.lock_owned().await,
        })
    }

    /// Turns off whichever others of its device were shown, if that vGPU is, and was turned to last.
    /// Whoever calls this has nobody's turn.
    pub(super) async fn turn_off_others(&self, uuid: Uuid) {
        let Ok(parent) = self.parent_of(uuid) else {
            return;
        };
        if self.is_last(&parent, uuid) && self.is_shown(uuid) {
            for other in self.shown_on(&parent) {
                if let Err(error) = self.turn_off(&parent, other).await {
                    tracing::error!("{other} is shown no more, and is said to be: {error}");
                }
            }
        }
    }

    fn is_shown(&self, uuid: Uuid) -> bool {
        let attributes = self.attributes_in_force(uuid);
        attributes.is_ok_and(|(_, attributes)| is_on(&attributes))
    }

    pub(super) fn is_last(&self, parent: &str, uuid: Uuid) -> bool {
        lock(&self.0.foreground.last).get(parent) == Some(&uuid)
    }

    fn shown_on(&self, parent: &str) -> Vec<Uuid> {
        let table = self.table();
        let shown = table.instances().filter(|entry| {
            let record = &entry.record;
            record.request.parent == parent && is_on(&record.attributes)
        });
        shown.map(|entry| entry.record.uuid).collect()
    }

    async fn turn_off(&self, parent: &str, uuid: Uuid) -> Result<(), Error> {
        let _turns = self.turns(uuid).await;
        // It may have been turned to meanwhile.
        if self.is_last(parent, uuid) {
            return Ok(());
        }
        let off = Attribute {
            name: ATTRIBUTE.to_owned(),
            value: "off".to_owned(),
        };
        self.set_in_turn(uuid, vec![off]).await
    }
}

/// Whether attributes, of which the later one wins, have a vGPU shown.
fn is_on(attributes: &[Attribute]) -> bool {
    let mut given = attributes.iter().rev();
    let given = given.find(|attribute| attribute.name == ATTRIBUTE);
    given.is_some_and(|attribute| attribute.value == "on")
}
