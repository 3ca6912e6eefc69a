//! One worker that shares an engine: its pages, its lease, and what it has used.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use mdev::sched::lease::{GrantWords, Granter, Lease, Page, UsageReader, UsageWords};
use mdev::sched::{Class, ClientId, Decision, JobId, Nanos, Time};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use uuid::Uuid;

use crate::api;
use crate::worker_process::Worker;

use super::leeway::{Kept, Leeway};
use super::measure::CpuWatch;
use super::settings::Given;

/// How much more than the time that has passed is believed: this thread may have been interrupted
/// since it looked at the clock. Who says too much harms itself.
const SLACK: Nanos = Nanos::from_millis(1000);

/// How far apart the samples are from which the share of late is told, and how many there are.
const SAMPLE: Nanos = Nanos::from_millis(50);
const SAMPLES: usize = 40;

/// A lease that a worker has.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) decision: Decision,
    pub(super) at: Time,
    pub(super) budget: Nanos,
    pub(super) expiry: Time,
    pub(super) used: Nanos,
    pub(super) kept: Kept,
    /// It is longer than it would be if others waited.
    pub(super) is_long: bool,
    /// When it was taken back.
    pub(super) revoked: Option<Time>,
    /// When it is looked at again, once it was taken back.
    pub(super) next_look: Time,
}

/// A job that goes on though its place is another's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stuck {
    pub(super) job: u64,
    /// What has been done about it.
    pub(super) step: Step,
    /// When the next step is due.
    pub(super) next: Time,
    /// What it was charged for already.
    pub(super) charged: Nanos,
}

/// What is done about a job that takes too long, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Its process stands still: nothing.
    Waits,
    /// The job was asked to end.
    Cancelled,
    /// The device was reset.
    Reset,
    /// The worker was ended.
    Killed,
}

/// What was counted since the worker was granted time first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) used: Nanos,
    pub(super) leases: u64,
    pub(super) waited: Nanos,
    pub(super) longest_wait: Nanos,
    pub(super) overlong: u64,
    pub(super) misreports: u64,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Time,
    used: Nanos,
    waited: Nanos,
}

/// A worker that shares an engine.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) uuid: Uuid,
    pub(super) id: ClientId,
    pub(super) given: Given,
    pub(super) worker: Arc<Worker>,
    pub(super) socket: OwnedFd,
    pub(super) grant: Page<GrantWords>,
    pub(super) usage: Page<UsageWords>,
    granter: Granter,
    reader: UsageReader,
    /// From when on it may have used what it has not said.
    unheard_from: Time,
    /// It waits for its turn: as what, and for what kind of job.
    pub(super) waiting: Option<(JobId, Class)>,
    pub(super) held: Option<Held>,
    pub(super) stuck: Option<Stuck>,
    pub(super) counts: Counts,
    /// Before that no picture is its turn.
    pub(super) next_frame: Time,
    /// None of a seat: the time of its process is that of all the seats there.
    pub(super) cpu: Option<CpuWatch>,
    pub(super) leeway: Leeway,
    samples: VecDeque<Sample>,
}

impl Client {
    /// A client, and the end of the socket that its worker is to get.
    pub(super) fn new(
        uuid: Uuid,
        id: ClientId,
        given: Given,
        worker: Arc<Worker>,
        now: Time,
    ) -> io::Result<(Self, OwnedFd)> {
        let (grant, usage) = (Page::<GrantWords>::new()?, Page::<UsageWords>::new()?);
        let (socket, theirs) = worker::lending::offer(&grant, &usage)?;
        let is_alone = !worker.life.is_seat();
        let cpu = is_alone.then(|| CpuWatch::new(worker.identity.pid, now));
        let client = Self {
            uuid,
            id,
            given,
            worker,
            socket,
            granter: Granter::new(&grant),
            reader: UsageReader::adopt(&usage),
            grant,
            usage,
            unheard_from: now,
            waiting: None,
            held: None,
            stuck: None,
            counts: Counts::default(),
            next_frame: now,
            cpu,
            leeway: Leeway::new(now),
            samples: VecDeque::new(),
        };
        Ok((client, theirs))
    }

    /// Writes a lease, and has the worker look at it.
    pub(super) fn write(&mut self, lease: &Lease) {
        self.granter.grant(&self.grant, lease);
        // One that does not read has been told often enough.
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let _ = send(&self.socket, &[1], flags);
    }

    /// Writes a lease that has ended: at its rate the worker goes on if this daemon is gone.
    pub(super) fn write_ended(&mut self, lease: &Lease) {
        self.granter.grant(&self.grant, lease);
    }

    /// Takes in what has come over the socket. `false` if its end is closed.
    pub(super) fn hear_socket(&self) -> bool {
        // Each packet is a byte. More than that come again.
        for _ in 0..16 {
            match recv(self.socket.as_fd(), &mut [0; 8], RecvFlags::DONTWAIT) {
                Ok((_, 1..)) => {}
                Ok((_, 0)) => return false,
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return true,
                Err(_) => return false,
            }
        }
        true
    }

    /// What it has used since it was asked last, as far as that can be.
    pub(super) fn hear(&mut self, now: Time) -> Nanos {
        let most = Nanos(now.since(self.unheard_from).0 + SLACK.0);
        let running = self.usage.running();
        let reported = self.reader.read(&self.usage, most);
        if !reported.is_sound {
            self.counts.misreports += 1;
        }
        self.unheard_from = match running {
            None => now,
            Some((_, begun)) => begun.clamp(self.unheard_from, now.max(self.unheard_from)),
        };
        self.counts.used = Nanos(self.counts.used.0 + reported.used.0);
        reported.used
    }

    /// What it says to have used, with what runs and was not told yet.
    pub(super) fn said(&self, now: Time) -> Nanos {
        let running = self.usage.running();
        let running = running.map_or(Nanos(0), |(_, begun)| {
            now.since(begun.max(self.unheard_from))
        });
        Nanos(self.counts.used.0 + running.0)
    }

    pub(super) fn has_queued(&self) -> bool {
        self.queued() > 0
    }

    pub(super) fn queued(&self) -> u64 {
        let [display, render] = [Class::Display, Class::Render].map(|of| self.usage.queued(of));
        display.saturating_add(render)
    }

    /// Others wait for what it has, or nobody does.
    pub(super) fn note_contended(&mut self, now: Time, others_wait: bool) {
        self.grant.set_contended(others_wait);
        let used = self.used_of_lease(now);
        if let Some(held) = &mut self.held {
            held.kept.note(now, others_wait, used);
        }
    }

    /// What it has used of the lease that it has, with the job that runs.
    pub(super) fn used_of_lease(&self, now: Time) -> Nanos {
        let Some(held) = &self.held else {
            return Nanos(0);
        };
        let running = self.usage.running();
        let running = running.map_or(Nanos(0), |(_, begun)| now.since(begun.max(held.at)));
        Nanos(held.used.0 + running.0)
    }

    /// Whether the lease that it has is of use to nobody.
    pub(super) fn is_idle(&self) -> bool {
        self.usage.running().is_none() && !self.has_queued()
    }

    /// Takes a sample, if it is time for one.
    pub(super) fn sample(&mut self, now: Time) {
        if let Some(last) = self.samples.back()
            && now.since(last.at) < SAMPLE
        {
            return;
        }
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample {
            at: now,
            used: self.counts.used,
            waited: self.counts.waited,
        });
    }

    /// What it has used in the last second, and how long it has waited, in thousandths of that.
    pub(super) fn of_late(&self, now: Time) -> (u32, u32) {
        const SECOND: u64 = 1_000_000_000;
        let is_before = |sample: &&Sample| now.since(sample.at).0 >= SECOND;
        let base = self.samples.iter().rev().find(is_before);
        let Some(base) = base.or(self.samples.front()) else {
            return (0, 0);
        };
        // What came before the second is spread over the time since the sample.
        let over = now.since(base.at).0.max(SECOND);
        let permille = |nanos: u64| (u128::from(nanos) * 1000 / u128::from(over)) as u32;
        let used = permille(self.counts.used.0.saturating_sub(base.used.0)).min(1000);
        let waited = permille(self.counts.waited.0.saturating_sub(base.waited.0));
        (used, (used + waited).min(1000))
    }

    /// As the API tells it.
    pub(super) fn told(&self, now: Time) -> api::EngineUse {
        let (share_permille, wanted_permille) = self.of_late(now);
        let (jobs, jobs_waited) = self.usage.done();
        let counts = &self.counts;
        api::EngineUse {
            uuid: self.uuid,
            settings: self.given.told(),
            state: self.state(),
            share_permille,
            wanted_permille,
            queued: self.queued(),
            used_ns: counts.used.0,
            jobs,
            jobs_waited_ns: jobs_waited.0,
            leases: counts.leases,
            leases_waited_ns: counts.waited.0,
            longest_wait_ns: counts.longest_wait.0,
            overlong_jobs: counts.overlong,
            misreports: counts.misreports,
        }
    }

    fn state(&self) -> api::EngineState {
        if self.stuck.is_some() {
            api::EngineState::Stuck
        } else if self.given.is_stopped {
            api::EngineState::Stopped
        } else if self.held.is_some() && !self.is_idle() {
            api::EngineState::Running
        } else if self.waiting.is_some() || self.has_queued() {
            api::EngineState::Waiting
        } else {
            api::EngineState::Idle
        }
    }
}
