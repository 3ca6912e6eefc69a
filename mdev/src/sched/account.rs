//! What one client has waiting on one engine, and what it has used there.

use std::collections::VecDeque;

use super::decision::{Class, JobId, Why};
use super::error::SchedError;
use super::meter::{Meter, Slack};
use super::rates::Rates;
use super::settings::{Policy, Priority, Settings};
use super::units::{Nanos, Time, VirtualTime, Weight};

/// Most jobs that a client has waiting on an engine. A guest makes as many as it likes; beyond this
/// they stay where they are, in its own ring.
pub(super) const MAX_WAITING: usize = 1024;

/// What a cap lets pass at once: little, since it is a ceiling over every window of time that users
/// look at. Behind long jobs of others a client may catch up on a tenth of a second.
const CAP: Slack = Slack {
    idle: Nanos::from_millis(10),
    waiting: Nanos::from_millis(100),
};

/// A reservation, and a policy's share, are promises: what others' jobs have kept a client from, it
/// gets later. The bound is for a parent that could not keep its promises for long.
const PROMISE: Slack = Slack {
    idle: Nanos::from_millis(10),
    waiting: Nanos::from_millis(1000),
};

/// What is shown may come in bursts of this much time at the display's rate.
const DISPLAY: Slack = Slack {
    idle: Nanos::from_millis(100),
    waiting: Nanos::from_millis(100),
};

/// How far out-of-turn picks put a client behind the others, at most.
///
/// A client whose reservation exceeds what its weight gives would else fall behind without end, and
/// starve once the reservation is taken away. It must exceed by what those others differ, or the
/// client gets turns beside its reservation: 50 ms of a client with the default weight.
const MAX_BEHIND: VirtualTime = VirtualTime::of(Nanos::from_millis(50), Weight::DEFAULT);

/// A job that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) job: JobId,
    pub(super) class: Class,
    pub(super) estimate: Nanos,
    pub(super) since: Time,
}

/// How an engine is shared just now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sharing {
    pub(super) policy: Policy,
    pub(super) depth: u32,
    /// Clients that have joined.
    pub(super) clients: u32,
}

/// One client at one engine.
#[derive(Debug)]
pub(super) struct Account {
    /// What it has had for its weight, with estimates for what runs.
    pub(super) virtual_time: VirtualTime,
    /// The busy period of the engine in which that was.
    pub(super) period: Option<u64>,
    pub(super) used: Nanos,
    pub(super) running: u32,
    weight: Weight,
    priority: Priority,
    display_jobs: VecDeque<Waiting>,
    render_jobs: VecDeque<Waiting>,
    /// The estimates of what runs.
    in_flight: Nanos,
    idle_since: Time,
    cap: Option<Meter>,
    share: Option<Meter>,
    reservation: Option<Meter>,
    display: Meter,
}

impl Account {
    pub(super) fn new(now: Time, settings: &Settings, sharing: Sharing) -> Self {
        let rates = Rates::new(settings, sharing);
        let mut account = Self {
            virtual_time: VirtualTime::default(),
            period: None,
            used: Nanos(0),
            running: 0,
            weight: settings.weight(),
            priority: settings.priority(),
            display_jobs: VecDeque::new(),
            render_jobs: VecDeque::new(),
            in_flight: Nanos(0),
            idle_since: now,
            cap: None,
            share: None,
            reservation: None,
            display: Meter::new(rates.display, DISPLAY, now, Nanos(0)),
        };
        account.set(now, settings, sharing);
        account
    }

    /// Other settings, or others beside it, from now on.
    pub(super) fn set(&mut self, now: Time, settings: &Settings, sharing: Sharing) {
        let rates = Rates::new(settings, sharing);
        self.priority = settings.priority();
        self.weight = match sharing.policy {
            Policy::BestEffort => settings.weight(),
            Policy::EqualShare => Weight::DEFAULT,
            Policy::FixedShare => settings.reservation().map_or(Weight::DEFAULT, Weight::from),
        };
        let running = self.in_flight;
        for (meter, rate, slack) in [
            (&mut self.cap, rates.cap, CAP),
            (&mut self.share, rates.share, PROMISE),
            (&mut self.reservation, rates.reservation, PROMISE),
        ] {
            match (meter.as_mut(), rate) {
                (Some(meter), Some(rate)) => meter.set_rate(now, rate),
                (_, rate) => *meter = rate.map(|rate| Meter::new(rate, slack, now, running)),
            }
        }
        self.display.set_rate(now, rates.display);
    }

    pub(super) fn waiting(&self) -> usize {
        self.display_jobs.len() + self.render_jobs.len()
    }

    /// A job has come.
    pub(super) fn push(&mut self, now: Time, waiting: Waiting) -> Result<(), SchedError> {
        if self.waiting() == MAX_WAITING {
            return Err(SchedError::QueueFull);
        }
        if self.waiting() == 0 && self.running == 0 {
            let meters = [&mut self.cap, &mut self.share, &mut self.reservation];
            for meter in meters.into_iter().flatten().chain([&mut self.display]) {
                meter.wake(now, self.idle_since);
            }
        }
        match waiting.class {
            Class::Display => self.display_jobs.push_back(waiting),
            Class::Render => self.render_jobs.push_back(waiting),
        }
        Ok(())
    }

    /// The next job to run: what is shown comes first.
    pub(super) fn pop(&mut self) -> Option<Waiting> {
        self.display_jobs
            .pop_front()
            .or_else(|| self.render_jobs.pop_front())
    }

    /// A job that waits is one of the display class from now on. `false` if none of that name waits
    /// as another.
    pub(super) fn hurry(&mut self, job: JobId) -> bool {
        let place = self.render_jobs.iter().position(|it| it.job == job);
        let Some(waiting) = place.and_then(|place| self.render_jobs.remove(place)) else {
            return false;
        };
        self.display_jobs.push_back(Waiting {
            class: Class::Display,
            ..waiting
        });
        true
    }

    /// What so much of the engine costs it in virtual time.
    pub(super) fn cost(&self, service: Nanos) -> VirtualTime {
        VirtualTime::of(service, self.weight)
    }

    pub(super) fn priority(&self) -> Priority {
        self.priority
    }

    /// From when on no ceiling is in the way.
    pub(super) fn below_ceilings(&self) -> Time {
        let ceilings = [&self.cap, &self.share];
        let due = ceilings.into_iter().flatten().map(Meter::due);
        due.max().unwrap_or_default()
    }

    /// From when on the client has had less than it has reserved.
    pub(super) fn owed_from(&self) -> Option<Time> {
        self.reservation.as_ref().map(Meter::due)
    }

    /// From when on what waits to be shown may go before all else.
    pub(super) fn urgent_from(&self) -> Option<Time> {
        let is_waiting = !self.display_jobs.is_empty();
        is_waiting.then(|| self.display.due())
    }

    /// A job begins. Returns what it has cost in virtual time, as far as is known.
    pub(super) fn begin(&mut self, now: Time, estimate: Nanos, pick: Pick) -> VirtualTime {
        let before = self.virtual_time;
        self.advance(estimate, pick);
        for meter in self.meters(pick.why).into_iter().flatten() {
            meter.charge(now, estimate);
        }
        self.in_flight = self.in_flight.saturating_add(estimate);
        self.running += 1;
        self.virtual_time.back(before)
    }

    /// A job that was charged as `estimate` has ended after `used`.
    pub(super) fn end(
        &mut self,
        now: Time,
        (estimate, used): (Nanos, Nanos),
        charged: VirtualTime,
        pick: Pick,
    ) {
        self.virtual_time = self.virtual_time.back(charged);
        self.advance(used, pick);
        for meter in self.meters(pick.why).into_iter().flatten() {
            meter.correct(estimate, used);
        }
        self.in_flight = self.in_flight.saturating_sub(estimate);
        self.used = self.used.saturating_add(used);
        self.running -= 1;
        if self.running == 0 && self.waiting() == 0 {
            self.idle_since = now;
        }
    }

    /// Something was used outside of any job.
    pub(super) fn charge(&mut self, now: Time, used: Nanos, pick: Pick) {
        self.advance(used, pick);
        for meter in self.meters(pick.why).into_iter().flatten() {
            meter.charge(now, used);
        }
        self.used = self.used.saturating_add(used);
    }

    /// Charges `service` in virtual time.
    fn advance(&mut self, service: Nanos, pick: Pick) {
        let after = self.virtual_time + self.cost(service);
        self.virtual_time = match pick.why {
            Why::Turn => after,
            Why::Reservation | Why::Display => {
                let most = pick.virtual_time + MAX_BEHIND;
                after.min(most).max(self.virtual_time)
            }
        };
    }

    /// What a job that was picked for this reason counts against. A turn does not use up a
    /// reservation: that is for what turns do not give.
    fn meters(&mut self, why: Why) -> [Option<&mut Meter>; 4] {
        let is_turn = why == Why::Turn;
        [
            self.cap.as_mut(),
            self.share.as_mut(),
            self.reservation.as_mut().filter(|_| !is_turn),
            Some(&mut self.display).filter(|_| why == Why::Display),
        ]
    }
}

/// Why a job was or is picked, and the engine's virtual time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pick {
    pub(super) why: Why,
    pub(super) virtual_time: VirtualTime,
}
