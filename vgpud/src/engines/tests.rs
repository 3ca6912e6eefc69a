//! The daemon's side against workers that the test plays, in the time that it says.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use mdev::sched::lease::{Spender, Wait};
use mdev::sched::{Class, Nanos, Time};
use uuid::Uuid;

use crate::api::{Attribute, EngineState, Policy};
use crate::catalogue::EngineSpec;
use crate::records::WorkerIdentity;
use crate::worker_process::keeping::Keeping;
use crate::worker_process::life::Life;
use crate::worker_process::{Worker, identity};

use super::parent::{Notice, ParentEngine};
use super::settings::Given;

mod measuring;
mod waking;

const START: Time = Time(1_000_000_000_000);
const STEP: Nanos = Nanos::from_micros(100);

fn ms(millis: u64) -> Nanos {
    Nanos::from_millis(millis)
}

fn uuid(number: usize) -> Uuid {
    Uuid::from_u128(number as u128)
}

/// This very process, as a worker's.
fn own() -> (WorkerIdentity, OwnedFd) {
    let pid = std::process::id();
    let identity = identity::of(pid, "this boot").unwrap();
    (identity, identity::open_pid(pid).unwrap())
}

fn living(life: Life) -> Arc<Worker> {
    let nowhere = PathBuf::from("/nonexistent");
    let keeping = Keeping::default();
    let worker = Worker::new(life, own().0, nowhere.clone(), nowhere, keeping);
    Arc::new(worker)
}

/// A worker that is this very process.
fn worker() -> Arc<Worker> {
    living(Life::Process(own().1))
}

/// One that is played.
struct Played {
    slot: usize,
    spender: Spender,
    /// The job that it does, and until when.
    job: Option<(u64, Time, Time)>,
    jobs: u64,
    used: Nanos,
    length: Nanos,
    /// It says nothing as a job ends, while it has its lease.
    is_quiet: bool,
    _socket: OwnedFd,
}

struct Host {
    engine: ParentEngine,
    now: Time,
    played: Vec<Played>,
}

impl Host {
    fn new(job_limit_ms: u64) -> Self {
        Self::with(EngineSpec {
            job_limit_ms,
            ..EngineSpec::USUAL
        })
    }

    fn with(spec: EngineSpec) -> Self {
        let engine = ParentEngine::new("soft0", spec, Policy::BestEffort, START).unwrap();
        Self {
            engine,
            now: START,
            played: Vec::new(),
        }
    }

    /// A worker whose jobs take so long; always one waits. With none it says so and does none.
    fn join(&mut self, length: Nanos, settings: &[(&str, &str)]) -> usize {
        self.join_as(worker(), length, settings)
    }

    fn join_as(&mut self, worker: Arc<Worker>, length: Nanos, settings: &[(&str, &str)]) -> usize {
        let settings: Vec<_> = settings
            .iter()
            .map(|(name, value)| Attribute {
                name: (*name).to_owned(),
                value: (*value).to_owned(),
            })
            .collect();
        let given = Given::parse(&settings).unwrap();
        let uuid = uuid(self.played.len());
        let joined = self.engine.join(self.now, uuid, given, worker);
        let (slot, socket) = joined.unwrap();
        self.engine.clients[&slot]
            .usage
            .set_queued(Class::Render, 1);
        self.played.push(Played {
            slot,
            spender: Spender::default(),
            job: None,
            jobs: 0,
            used: Nanos(0),
            length,
            is_quiet: false,
            _socket: socket,
        });
        self.engine.heed(self.now, slot);
        self.played.len() - 1
    }

    /// Lets time pass.
    fn wait(&mut self, length: Nanos) {
        let end = self.now + length;
        while self.now < end {
            self.now = self.now + STEP;
            for played in &mut self.played {
                if played.play(&self.engine, self.now) {
                    self.engine.heed(self.now, played.slot);
                }
            }
            let due = self.engine.next_tick();
            if due.is_some_and(|due| due <= self.now) {
                self.engine.tick(self.now);
            }
        }
    }

    fn used_ms(&self, number: usize) -> u64 {
        self.played[number].used.0 / 1_000_000
    }
}

impl Played {
    /// What it does at that time. Whether the daemon is to hear of it.
    fn play(&mut self, engine: &ParentEngine, now: Time) -> bool {
        let client = &engine.clients[&self.slot];
        if let Some((_, since, until)) = self.job {
            if now < until {
                return false;
            }
            self.job = None;
            let used = now.since(since);
            self.used = Nanos(self.used.0 + used.0);
            self.spender.end(used, &client.usage);
            client.usage.retract();
            return !self.is_quiet;
        }
        if self.length == Nanos(0) {
            return false;
        }
        match self.spender.begin(now, &client.grant) {
            Ok(()) => {
                self.jobs += 1;
                self.job = Some((self.jobs, now, now + self.length));
                client.usage.announce(self.jobs, now);
                false
            }
            Err(wait) => wait == Wait::Expired,
        }
    }
}

#[test]
fn leases_divide_an_engine_by_weight_and_are_never_two_at_once() {
    let mut host = Host::new(1000);
    let first = host.join(ms(1), &[("weight", "300")]);
    let second = host.join(ms(1), &[]);
    for _ in 0..1000 {
        host.wait(ms(1));
        let busy = host.played.iter().filter(|played| played.job.is_some());
        assert!(busy.count() <= 1);
    }
    let (first, second) = (host.used_ms(first), host.used_ms(second));
    assert!(first + second > 800, "{first} {second}");
    assert!((first * 10).abs_diff(second * 30) < 300, "{first} {second}");
}

#[test]
fn who_has_jobs_and_does_none_is_charged_for_what_nobody_else_could_use() {
    let mut host = Host::new(1000);
    let idler = host.join(Nanos(0), &[]);
    let other = host.join(ms(1), &[]);
    host.wait(ms(1000));
    assert_eq!(host.used_ms(idler), 0);
    assert!(host.used_ms(other) > 400, "{}", host.used_ms(other));
}

/// On another place others come and go meanwhile.
#[test]
fn who_works_for_all_of_its_lease_is_charged_for_that_alone() {
    for length in [ms(50), ms(1)] {
        let mut host = Host::with(EngineSpec {
            places: 2,
            ..EngineSpec::USUAL
        });
        let one = host.join(length, &[]);
        host.played[one].is_quiet = true;
        for _ in 0..2 {
            host.join(ms(1), &[]);
        }
        let third = host.played[2].slot;
        for _ in 0..200 {
            for queued in [1, 0] {
                let client = &host.engine.clients[&third];
                client.usage.set_queued(Class::Render, queued);
                host.played[2].length = ms(queued);
                host.engine.heed(host.now, third);
                host.wait(ms(3));
            }
        }
        let slices = host.engine.slices_after(0);
        let its: Vec<_> = slices.iter().filter(|it| it.uuid == uuid(one)).collect();
        assert!(its.len() > 10, "{}", its.len());
        for slice in its {
            assert_eq!(slice.charged_ns, slice.used_ns, "{slice:?}");
        }
    }
}

#[test]
fn a_job_that_does_not_end_loses_its_place_at_its_limit_and_is_ended_by_steps() {
    let mut host = Host::new(100);
    let stuck = host.join(ms(3_600_000), &[]);
    host.wait(ms(1));
    let other = host.join(ms(1), &[]);
    host.wait(ms(60));
    assert_eq!(host.used_ms(other), 0);
    host.wait(ms(60));
    assert!(host.used_ms(other) > 10, "{}", host.used_ms(other));
    let slot = host.played[stuck].slot;
    let client = &host.engine.clients[&slot];
    assert_eq!(client.grant.cancelled(), 1);
    assert_eq!(client.told(host.now).state, EngineState::Stuck);
    host.wait(ms(3000));
    let words = host.engine.notices.iter().map(|notice| match notice {
        Notice::Overlong(..) => "overlong",
        Notice::Reset(..) => "reset",
        Notice::Kill(..) => "kill",
    });
    assert_eq!(words.collect::<Vec<_>>(), ["overlong", "reset", "kill"]);
    assert!(host.used_ms(other) > 2500, "{}", host.used_ms(other));
    // Its worker is gone; another one begins with nothing of it.
    host.engine.leave(host.now, slot);
    host.played.remove(stuck);
    host.wait(ms(10));
    assert_eq!(host.engine.clients.len(), 1);
}

#[test]
fn an_engine_that_nobody_uses_wakes_nobody() {
    let mut host = Host::new(1000);
    let one = host.join(ms(1), &[]);
    host.wait(ms(50));
    let slot = host.played[one].slot;
    host.engine.clients[&slot]
        .usage
        .set_queued(Class::Render, 0);
    host.played[one].length = Nanos(0);
    host.wait(ms(50));
    assert_eq!(host.engine.next_tick(), None);
}

#[test]
fn a_rate_is_left_for_the_time_without_a_daemon() {
    let mut host = Host::new(1000);
    for (settings, thousandths) in [
        (&[("cap", "25")][..], 250),
        (&[("weight", "300")], 600),
        (&[("stop", "on")], 0),
    ] {
        let number = host.join(ms(1), settings);
        host.wait(ms(20));
        let client = &host.engine.clients[&host.played[number].slot];
        let (_, lease) = client.grant.read().unwrap();
        let rate = lease.budget().0 * 1000 / lease.period().0;
        assert!(rate.abs_diff(thousandths) < 200, "{settings:?}: {rate}");
        let is_stopped = thousandths == 0;
        assert_eq!(lease.budget().0 == 0, is_stopped, "{settings:?}");
    }
}

#[test]
fn the_least_cap_is_left_for_the_time_without_a_daemon_as_it_is() {
    let mut host = Host::new(1000);
    let number = host.join(ms(1), &[("cap", "0.1")]);
    host.wait(ms(20));
    let client = &host.engine.clients[&host.played[number].slot];
    let (_, lease) = client.grant.read().unwrap();
    assert_eq!(lease.period().0, 1000 * lease.budget().0);
}
