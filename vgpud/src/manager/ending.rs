//! What a worker's end entails, whatever its cause.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use uuid::Uuid;
use worker::parking::Parked;

use crate::api::{EventKind, Exit, InstanceState, Outcome, Recovery};
use crate::blocking::blocking;
use crate::clock;
use crate::config::Restart;
use crate::crashes::WINDOW;
use crate::functions::Name;
use crate::table::Entry;
use crate::worker_process::confinement::Confinement;
use crate::worker_process::keeping::{listener_of, part};
use crate::worker_process::{Worker, socket};

use super::Manager;

/// What a worker's end comes to.
enum Verdict {
    /// Another one takes over: the table says so already.
    Recovering { parent: String },
    /// It is over.
    Over {
        parked: Parked,
        /// Why it was given up, if that is what it was.
        why: Option<String>,
    },
}

impl Manager {
    /// Sees to a worker's end, and to what it parks until then, from now on.
    pub(super) fn watch(&self, uuid: Uuid, worker: Arc<Worker>) {
        self.keep(uuid, Arc::clone(&worker));
        self.lend(uuid, &worker);
        let manager = self.clone();
        tokio::spawn(async move {
            if let Err(error) = worker.life.ended().await {
                // Its end is then seen when it is stopped, and not before.
                tracing::error!("the worker of {uuid} cannot be watched: {error}");
            }
            let begun = Instant::now();
            let ended = Arc::clone(&worker);
            let name = manager.name_of(uuid);
            let confinement = Confinement::new(&manager.0.config.workers, name, None);
            let exit = blocking(move || {
                let exit = ended.life.reap(&ended.log);
                match ended.life.is_seat() {
                    // That of its device's worker is explained by what confines that one.
                    true => exit,
                    false => confinement.explain_exit(exit),
                }
            })
            .await;
            manager.0.engines.leave(uuid, &worker);
            let device = manager.device_of(uuid);
            let is_over = manager.note_exit(uuid, &worker, exit.clone(), begun).await;
            worker.announce_exit(exit);
            // It may have to wait for another vGPU's start, and nobody for that but who stopped it.
            if let Some(device) = device.filter(|_| is_over) {
                manager.let_go(&device).await;
            }
        });
    }

    /// Takes in what a worker parks, from now on.
    pub(super) fn keep(&self, uuid: Uuid, worker: Arc<Worker>) {
        tokio::spawn(async move {
            if let Err(error) = worker.keeping.take_in_all().await {
                tracing::error!("what the worker of {uuid} parks is not taken in: {error}");
            }
        });
    }

    /// What a worker's end entails, but for its device. Nothing if another one serves already. Whether it
    /// is over.
    async fn note_exit(
        &self,
        uuid: Uuid,
        worker: &Arc<Worker>,
        exit: Exit,
        begun: Instant,
    ) -> bool {
        match self.judge(uuid, worker, &exit) {
            None => false,
            Some(Verdict::Recovering { parent }) => {
                self.tell_crash(uuid, &parent, &exit);
                self.begin_recovery(uuid, begun);
                false
            }
            Some(Verdict::Over { parked, why }) => {
                blocking(move || part(parked)).await;
                self.end(uuid, worker, &exit, why).await;
                true
            }
        }
    }

    /// So many within [`WINDOW`] are too many.
    pub(super) fn most_crashes(&self) -> usize {
        self.0.config.workers.most_crashes.0.get()
    }

    /// Why no further worker takes over.
    pub(super) fn too_many(&self) -> String {
        let (most, seconds) = (self.most_crashes(), WINDOW.as_secs());
        format!("given up: {most} crashes within {seconds} s")
    }

    /// Decides, and if another worker is to take over, takes note of that. A disk that is slow or
    /// full has no part in it: the client waits.
    fn judge(&self, uuid: Uuid, worker: &Arc<Worker>, exit: &Exit) -> Option<Verdict> {
        let mut table = self.table();
        let entry = table.entry_mut(uuid)?;
        if !entry.is_served_by(worker) {
            return None;
        }
        let parked = worker.keeping.inherit();
        let over = |parked, why| Some(Verdict::Over { parked, why });
        if entry.state == InstanceState::Stopping {
            return over(parked, None);
        }
        let count = match worker.life.has_ended_for_another() {
            true => 0,
            false => entry.late_crashes.note(Instant::now()),
        };
        if listener_of(&parked).is_none() || !self.may_recover() {
            return over(parked, None);
        }
        if count >= self.most_crashes() {
            return over(parked, Some(self.too_many()));
        }
        entry.worker = None;
        entry.left = Some(parked);
        entry.state = InstanceState::Recovering;
        note_crash(entry, worker, exit);
        let parent = entry.record.request.parent.clone();
        Some(Verdict::Recovering { parent })
    }

    /// Whether another worker may take over from one that ended by itself.
    pub(super) fn may_recover(&self) -> bool {
        let is_ending = self.0.is_ending.load(Ordering::Relaxed);
        !is_ending && self.0.config.workers.restart == Restart::OnCrash
    }

    /// What the end of an instance's last worker entails.
    async fn end(&self, uuid: Uuid, worker: &Worker, exit: &Exit, why: Option<String>) {
        // Before anyone can start another one, which makes its own.
        let manager = self.clone();
        blocking(move || manager.remove_sockets(uuid)).await;
        let Some((parent, was_stopped)) = self.end_entry(uuid, worker, exit, why.as_deref()) else {
            return;
        };
        self.save_or_log(uuid).await;
        if was_stopped {
            let reason = exit.reason.clone();
            return self.tell(EventKind::Stopped, uuid, &parent, reason);
        }
        self.tell_crash(uuid, &parent, exit);
        if let Some(why) = why {
            self.tell(EventKind::GaveUp, uuid, &parent, why);
        }
    }

    fn tell_crash(&self, uuid: Uuid, parent: &str, exit: &Exit) {
        let detail = match &exit.last_words {
            None => exit.reason.clone(),
            Some(words) => format!("{}: {words}", exit.reason),
        };
        self.tell(EventKind::Crashed, uuid, parent, detail);
    }

    /// Its parent, and whether it was to stop.
    fn end_entry(
        &self,
        uuid: Uuid,
        worker: &Worker,
        exit: &Exit,
        why: Option<&str>,
    ) -> Option<(String, bool)> {
        let mut table = self.table();
        let entry = table.entry_mut(uuid)?;
        entry.worker = None;
        let was_stopped = entry.state == InstanceState::Stopping;
        if was_stopped {
            entry.state = InstanceState::Stopped;
            entry.record.is_wanted = false;
            entry.record.has_ended = true;
            entry.record.last_exit = Some(exit.clone());
        } else {
            entry.state = InstanceState::Failed;
            note_crash(entry, worker, exit);
        }
        if let Some(why) = why {
            entry.record.last_recovery = Some(given_up(why));
        }
        Some((entry.record.request.parent.clone(), was_stopped))
    }

    /// Writes a record. A full disk is logged, and stops nothing else.
    pub(super) async fn save_or_log(&self, uuid: Uuid) {
        if let Err(error) = self.save(uuid).await {
            tracing::error!("{error}");
        }
    }

    /// Removes the sockets of a worker that is gone, its consoles, and its control group. Its log stays, to be
    /// read. Blocks.
    pub(super) fn remove_sockets(&self, uuid: Uuid) {
        self.remove_sockets_of(self.name_of(uuid));
    }

    /// The same, of one of which nothing else may be known.
    pub(super) fn remove_sockets_of(&self, name: Name) {
        if name.function.is_none() {
            self.0.consoles.end_all(name.uuid);
        }
        Confinement::new(&self.0.config.workers, name, None).clean_up();
        let paths = &self.0.paths;
        remove_or_warn(&paths.socket(name));
        remove_or_warn(&paths.control(name));
        remove_or_warn(&paths.control_aside(name));
    }
}

/// Counts a worker's end that nobody asked for, unless it was another vGPU's.
fn note_crash(entry: &mut Entry, worker: &Worker, exit: &Exit) {
    entry.record.crashes += u64::from(!worker.life.has_ended_for_another());
    entry.record.has_ended = true;
    entry.record.last_exit = Some(exit.clone());
}

pub(super) fn given_up(why: &str) -> Recovery {
    Recovery {
        outcome: Outcome::GivenUp,
        detail: why.to_owned(),
        took_ms: 0,
        at: clock::now(),
    }
}

pub(super) fn remove_or_warn(path: &Path) {
    if let Err(error) = socket::remove(path) {
        tracing::warn!("{} stays: {error}", path.display());
    }
}
