//! How far what a client has had strays from a rate, over every window of time at once.

use mdev::sched::{Nanos, Time};

use crate::world::{Happened, Number, World};

/// `used - rate * time`, and the most that it has risen and fallen between any two moments.
///
/// Everything is in thousandths of a nanosecond, so that nothing is rounded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drift {
    rate: i128,
    start: Time,
    used: i128,
    least: i128,
    most: i128,
    /// How much more than its rate a client has had, in that window in which it was most.
    pub(crate) rise: i128,
    /// How much less, in that window in which it was least.
    pub(crate) fall: i128,
}

impl Drift {
    /// Of client `number`, from `start` on, against `thousandths` of one place of the engine.
    pub(crate) fn of(world: &World, number: Number, start: Time, thousandths: u32) -> Self {
        let mut drift = Self {
            rate: thousandths.into(),
            start,
            used: 0,
            least: 0,
            most: 0,
            rise: 0,
            fall: 0,
        };
        for (at, what) in world.log.iter().filter(|(at, _)| *at >= start) {
            match what {
                Happened::Ended(owner, _, used) if *owner == number => drift.ended(*at, *used),
                _ => {}
            }
        }
        drift.see(world.now);
        drift
    }

    fn ended(&mut self, at: Time, used: Nanos) {
        self.see(at);
        self.used += i128::from(used.0) * 1000;
        self.see(at);
    }

    fn see(&mut self, at: Time) {
        let ahead = self.used - self.rate * i128::from(at.since(self.start).0);
        self.least = self.least.min(ahead);
        self.most = self.most.max(ahead);
        self.rise = self.rise.max(ahead - self.least);
        self.fall = self.fall.max(self.most - ahead);
    }
}
