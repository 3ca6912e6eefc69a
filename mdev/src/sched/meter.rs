//! A rate of use, kept as one point in time.
//!
//! A bucket of tokens that fills at a rate, seen from the other end: instead of how much is in it,
//! when it will next have something in it. That point does not move while time passes, so clients
//! can be kept in order by it. Networks know it as the generic cell rate algorithm (ITU-T I.371).
//! Use that the bucket did not hold moves the point into the future: a debt, paid by waiting.

use super::units::{Nanos, PerMille, Time};

/// Nanoseconds of an engine for each nanosecond that passes: `share / of`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    share: u64,
    of: u64,
}

impl Rate {
    /// A share of all places of an engine.
    pub(super) fn of(share: PerMille, depth: u32) -> Self {
        Self {
            share: u64::from(share.thousandths()) * u64::from(depth),
            of: 1000,
        }
    }

    /// The same for each of `clients`, of which there is at least one.
    pub(super) fn each(self, clients: u32) -> Self {
        Self {
            share: self.share,
            of: self.of * u64::from(clients.max(1)),
        }
    }

    /// The slower of two.
    pub(super) fn min(self, other: Self) -> Self {
        let product = |share: u64, of: u64| u128::from(share) * u128::from(of);
        if product(self.share, other.of) <= product(other.share, self.of) {
            self
        } else {
            other
        }
    }

    /// How long it takes to have `used` at this rate, rounded up.
    fn time_for(self, used: Nanos) -> Nanos {
        let time = (u128::from(used.0) * u128::from(self.of)).div_ceil(u128::from(self.share));
        Nanos(u64::try_from(time).unwrap_or(u64::MAX))
    }

    /// How much there is after `time` at this rate.
    fn used_in(self, time: Nanos) -> Nanos {
        let used = u128::from(time.0) * u128::from(self.share) / u128::from(self.of);
        Nanos(u64::try_from(used).unwrap_or(u64::MAX))
    }
}

/// How much unused time at most counts later, as time at the meter's rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slack {
    /// To a client that has had nothing to do.
    pub(super) idle: Nanos,
    /// To one that has had to wait for others.
    pub(super) waiting: Nanos,
}

/// What one client has used of one engine, against a rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meter {
    rate: Rate,
    slack: Slack,
    due: Time,
}

impl Meter {
    /// Starts with no credit, and what is `running` already charged.
    pub(super) fn new(rate: Rate, slack: Slack, now: Time, running: Nanos) -> Self {
        Self {
            rate,
            slack,
            due: now + rate.time_for(running),
        }
    }

    /// From when on the client is below the rate.
    pub(super) fn due(&self) -> Time {
        self.due
    }

    /// The client has something to do after having had nothing since `idle_since`.
    ///
    /// Time without work earns nothing beyond the slack. What a client was behind when it stopped
    /// it does not lose at once, or one that asks for one job at a time would never catch up; it
    /// fades as time passes.
    pub(super) fn wake(&mut self, now: Time, idle_since: Time) {
        let was_behind = idle_since.since(self.due);
        let is_behind = was_behind.saturating_sub(now.since(idle_since));
        let counts = is_behind.max(self.slack.idle);
        self.due = self.due.max(now.before(counts));
    }

    /// Use of `used` begins.
    pub(super) fn charge(&mut self, now: Time, used: Nanos) {
        let from = self.due.max(now.before(self.slack.waiting));
        self.due = from + self.rate.time_for(used);
    }

    /// What was charged as `estimate` has turned out to be `used`.
    pub(super) fn correct(&mut self, estimate: Nanos, used: Nanos) {
        let back = self.rate.time_for(estimate);
        self.due = self.due.before(back) + self.rate.time_for(used);
    }

    /// Another rate from now on. What the client owes stays what it is.
    pub(super) fn set_rate(&mut self, now: Time, rate: Rate) {
        if rate == self.rate {
            return;
        }
        if self.due > now {
            let owed = self.rate.used_in(self.due.since(now));
            self.due = now + rate.time_for(owed);
        }
        self.rate = rate;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(1_000_000);

    fn tenth() -> Rate {
        Rate::of(PerMille::new(100).unwrap(), 1)
    }

    fn meter(rate: Rate) -> Meter {
        let slack = Slack {
            idle: Nanos(100),
            waiting: Nanos(1000),
        };
        Meter::new(rate, slack, NOW, Nanos(0))
    }

    #[test]
    fn use_is_paid_by_waiting_at_the_rate() {
        let mut meter = meter(tenth());
        meter.charge(NOW, Nanos(50));
        assert_eq!(meter.due(), NOW + Nanos(500));
        meter.correct(Nanos(50), Nanos(7));
        assert_eq!(meter.due(), NOW + Nanos(70));
    }

    #[test]
    fn idle_time_earns_no_more_than_the_slack() {
        let mut meter = meter(tenth());
        let later = NOW + Nanos(900_000);
        meter.wake(later, NOW);
        assert_eq!(meter.due(), later.before(Nanos(100)));
    }

    #[test]
    fn waiting_for_others_earns_more_and_is_bounded_too() {
        let mut meter = meter(tenth());
        meter.charge(NOW + Nanos(700), Nanos(1));
        assert_eq!(meter.due(), NOW + Nanos(10));
        meter.charge(NOW + Nanos(5000), Nanos(1));
        assert_eq!(meter.due(), NOW + Nanos(4010));
    }

    #[test]
    fn a_client_that_comes_back_at_once_is_as_far_behind_as_before() {
        let mut meter = meter(tenth());
        meter.wake(NOW + Nanos(610), NOW + Nanos(600));
        // 600 behind, of which 10 have faded.
        assert_eq!(meter.due(), NOW + Nanos(20));
    }

    #[test]
    fn a_debt_stays_the_same_use_when_the_rate_changes() {
        let mut meter = meter(tenth());
        meter.charge(NOW, Nanos(50));
        meter.set_rate(NOW, tenth().each(2));
        assert_eq!(meter.due(), NOW + Nanos(1000));
        meter.set_rate(NOW, Rate::of(PerMille::ALL, 1));
        assert_eq!(meter.due(), NOW + Nanos(50));
    }

    #[test]
    fn the_slower_of_two_rates_is_found_whatever_their_fractions() {
        let third = Rate::of(PerMille::ALL, 1).each(3);
        let of_three = Rate::of(PerMille::new(400).unwrap(), 3);
        assert_eq!(third.min(tenth()), tenth());
        assert_eq!(tenth().min(third), tenth());
        assert_eq!(of_three.min(third), third);
    }

    #[test]
    fn no_number_passes_the_end_of_time() {
        let mut meter = meter(tenth());
        meter.charge(NOW, Nanos(u64::MAX));
        assert_eq!(meter.due(), Time(u64::MAX));
        meter.set_rate(NOW, tenth().each(4000));
        meter.correct(Nanos(u64::MAX), Nanos(0));
        assert_eq!(meter.due(), Time(0));
    }
}
