//! The engines of one parent and its clients: events in, decisions out.

use super::clients::{ClientId, Clients};
use super::decision::{Decision, EngineId, Job, JobId};
use super::engine::Engine;
use super::error::SchedError;
use super::settings::{Policy, Settings};
use super::units::{Nanos, Time};

/// Most jobs that an engine runs at once. It is the number of CPUs at most, and a completion looks
/// through all that run.
pub(super) const MAX_DEPTH: u32 = 1024;

/// Most engines of a parent, far above what hardware has.
pub(super) const MAX_ENGINES: usize = 64;

/// What a client had when it left; the places of what was running are free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gone {
    /// Jobs that waited, and will not run.
    pub waiting: usize,
    /// Jobs that ran, and will not be asked about.
    pub running: usize,
}

/// What one client has on one engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// What its jobs that have ended have used.
    pub used: Nanos,
    /// Jobs that wait.
    pub waiting: usize,
    /// Jobs that run.
    pub running: usize,
}

/// Decides who uses the engines of one parent.
///
/// Events are calls, each with the time at which it happens; a time before that of an earlier call
/// counts as that one. After any of them, and at the time that [`next_change`](Self::next_change)
/// tells, [`next`](Self::next) is called until it has no more to say: a tick is that call alone.
#[derive(Debug, Default)]
pub struct Scheduler {
    engines: Vec<Engine>,
    clients: Clients,
    jobs: u64,
    now: Time,
}

impl Scheduler {
    /// No engine, no client.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an engine that runs `depth` jobs at once. Clients that are there have joined it.
    pub fn add_engine(
        &mut self,
        now: Time,
        depth: u32,
        policy: Policy,
    ) -> Result<EngineId, SchedError> {
        if !(1..=MAX_DEPTH).contains(&depth) {
            return Err(SchedError::DepthOutOfRange(depth));
        }
        if self.engines.len() == MAX_ENGINES {
            return Err(SchedError::TooManyEngines);
        }
        self.can_have(policy)?;
        let now = self.at(now);
        let mut engine = Engine::new(depth, policy);
        for (client, settings) in self.clients.all() {
            engine.join(now, client.slot(), settings);
        }
        self.engines.push(engine);
        let last = self.engines.len() - 1;
        self.refresh(now, last);
        Ok(EngineId(last as u32))
    }

    /// A client begins: a vGPU that runs, busy or not.
    pub fn join(&mut self, now: Time, settings: Settings) -> Result<ClientId, SchedError> {
        self.can_give(None, &settings)?;
        let client = self.clients.insert(settings)?;
        let now = self.at(now);
        for engine in 0..self.engines.len() {
            self.engines[engine].join(now, client.slot(), &settings);
            self.refresh(now, engine);
        }
        Ok(client)
    }

    /// A client ends, of itself or not. Its jobs are gone, and the places of those that ran are
    /// free at once: where an engine is still at work for it, this is to be told afterwards.
    pub fn leave(&mut self, now: Time, client: ClientId) -> Result<Gone, SchedError> {
        let slot = self.clients.remove(client)?;
        let now = self.at(now);
        let mut gone = Gone::default();
        for engine in 0..self.engines.len() {
            let (waiting, running) = self.engines[engine].leave(slot);
            gone.waiting += waiting;
            gone.running += running;
            self.refresh(now, engine);
        }
        Ok(gone)
    }

    /// What a client has been given.
    pub fn settings(&self, client: ClientId) -> Result<Settings, SchedError> {
        self.clients.settings(client)
    }

    /// Gives a client other settings. They hold from the next decision on; nothing that waits or
    /// runs is lost, and what was used stays used.
    pub fn set(
        &mut self,
        now: Time,
        client: ClientId,
        settings: Settings,
    ) -> Result<(), SchedError> {
        self.clients.find(client)?;
        self.can_give(Some(client), &settings)?;
        self.clients.set(client, settings)?;
        let now = self.at(now);
        for engine in &mut self.engines {
            engine.set(now, client.slot(), &settings);
        }
        Ok(())
    }

    /// How an engine is shared.
    pub fn policy(&self, engine: EngineId) -> Result<Policy, SchedError> {
        let engine = self.engines.get(engine.0 as usize);
        engine.map(Engine::policy).ok_or(SchedError::UnknownEngine)
    }

    /// Shares an engine in another way from now on.
    pub fn set_policy(
        &mut self,
        now: Time,
        engine: EngineId,
        policy: Policy,
    ) -> Result<(), SchedError> {
        self.engine(engine)?;
        self.can_have(policy)?;
        let now = self.at(now);
        self.engine(engine)?.set_policy(policy);
        self.refresh(now, engine.0 as usize);
        Ok(())
    }

    /// A client has a job for an engine.
    pub fn arrive(
        &mut self,
        now: Time,
        engine: EngineId,
        client: ClientId,
        job: Job,
    ) -> Result<JobId, SchedError> {
        let slot = self.clients.find(client)?;
        let now = self.at(now);
        let id = JobId(self.jobs);
        self.engine(engine)?.arrive(now, slot, id, job)?;
        self.jobs += 1;
        Ok(id)
    }

    /// A job that waits turns out to be one of the display class. An error if it does not wait, or
    /// waits as such.
    pub fn hurry(
        &mut self,
        now: Time,
        engine: EngineId,
        client: ClientId,
        job: JobId,
    ) -> Result<(), SchedError> {
        let slot = self.clients.find(client)?;
        let now = self.at(now);
        let is_there = self.engine(engine)?.hurry(now, slot, job);
        is_there.then_some(()).ok_or(SchedError::UnknownJob)
    }

    /// Which of these running jobs, each with what it has used by now, is to make way for whoever is
    /// next, if any: that one would be picked before it, had it just ended. Jobs are not interrupted;
    /// but where one stands for the time that a client was granted, whoever wakes need not wait for
    /// all of that.
    pub fn displaced(
        &mut self,
        now: Time,
        engine: EngineId,
        running: &[(JobId, Nanos)],
    ) -> Result<Option<JobId>, SchedError> {
        let now = self.at(now);
        Ok(self.engine(engine)?.displaced(now, running))
    }

    /// A job has ended, and has used that much of the engine: the time from when it was at the
    /// engine's head until it was done, as somebody has measured it who is not its client.
    pub fn complete(
        &mut self,
        now: Time,
        engine: EngineId,
        job: JobId,
        used: Nanos,
    ) -> Result<(), SchedError> {
        let now = self.at(now);
        self.engine(engine)?.complete(now, job, used)
    }

    /// A client has used an engine outside of any job: one that outlived its place, or that was not
    /// told. It counts as a turn.
    pub fn charge(
        &mut self,
        now: Time,
        engine: EngineId,
        client: ClientId,
        used: Nanos,
    ) -> Result<(), SchedError> {
        let slot = self.clients.find(client)?;
        let now = self.at(now);
        self.engine(engine)?.charge(now, slot, used);
        Ok(())
    }

    /// How many jobs wait for an engine.
    pub fn waiting(&self, engine: EngineId) -> Result<usize, SchedError> {
        let found = self.engines.get(engine.0 as usize);
        found.map(Engine::waiting).ok_or(SchedError::UnknownEngine)
    }

    /// The next job to run, which counts as running from here on; `None` if the engine is full, or
    /// nobody has anything to run, or may.
    pub fn next(&mut self, now: Time, engine: EngineId) -> Result<Option<Decision>, SchedError> {
        let now = self.at(now);
        let picked = self.engine(engine)?.next(now);
        Ok(picked.map(|picked| Decision {
            engine,
            client: self.clients.name(picked.slot),
            job: picked.waiting.job,
            class: picked.class(),
            why: picked.why,
            at: now,
            waited: now.since(picked.waiting.since),
            estimate: picked.waiting.estimate,
            start: picked.start,
            virtual_time: picked.virtual_time,
        }))
    }

    /// When [`next`](Self::next) should be asked if nothing else happens before; `None` if only an
    /// event can change its answer.
    pub fn next_change(&self, engine: EngineId) -> Result<Option<Time>, SchedError> {
        let found = self.engines.get(engine.0 as usize);
        let change = found.ok_or(SchedError::UnknownEngine)?.next_change();
        Ok(change.map(|time| time.max(self.now)))
    }

    /// What a client has on an engine.
    pub fn usage(&self, engine: EngineId, client: ClientId) -> Result<Usage, SchedError> {
        let slot = self.clients.find(client)?;
        let found = self.engines.get(engine.0 as usize);
        let account = found.ok_or(SchedError::UnknownEngine)?.account(slot);
        let account = account.ok_or(SchedError::UnknownClient)?;
        Ok(Usage {
            used: account.used,
            waiting: account.waiting(),
            running: account.running as usize,
        })
    }

    fn at(&mut self, now: Time) -> Time {
        self.now = self.now.max(now);
        self.now
    }

    fn engine(&mut self, engine: EngineId) -> Result<&mut Engine, SchedError> {
        let engine = self.engines.get_mut(engine.0 as usize);
        engine.ok_or(SchedError::UnknownEngine)
    }

    /// Puts into effect what follows from how many clients an engine has, and from its policy.
    fn refresh(&mut self, now: Time, engine: usize) {
        for (client, settings) in self.clients.all() {
            self.engines[engine].set(now, client.slot(), settings);
        }
    }

    /// Refuses settings that break a promise to another client.
    fn can_give(&self, to: Option<ClientId>, settings: &Settings) -> Result<(), SchedError> {
        let Some(asked) = settings.reservation() else {
            let fixed = |engine: &Engine| engine.policy() == Policy::FixedShare;
            let needs_one = self.engines.iter().any(fixed);
            return match needs_one {
                true => Err(SchedError::NoReservation),
                false => Ok(()),
            };
        };
        let others = self.clients.all().filter(|(client, _)| Some(*client) != to);
        let reserved = others.filter_map(|(_, settings)| settings.reservation());
        let reserved: u32 = reserved.map(|share| share.thousandths()).sum();
        let left = 1000_u32.saturating_sub(reserved);
        if asked.thousandths() > left {
            return Err(SchedError::Overcommitted { asked, left });
        }
        Ok(())
    }

    /// Refuses a policy that a client's settings do not fit.
    fn can_have(&self, policy: Policy) -> Result<(), SchedError> {
        let lacks_one = |(_, settings): (ClientId, &Settings)| settings.reservation().is_none();
        if policy == Policy::FixedShare && self.clients.all().any(lacks_one) {
            return Err(SchedError::NoReservation);
        }
        Ok(())
    }
}
