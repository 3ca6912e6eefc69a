//! A worker of the installed program takes over from one that serves.
//!
//! Until the old worker is told to leave it waits, and goes on if anything fails: its client sees
//! a pause, and nothing else. What fails later is a crash of the new one, which is recovered.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use uuid::Uuid;
use worker::control::{Control, ControlError};
use worker::parking::Parked;
use worker::resume::Outlook;

use crate::api::{EventKind, Upgrade};
use crate::blocking::{blocking, detached};
use crate::error::Error;
use crate::worker_process::launch::{Plan, wait_answers};
use crate::worker_process::successor::{Successor, Word};
use crate::worker_process::{Worker, socket};

use super::Manager;
use super::recovery::device_after;

/// How long the new worker may take to tell whether it can go on: the client gives up after 5 s, and
/// until then the old one can go on.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long the old worker may take to leave before it is ended: the client waits.
const LEAVE_PATIENCE: Duration = Duration::from_secs(1);

/// A new worker that serves.
struct Replaced {
    worker: Arc<Worker>,
    outlook: Outlook,
    pause: Duration,
}

impl Manager {
    /// Has a worker of the installed program take over from the one that serves. On error that one
    /// goes on.
    pub async fn upgrade(&self, uuid: Uuid) -> Result<Upgrade, Error> {
        let manager = self.clone();
        detached(async move {
            let _turns = manager.turns(uuid).await;
            let upgrade = manager.upgrade_in_turn(uuid).await?;
            for (_, part) in manager.parts(uuid) {
                // One that is failed, or is being recovered, has the installed program next.
                if manager.worker_of(part).is_ok() {
                    manager.upgrade_in_turn(part).await?;
                }
            }
            Ok(upgrade)
        })
        .await
    }

    async fn upgrade_in_turn(&self, uuid: Uuid) -> Result<Upgrade, Error> {
        let old = self.worker_of(uuid)?;
        if old.life.is_seat() {
            return Err(Error::Seated(uuid));
        }
        let plan = self.plan(uuid)?;
        let manager = self.clone();
        let Replaced {
            worker,
            outlook,
            pause,
        } = blocking(move || manager.replace(uuid, &old, &plan)).await?;
        let waited = Arc::clone(&worker);
        if let Err(words) = blocking(move || wait_answers(&waited)).await {
            // It has all that it needs: if it has ended, another one takes over.
            tracing::warn!("the new worker of {uuid}: {words}");
        }
        let upgrade = Upgrade {
            uuid,
            pid: worker.identity.pid,
            pause_us: u64::try_from(pause.as_micros()).unwrap_or(u64::MAX),
            connected: outlook.connected,
            exact: outlook.exact,
        };
        if let Some(entry) = self.table().entry_mut(uuid) {
            entry.record.upgrades += 1;
        }
        let parent = self.parent_of(uuid)?;
        self.tell(
            EventKind::Upgraded,
            uuid,
            &parent,
            in_words(&outlook, pause),
        );
        self.save_or_log(uuid).await;
        Ok(upgrade)
    }

    /// Everything that blocks, from the start of the new worker to the end of the old one.
    fn replace(&self, uuid: Uuid, old: &Arc<Worker>, plan: &Plan) -> Result<Replaced, Error> {
        let refused = |error| refusal(uuid, error);
        let control = Control::connect(&old.control).map_err(refused)?;
        let listener = old.keeping.listener();
        let listener = listener.map_err(Error::os("duplicate the listener"))?;
        let listener = listener.ok_or(Error::NotKept(uuid))?;
        let aside = Aside::put(old.control.clone(), self.0.paths.control_aside(plan.name))?;
        // The slow part, for which nobody waits: its program begins while the old one serves.
        let mut successor = self.0.launcher.start_successor(plan, listener)?;
        let begun = match control.hand_over() {
            Ok(()) => Instant::now(),
            Err(error) => {
                // It may still come to it.
                let _ = control.go_on();
                return Err(refused(error));
            }
        };
        let handed = hand_over(&mut successor, old).and_then(|(parked, outlook)| {
            let taken = self.install(uuid, old, successor, parked)?;
            Ok((taken, outlook))
        });
        let ((worker, word), outlook) = handed.inspect_err(|_| {
            if let Err(error) = control.go_on() {
                tracing::error!("the old worker of {uuid} does not go on: {error}");
            }
        })?;
        send_away(&control, old);
        aside.forget();
        if let Err(error) = word.go() {
            // Its end is seen as that of any worker.
            tracing::warn!("the new worker of {uuid} cannot be told to go on: {error}");
        }
        let pause = begun.elapsed();
        self.watch(uuid, Arc::clone(&worker));
        Ok(Replaced {
            worker,
            outlook,
            pause,
        })
    }

    /// Puts the new worker in the place of the old one, whose end then concerns nobody; if that
    /// one has not ended meanwhile.
    fn install(
        &self,
        uuid: Uuid,
        old: &Arc<Worker>,
        successor: Successor,
        parked: Parked,
    ) -> Result<(Arc<Worker>, Word), Error> {
        let mut table = self.table();
        let entry = table.entry_mut(uuid).ok_or(Error::NoInstance(uuid))?;
        if !entry.is_served_by(old) {
            let words = "the old one has ended meanwhile, and is being recovered";
            return Err(Error::NotTakenOver(uuid, words.to_owned()));
        }
        let taken = successor.into_worker(parked).ok_or(Error::NotKept(uuid))?;
        entry.worker = Some(Arc::clone(&taken.0));
        entry.record.worker = Some(taken.0.identity.clone());
        Ok(taken)
    }
}

/// Hands over what the old worker has parked by now.
fn hand_over(successor: &mut Successor, old: &Worker) -> Result<(Parked, Outlook), Error> {
    let parked = old.keeping.duplicate();
    let parked = parked.map_err(Error::os("duplicate what a worker has parked"))?;
    let outlook = successor.hand_over(&parked, PATIENCE)?;
    Ok((parked, outlook))
}

/// Ends the old worker, which waits. The client's socket must be read by one alone.
fn send_away(control: &Control, old: &Worker) {
    let left = control.leave();
    if left.is_ok() && old.life.has_ended_within(LEAVE_PATIENCE) {
        return;
    }
    tracing::warn!("an old worker does not leave, and is ended");
    old.life.signal(Signal::KILL);
    old.life.has_ended_within(LEAVE_PATIENCE);
}

fn refusal(uuid: Uuid, error: ControlError) -> Error {
    match error {
        // It does not stand still, for now.
        ControlError::Refused { errno, message } if errno == "EBUSY" => {
            Error::Refused { errno, message }
        }
        ControlError::Refused { .. } => Error::NotKept(uuid),
        mute => Error::Mute(uuid, mute.to_string()),
    }
}

fn in_words(outlook: &Outlook, pause: Duration) -> String {
    let (pause, state) = (pause.as_micros(), device_after(outlook));
    format!(
        "a new worker took over in {}.{} ms; {state}",
        pause / 1000,
        pause % 1000 / 100
    )
}

/// A control socket that is out of the way of the next worker's. Dropping it puts it back.
struct Aside {
    place: PathBuf,
    aside: PathBuf,
    is_over: bool,
}

impl Aside {
    fn put(place: PathBuf, aside: PathBuf) -> Result<Self, Error> {
        let moved = fs::rename(&place, &aside);
        moved.map_err(Error::os(format!("move {}", place.display())))?;
        Ok(Self {
            place,
            aside,
            is_over: false,
        })
    }

    /// Its worker is gone.
    fn forget(mut self) {
        self.is_over = true;
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let done = match self.is_over {
            true => socket::remove(&self.aside),
            false => fs::rename(&self.aside, &self.place),
        };
        if let Err(error) = done {
            tracing::warn!("{} stays: {error}", self.aside.display());
        }
    }
}
