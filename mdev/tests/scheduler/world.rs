//! An engine in virtual time, under the scheduler, and clients that use it. What happens is
//! written down, and nothing here knows what should have happened.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use mdev::sched::{
    Class, ClientId, Decision, EngineId, Gone, Job, JobId, Nanos, Policy, SchedError, Scheduler,
    Settings, Time, Usage,
};

/// A job as its client knows it, and as it will turn out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) class: Class,
    pub(crate) estimate: Nanos,
    pub(crate) length: Nanos,
}

impl Work {
    /// A job of the rendering class that takes as long as it says.
    pub(crate) fn render(length: Nanos) -> Self {
        Self {
            class: Class::Render,
            estimate: length,
            length,
        }
    }

    /// The same, to be shown.
    pub(crate) fn display(length: Nanos) -> Self {
        Self {
            class: Class::Display,
            ..Self::render(length)
        }
    }
}

/// A client by its number in a test, from 0 on.
pub(crate) type Number = usize;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    Joined(Number, Settings),
    Left(Number, Gone),
    Set(Number, Settings, Result<(), SchedError>),
    Policy(Policy, Result<(), SchedError>),
    Arrived(Number, JobId, Work),
    Started(Number, Decision),
    Ended(Number, JobId, Nanos),
    /// Nobody was picked any more, with so many places free.
    Quiet(usize),
}

/// A client that always has something waiting: jobs of these kinds, in turns.
#[derive(Clone, Debug)]
struct Hog {
    works: Vec<Work>,
    made: usize,
}

pub(crate) struct World {
    pub(crate) scheduler: Scheduler,
    pub(crate) engine: EngineId,
    pub(crate) depth: usize,
    pub(crate) now: Time,
    pub(crate) log: Vec<(Time, Happened)>,
    pub(crate) clients: Vec<Option<ClientId>>,
    numbers: BTreeMap<ClientId, Number>,
    hogs: BTreeMap<Number, Hog>,
    works: BTreeMap<JobId, (Number, Work)>,
    running: BinaryHeap<Reverse<(Time, JobId)>>,
}

impl World {
    pub(crate) fn new(depth: u32, policy: Policy) -> Self {
        let mut scheduler = Scheduler::new();
        let engine = scheduler.add_engine(Time(0), depth, policy).unwrap();
        Self {
            scheduler,
            engine,
            depth: depth as usize,
            now: Time(0),
            log: Vec::new(),
            clients: Vec::new(),
            numbers: BTreeMap::new(),
            hogs: BTreeMap::new(),
            works: BTreeMap::new(),
            running: BinaryHeap::new(),
        }
    }

    fn note(&mut self, what: Happened) {
        self.log.push((self.now, what));
    }

    pub(crate) fn join(&mut self, settings: Settings) -> Result<Number, SchedError> {
        let client = self.scheduler.join(self.now, settings)?;
        let number = self.clients.len();
        self.clients.push(Some(client));
        self.numbers.insert(client, number);
        self.note(Happened::Joined(number, settings));
        self.go_on();
        Ok(number)
    }

    pub(crate) fn leave(&mut self, number: Number) {
        let Some(client) = self.clients[number].take() else {
            return;
        };
        let gone = self.scheduler.leave(self.now, client).unwrap();
        self.hogs.remove(&number);
        let works = &self.works;
        self.running
            .retain(|Reverse((_, job))| works[job].0 != number);
        self.note(Happened::Left(number, gone));
        self.go_on();
    }

    pub(crate) fn set(&mut self, number: Number, settings: Settings) {
        let Some(client) = self.clients[number] else {
            return;
        };
        let done = self.scheduler.set(self.now, client, settings);
        self.note(Happened::Set(number, settings, done));
        self.go_on();
    }

    pub(crate) fn set_policy(&mut self, policy: Policy) {
        let done = self.scheduler.set_policy(self.now, self.engine, policy);
        self.note(Happened::Policy(policy, done));
        self.go_on();
    }

    pub(crate) fn arrive(&mut self, number: Number, work: Work) -> Option<JobId> {
        let id = self.hand_in(number, work);
        self.go_on();
        id
    }

    fn hand_in(&mut self, number: Number, work: Work) -> Option<JobId> {
        let client = self.clients[number]?;
        let job = Job {
            class: work.class,
            estimate: work.estimate,
        };
        let id = self.scheduler.arrive(self.now, self.engine, client, job);
        let id = id.unwrap();
        self.works.insert(id, (number, work));
        self.note(Happened::Arrived(number, id, work));
        Some(id)
    }

    /// From now on the client always has jobs waiting, more than the engine has places.
    pub(crate) fn hog(&mut self, number: Number, works: Vec<Work>) {
        self.hogs.insert(number, Hog { works, made: 0 });
        for _ in 0..=self.depth {
            self.feed(number);
        }
        self.go_on();
    }

    fn feed(&mut self, number: Number) {
        let Some(hog) = self.hogs.get_mut(&number) else {
            return;
        };
        let work = hog.works[hog.made % hog.works.len()];
        hog.made += 1;
        self.hand_in(number, work);
    }

    /// Lets `length` pass.
    pub(crate) fn wait(&mut self, length: Nanos) {
        let end = self.now + length;
        while let Some(next) = self.next_event().filter(|next| *next <= end) {
            self.step_to(next);
        }
        self.now = end;
        self.go_on();
    }

    /// Goes on until nothing more will happen; says whether that came.
    pub(crate) fn drain(&mut self) -> bool {
        self.hogs.clear();
        for _ in 0..200_000 {
            match self.next_event() {
                Some(next) => self.step_to(next),
                None => return true,
            }
        }
        false
    }

    fn next_event(&self) -> Option<Time> {
        let end = self.running.peek().map(|Reverse((end, _))| *end);
        let change = self.scheduler.next_change(self.engine).unwrap();
        [end, change].into_iter().flatten().min()
    }

    fn step_to(&mut self, next: Time) {
        self.now = self.now.max(next);
        if let Some(Reverse((end, job))) = self.running.peek().copied()
            && end <= self.now
        {
            self.running.pop();
            let (number, work) = self.works[&job];
            self.scheduler
                .complete(self.now, self.engine, job, work.length)
                .unwrap();
            self.note(Happened::Ended(number, job, work.length));
        }
        self.go_on();
    }

    fn go_on(&mut self) {
        while let Some(decision) = self.scheduler.next(self.now, self.engine).unwrap() {
            let number = self.numbers[&decision.client];
            let (owner, work) = self.works[&decision.job];
            assert_eq!(number, owner, "a job runs for its client");
            self.running
                .push(Reverse((self.now + work.length, decision.job)));
            self.note(Happened::Started(number, decision));
            self.feed(number);
        }
        self.note(Happened::Quiet(self.depth - self.running.len()));
    }

    /// What runs, and whose it is.
    pub(crate) fn running(&self) -> Vec<(Number, JobId)> {
        let running = self.running.iter().map(|Reverse((_, job))| *job);
        let mut running: Vec<_> = running.map(|job| (self.works[&job].0, job)).collect();
        running.sort_unstable();
        running
    }

    pub(crate) fn usage(&self, number: Number) -> Usage {
        let client = self.clients[number].unwrap();
        self.scheduler.usage(self.engine, client).unwrap()
    }

    /// Who started, in order, for tables.
    pub(crate) fn started(&self) -> Vec<(u64, Number)> {
        let started = |(at, what): &(Time, Happened)| match what {
            Happened::Started(number, _) => Some((at.0 / 1_000_000, *number)),
            _ => None,
        };
        self.log.iter().filter_map(started).collect()
    }
}
