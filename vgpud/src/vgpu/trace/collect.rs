//! What the daemon tells, asked for often enough that little of it is forgotten.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use vgpud::api::{Engine, EngineSlice};
use vgpud::client::{Client, ClientError};

use super::events::Writer;

/// How long the daemon may take for an answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Between two questions. The daemon remembers 4096 decisions of an engine.
const POLL: Duration = Duration::from_millis(50);

/// Longer than a lease lasts that no job outlives its limit in, beside that limit.
const LEASE_NS: u64 = 100_000_000;

/// Why it was over.
pub(super) enum End {
    /// The time was over, or a signal came.
    Asked,
    /// The daemon is gone.
    Daemon,
}

/// Where we stand.
pub(super) struct Collected {
    only: Option<String>,
    /// The last decision that is known of each engine, and what had been used of it by then.
    last: HashMap<String, (u64, u64)>,
    /// Decisions that are not written yet: one that began before them may still come.
    held: HashMap<String, Vec<EngineSlice>>,
    /// When it begins.
    pub(super) zero: u64,
    /// Decisions that were forgotten before they were asked for.
    pub(super) missed: u64,
}

impl Collected {
    /// Looks where the engines stand. A parent that is named must have one.
    pub(super) fn begin(
        client: &Client,
        only: Option<&str>,
        wants_past: bool,
    ) -> Result<Self, ClientError> {
        let engines = match only {
            Some(parent) => vec![client.engine(parent)?],
            None => client.engines()?,
        };
        let (mut last, mut zero) = (HashMap::new(), u64::MAX);
        for engine in engines {
            let slices = client.engine_slices(&engine.parent, 0)?;
            zero = zero.min(engine.at_ns);
            if let Some(first) = slices.first().filter(|_| wants_past) {
                zero = zero.min(first.begun_ns.saturating_sub(first.waited_ns));
            }
            let at = match wants_past {
                true => slices.first().map_or(0, |slice| slice.id - 1),
                false => slices.last().map_or(0, |slice| slice.id),
            };
            last.insert(engine.parent, (at, engine.used_ns));
        }
        Ok(Self {
            only: only.map(str::to_owned),
            last,
            held: HashMap::new(),
            zero: if zero == u64::MAX { 0 } else { zero },
            missed: 0,
        })
    }

    /// Writes what comes, until the time is over, something is received, or the daemon is gone.
    pub(super) fn follow(
        &mut self,
        client: &Client,
        time: Option<Duration>,
        ending: &Receiver<()>,
        writer: &mut Writer<'_>,
    ) -> anyhow::Result<End> {
        let begun = Instant::now();
        let end = loop {
            let engines = match self.ask(client) {
                Ok(Some(engines)) => engines,
                Ok(None) => break End::Daemon,
                // What a refusal or an answer of nonsense says is worth more than a trace.
                Err(error @ (ClientError::Refused(_) | ClientError::Garbled(_))) => {
                    return Err(error.into());
                }
                Err(_) => break End::Daemon,
            };
            for engine in &engines {
                writer.engine(engine)?;
                self.write(engine, writer)?;
            }
            let left = time.map(|time| time.saturating_sub(begun.elapsed()));
            if left.is_some_and(|left| left.is_zero()) {
                break End::Asked;
            }
            match ending.recv_timeout(left.unwrap_or(POLL).min(POLL)) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => break End::Asked,
            }
        };
        for (parent, mut slices) in self.held.drain() {
            slices.sort_by_key(|slice| (slice.begun_ns, slice.id));
            for slice in slices {
                writer.slice(&parent, &slice)?;
            }
        }
        Ok(end)
    }

    /// What is new. None if another daemon answers, which counts from the beginning.
    fn ask(&mut self, client: &Client) -> Result<Option<Vec<Engine>>, ClientError> {
        let mut engines = client.engines()?;
        engines.retain(|engine| self.only.as_ref().is_none_or(|only| *only == engine.parent));
        for engine in &engines {
            let (last, used) = self.last.entry(engine.parent.clone()).or_default();
            if engine.used_ns < *used {
                return Ok(None);
            }
            *used = engine.used_ns;
            let slices = client.engine_slices(&engine.parent, *last)?;
            if let Some(first) = slices.first() {
                self.missed += first.id.saturating_sub(*last + 1);
            }
            *last = slices.last().map_or(*last, |slice| slice.id);
            let held = self.held.entry(engine.parent.clone()).or_default();
            held.extend(slices);
        }
        Ok(Some(engines))
    }

    /// Writes those before which no other can have begun that is not known yet.
    fn write(&mut self, engine: &Engine, writer: &mut Writer<'_>) -> anyhow::Result<()> {
        let longest = engine.job_limit_ms * 1_000_000 + LEASE_NS;
        let until = engine.at_ns.saturating_sub(longest);
        let Some(held) = self.held.get_mut(&engine.parent) else {
            return Ok(());
        };
        held.sort_by_key(|slice| (slice.begun_ns, slice.id));
        let sure = held.partition_point(|slice| slice.begun_ns < until);
        for slice in held.drain(..sure) {
            writer.slice(&engine.parent, &slice)?;
        }
        Ok(())
    }
}
