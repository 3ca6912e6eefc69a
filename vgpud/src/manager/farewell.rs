//! What becomes of vGPUs when the daemon is stopped in order.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;
use uuid::Uuid;

use crate::api::InstanceState;
use crate::config::OnStop;

use super::Manager;

/// How long a change that has begun may take to its end: more than a client waits for.
const PATIENCE: Duration = Duration::from_secs(10);

impl Manager {
    /// Lets what has begun come to its end, and no recovery begin. Ends what runs, if the
    /// administrator wants that.
    pub async fn farewell(&self) {
        self.0.is_ending.store(true, Ordering::Relaxed);
        let ends = self.0.config.daemon.on_stop == OnStop::End;
        let all: Vec<_> = {
            let table = self.table();
            // Functions end with their instances; else what has begun with them is waited for too.
            let entries = table
                .entries()
                .filter(|entry| !ends || entry.record.part.is_none());
            entries
                .map(|entry| (entry.record.uuid, entry.state))
                .collect()
        };
        let mut tasks = JoinSet::new();
        for (uuid, state) in all {
            let manager = self.clone();
            if state == InstanceState::Running && !ends {
                continue;
            }
            tasks.spawn(async move {
                let turn = timeout(PATIENCE, manager.turns(uuid)).await;
                let Ok(_turns) = turn else {
                    return tracing::warn!("{uuid} is left in the middle of a change");
                };
                if ends {
                    manager.end_for_now(uuid).await;
                }
            });
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Ends an instance that runs, to be started with the next daemon.
    async fn end_for_now(&self, uuid: Uuid) {
        // Its functions may run though its display has failed.
        let mut whole = self.whole(uuid).into_iter();
        if !whole.any(|one| self.worker_of(one).is_ok()) {
            return;
        }
        if let Err(error) = self.stop_in_turn(uuid, true).await {
            tracing::error!("{uuid} goes on: {error}");
            return;
        }
        if let Some(entry) = self.table().entry_mut(uuid) {
            entry.record.is_wanted = true;
            // None that ended by itself: so the next daemon sees that it is to start it.
            entry.record.worker = None;
        }
        self.save_or_log(uuid).await;
    }
}
