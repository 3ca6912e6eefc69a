//! Which vGPU of a physical device the device shows: the one that was turned to last.
//!
//! The device's driver sees to it that there is one at most. Here the others' attributes follow, so
//! that each is what it was when its worker is replaced, or the host started again.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::MutexGuard;
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
    last: Mutex<BTreeMap<String, Uuid>>,
    /// Held while one is turned to. Whoever has it waits for no turn.
    turning: tokio::sync::Mutex<()>,
}

impl Manager {
    /// To be called before a vGPU is given `attributes`: if it is turned to by them, no other is until
    /// what comes back is dropped.
    pub(super) async fn turn_to(
        &self,
        uuid: Uuid,
        attributes: &[Attribute],
    ) -> Option<MutexGuard<'_, ()>> {
        let parent = self.parent_of(uuid).ok()?;
        if !is_device(&parent) || !is_on(attributes) {
            return None;
        }
        let foreground = &self.0.foreground;
        let turning = foreground.turning.lock().await;
        let mut last = foreground
            .last
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        last.insert(parent, uuid);
        Some(turning)
    }

    /// Turns off whichever others of its device were shown, if that vGPU was turned to last. Whoever
    /// calls this has nobody's turn.
    pub(super) async fn turn_off_others(&self, uuid: Uuid) {
        let Ok(parent) = self.parent_of(uuid) else {
            return;
        };
        if self.is_last(&parent, uuid) {
            for other in self.shown_on(&parent) {
                if let Err(error) = self.turn_off(&parent, other).await {
                    tracing::error!("{other} is shown no more, and is said to be: {error}");
                }
            }
        }
    }

    fn is_last(&self, parent: &str, uuid: Uuid) -> bool {
        let last = self.0.foreground.last.lock();
        let last = last.unwrap_or_else(PoisonError::into_inner);
        last.get(parent) == Some(&uuid)
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
