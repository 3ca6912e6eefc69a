//! One change at a time for each UUID; those of different UUIDs do not wait for each other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

/// Who waits for which UUID.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<Uuid, Arc<tokio::sync::Mutex<()>>>>);

/// A turn. The next one begins when it is dropped.
pub(crate) struct Turn {
    guard: Option<OwnedMutexGuard<()>>,
    turns: Arc<Turns>,
    uuid: Uuid,
}

impl Turns {
    /// Waits for those that came before.
    pub(crate) async fn wait(self: &Arc<Self>, uuid: Uuid) -> Turn {
        let lock = Arc::clone(self.lock().entry(uuid).or_default());
        Turn {
            guard: Some(lock.lock_owned().await),
            turns: Arc::clone(self),
            uuid,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<tokio::sync::Mutex<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut locks = self.turns.lock();
        self.guard = None;
        // Those who wait have a share of it, and get one only through the table.
        if locks
            .get(&self.uuid)
            .is_some_and(|lock| Arc::strong_count(lock) == 1)
        {
            locks.remove(&self.uuid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_of_one_uuid_follow_each_other_and_leave_nothing() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let turns = Arc::new(Turns::default());
            let first = turns.wait(Uuid::from_u128(1)).await;
            let other = turns.wait(Uuid::from_u128(2)).await;
            let waiting = tokio::spawn({
                let turns = Arc::clone(&turns);
                async move { drop(turns.wait(Uuid::from_u128(1)).await) }
            });
            tokio::task::yield_now().await;
            assert!(!waiting.is_finished());
            drop(first);
            waiting.await.unwrap();
            assert_eq!(turns.lock().len(), 1);
            drop(other);
            assert!(turns.lock().is_empty());
        });
    }
}
