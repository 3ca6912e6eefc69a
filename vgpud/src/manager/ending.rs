//! What a worker's end entails, whatever its cause.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;

use crate::api::{EventKind, Exit, InstanceState};
use crate::blocking::blocking;
use crate::worker_process::confinement::Confinement;
use crate::worker_process::{Worker, exit, pidfd, socket};

use super::Manager;

impl Manager {
    /// Sees to a worker's end, from now on.
    pub(super) fn watch(&self, uuid: Uuid, worker: Arc<Worker>) {
        let manager = self.clone();
        tokio::spawn(async move {
            if let Err(error) = pidfd::wait(&worker.pidfd).await {
                // Its end is then seen when it is stopped, and not before.
                tracing::error!("the worker of {uuid} cannot be watched: {error}");
            }
            let ended = Arc::clone(&worker);
            let confinement = Confinement::new(&manager.0.config.workers, uuid, None);
            let exit = blocking(move || {
                let exit = exit::reap(ended.pidfd.as_fd(), &ended.log);
                confinement.explain_exit(exit)
            })
            .await;
            manager.note_exit(uuid, &worker, exit.clone()).await;
            worker.announce_exit(exit);
        });
    }

    /// What a worker's end entails.
    async fn note_exit(&self, uuid: Uuid, worker: &Arc<Worker>, exit: Exit) {
        if !self.is_current(uuid, worker) {
            return;
        }
        // Before anyone can start another one, which makes its own.
        let manager = self.clone();
        blocking(move || manager.remove_sockets(uuid)).await;
        let Some((parent, was_stopped)) = self.end_entry(uuid, &exit) else {
            return;
        };
        if let Err(error) = self.save(uuid).await {
            tracing::error!("{error}");
        }
        let (kind, detail) = match (was_stopped, exit.last_words) {
            (true, _) => (EventKind::Stopped, exit.reason),
            (false, None) => (EventKind::Crashed, exit.reason),
            (false, Some(words)) => (EventKind::Crashed, format!("{}: {words}", exit.reason)),
        };
        self.0.events.tell(kind, uuid, &parent, detail);
    }

    fn is_current(&self, uuid: Uuid, worker: &Arc<Worker>) -> bool {
        let current = self.worker_of(uuid);
        current.is_ok_and(|current| Arc::ptr_eq(&current, worker))
    }

    /// Its parent, and whether it was to stop.
    fn end_entry(&self, uuid: Uuid, exit: &Exit) -> Option<(String, bool)> {
        let mut table = self.table();
        let entry = table.entry_mut(uuid)?;
        entry.worker = None;
        let was_stopped = entry.state == InstanceState::Stopping;
        if was_stopped {
            entry.state = InstanceState::Stopped;
            entry.record.is_wanted = false;
        } else {
            entry.state = InstanceState::Failed;
            entry.record.crashes += 1;
        }
        entry.record.has_ended = true;
        entry.record.last_exit = Some(exit.clone());
        Some((entry.record.request.parent.clone(), was_stopped))
    }

    /// Removes the sockets of a worker that is gone, and its control group. Its log stays, to be
    /// read. Blocks.
    pub(super) fn remove_sockets(&self, uuid: Uuid) {
        Confinement::new(&self.0.config.workers, uuid, None).clean_up();
        let paths = &self.0.paths;
        remove_or_warn(&paths.socket(uuid));
        remove_or_warn(&paths.control(uuid));
    }
}

pub(super) fn remove_or_warn(path: &Path) {
    if let Err(error) = socket::remove(path) {
        tracing::warn!("{} stays: {error}", path.display());
    }
}
