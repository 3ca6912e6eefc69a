//! Another worker takes over from one that ended by itself, under its client's connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;
use worker::parking::Parked;
use worker::resume::Outlook;

use crate::api::{EventKind, InstanceState, Outcome, Recovery};
use crate::blocking::blocking;
use crate::clock;
use crate::error::Error;
use crate::worker_process::Worker;
use crate::worker_process::keeping::{has_client, listener_of, part};
use crate::worker_process::launch::wait_answers;

use super::Manager;
use super::ending::given_up;

/// How long a worker may take to tell whether it can go on. On a host that is starved another one
/// would be no faster; after 5 s the client has given up.
const PATIENCE: Duration = Duration::from_secs(6);

/// Before another one tries what the last one could not: what ended that may be over by then. The
/// client waits for 5 s.
const PAUSE: Duration = Duration::from_millis(200);

impl Manager {
    /// Has another worker take over, in its turn.
    pub(super) fn begin_recovery(&self, uuid: Uuid, begun: Instant) {
        let manager = self.clone();
        tokio::spawn(async move {
            let _turn = manager.0.turns.wait(uuid).await;
            manager.recover_in_turn(uuid, begun).await;
        });
    }

    async fn recover_in_turn(&self, uuid: Uuid, begun: Instant) {
        loop {
            // Without it someone has stopped it since.
            let Some(parked) = self.take_left(uuid) else {
                return;
            };
            let (parked, error) = match self.try_recovery(uuid, parked, begun).await {
                Ok(()) => return,
                Err(failed) => failed,
            };
            if !self.may_try_again(uuid, &error) {
                return self.give_up(uuid, parked, &error).await;
            }
            if let Some(entry) = self.table().entry_mut(uuid) {
                entry.left = Some(parked);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// What the worker left, if another one is to go on from it.
    fn take_left(&self, uuid: Uuid) -> Option<Parked> {
        let mut table = self.table();
        let entry = table.entry_mut(uuid)?;
        let is_awaited = entry.state == InstanceState::Recovering;
        is_awaited.then(|| entry.left.take()).flatten()
    }

    /// One try. On error what was left is given back.
    async fn try_recovery(
        &self,
        uuid: Uuid,
        parked: Parked,
        begun: Instant,
    ) -> Result<(), (Parked, Error)> {
        let plan = match self.plan(uuid) {
            Ok(plan) => plan,
            Err(error) => return Err((parked, error)),
        };
        let launcher = self.0.launcher.clone();
        let (tried, parked) = blocking(move || {
            let listener = listener_of(&parked).ok_or(Error::NotKept(uuid));
            let listener =
                listener.and_then(|fd| fd.try_clone().map_err(Error::os("keep the listener")));
            let tried = listener.and_then(|listener| {
                // A new control group counts anew whom the kernel ended for memory.
                plan.confinement.clean_up();
                let mut successor = launcher.start_successor(&plan, listener)?;
                let outlook = successor.hand_over(&parked, PATIENCE)?;
                Ok((successor, outlook))
            });
            (tried, parked)
        })
        .await;
        let (successor, outlook) = match tried {
            Ok(tried) => tried,
            Err(error) => return Err((parked, error)),
        };
        let Some((worker, word)) = successor.into_worker(parked) else {
            // It has just said that it can go on.
            return Err((Parked::new(), Error::NotKept(uuid)));
        };
        // From here on its end is one more crash, and seen as such.
        if let Some(entry) = self.table().entry_mut(uuid) {
            entry.worker = Some(worker.clone());
            entry.record.worker = Some(worker.identity.clone());
            entry.record.has_ended = false;
        }
        let gone_on = word.go();
        let took = begun.elapsed();
        self.watch(uuid, worker.clone());
        let waited = worker.clone();
        let answers = match gone_on {
            Ok(()) => blocking(move || wait_answers(&waited)).await,
            Err(error) => Err(error.to_string()),
        };
        if let Err(words) = answers {
            tracing::warn!("the worker of {uuid} that took over: {words}");
        }
        self.note_recovery(uuid, &worker, &outlook, took).await;
        Ok(())
    }

    async fn note_recovery(
        &self,
        uuid: Uuid,
        worker: &Arc<Worker>,
        outlook: &Outlook,
        took: Duration,
    ) {
        let (parent, recovery) = {
            let mut table = self.table();
            let Some(entry) = table.entry_mut(uuid) else {
                return;
            };
            if !entry.is_served_by(worker) {
                // It has ended as well: the next one waits for its turn already.
                return;
            }
            entry.state = InstanceState::Running;
            entry.record.recoveries += 1;
            let recovery = recovery_of(outlook, took, entry.late_crashes.count());
            entry.record.last_recovery = Some(recovery.clone());
            (entry.record.request.parent.clone(), recovery)
        };
        self.tell(EventKind::Recovered, uuid, &parent, recovery.detail);
        self.save_or_log(uuid).await;
    }

    /// Takes note of a worker that could not take over: a crash as any other. Whether another one
    /// may try.
    fn may_try_again(&self, uuid: Uuid, error: &Error) -> bool {
        tracing::warn!("{error}");
        let may_recover = self.may_recover();
        let mut table = self.table();
        let Some(entry) = table.entry_mut(uuid) else {
            return false;
        };
        // What is told as the last end is that of the one that served.
        entry.record.crashes += 1;
        entry.late_crashes.note(Instant::now()) < self.most_crashes() && may_recover
    }

    /// Ends it: whoever is connected sees the connection end.
    async fn give_up(&self, uuid: Uuid, parked: Parked, error: &Error) {
        let manager = self.clone();
        blocking(move || {
            part(parked);
            manager.remove_sockets(uuid);
        })
        .await;
        let words = format!("{}: {error}", self.too_many());
        let parent = {
            let mut table = self.table();
            let Some(entry) = table.entry_mut(uuid) else {
                return;
            };
            entry.state = InstanceState::Failed;
            entry.record.last_recovery = Some(given_up(&words));
            entry.record.request.parent.clone()
        };
        self.tell(EventKind::GaveUp, uuid, &parent, words);
        self.save_or_log(uuid).await;
        self.let_go_of(uuid).await;
    }

    /// Lets go of what a worker left, if nobody has gone on from it. Blocks.
    pub(super) fn part_with_left(&self, uuid: Uuid) {
        let left = self
            .table()
            .entry_mut(uuid)
            .and_then(|entry| entry.left.take());
        if let Some(left) = left {
            part(left);
        }
    }

    /// Whether a client waits for the next worker.
    pub(super) fn is_awaited(&self, uuid: Uuid) -> bool {
        let table = self.table();
        let left = table.entry(uuid).and_then(|entry| entry.left.as_ref());
        left.is_some_and(has_client)
    }
}

/// What became of the device, in words.
pub(super) fn device_after(outlook: &Outlook) -> &'static str {
    match (outlook.exact, outlook.connected) {
        (true, _) => "the device has the state that it had",
        (false, true) => "the device was reset: its driver has to be bound anew",
        (false, false) => "the device was reset; nobody was connected",
    }
}

/// How it came out, in words.
fn recovery_of(outlook: &Outlook, took: Duration, count: usize) -> Recovery {
    let outcome = match outlook.exact {
        true => Outcome::Exact,
        false => Outcome::Reset,
    };
    let mut detail = device_after(outlook).to_owned();
    if let Some(skipped) = &outlook.skipped {
        detail = format!("{detail}; a request was given up, which ended two workers: {skipped}");
    }
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    Recovery {
        outcome,
        detail: format!("{detail}; after {took_ms} ms; crashes within a minute: {count}"),
        took_ms,
        at: clock::now(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_is_told_in_words() {
        let took = Duration::from_millis(12);
        for (exact, connected, skipped, outcome, words) in [
            (true, true, None, Outcome::Exact, "the state that it had"),
            (false, true, None, Outcome::Reset, "bound anew"),
            (false, false, None, Outcome::Reset, "nobody was connected"),
            (
                true,
                true,
                Some("a write"),
                Outcome::Exact,
                "two workers: a write",
            ),
        ] {
            let outlook = Outlook {
                connected,
                exact,
                skipped: skipped.map(str::to_owned),
            };
            let told = recovery_of(&outlook, took, 2);
            assert_eq!((told.outcome, told.took_ms), (outcome, 12));
            for part in [words, "12 ms", "within a minute: 2"] {
                assert!(told.detail.contains(part), "{}", told.detail);
            }
        }
    }
}
