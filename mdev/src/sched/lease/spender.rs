//! The worker's side of a lease: whether a job may begin, without a system call.

use super::super::units::{Nanos, Time};
use super::Lease;
use super::grant::GrantWords;
use super::usage::UsageWords;

/// Why a job has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// There was no lease yet.
    NoLease,
    /// Nothing is granted, now or later.
    Stopped,
    /// As many run as may.
    Full,
    /// Nothing is left, until then if nobody says otherwise.
    Spent(Time),
    /// The lease has ended. Where the daemon is gone, see [`Spender::carry_on`].
    Expired,
}

/// What a worker has of one engine.
#[derive(Debug, Default)]
pub struct Spender {
    sequence: u64,
    lease: Option<Lease>,
    /// What is left of the budget; less than nothing if jobs took longer than there was.
    left: i64,
    expiry: Time,
    running: u32,
    used: Nanos,
}

impl Spender {
    /// Begins a job, if it may. A new lease in the page is seen here, and needs no message.
    pub fn begin(&mut self, now: Time, words: &GrantWords) -> Result<(), Wait> {
        if words.sequence() != self.sequence
            && let Some((sequence, lease)) = words.read()
        {
            self.renew(sequence, lease);
        }
        let lease = self.lease.ok_or(Wait::NoLease)?;
        if lease.budget() == Nanos(0) {
            return Err(Wait::Stopped);
        }
        if now >= self.expiry {
            return Err(Wait::Expired);
        }
        if self.left <= 0 {
            return Err(Wait::Spent(self.expiry));
        }
        if self.running >= lease.depth() {
            return Err(Wait::Full);
        }
        self.running += 1;
        Ok(())
    }

    /// Takes back a beginning: the lease had changed.
    pub fn undo(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    /// The lease that was seen last, by its number.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Whether whoever grants leases is to be told that this one is over.
    pub fn is_over(&self, now: Time) -> bool {
        self.left <= 0 || now >= self.expiry
    }

    /// Forgets all leases, and what was used: they are another's from here on.
    pub fn begin_anew(&mut self) {
        *self = Self {
            running: self.running,
            ..Self::default()
        };
    }

    /// A job has ended after `used`, which leaves less, even less than nothing.
    pub fn end(&mut self, used: Nanos, words: &UsageWords) {
        let spent = i64::try_from(used.0).unwrap_or(i64::MAX);
        self.left = self.left.saturating_sub(spent);
        self.running = self.running.saturating_sub(1);
        self.used = self.used.saturating_add(used);
        words.set(self.used);
    }

    /// Goes on at the last rate, the daemon being gone: a budget for each period that has begun
    /// since the lease ended. Nobody stops because of that, and nobody is freed of a cap.
    pub fn carry_on(&mut self, now: Time) {
        let Some(lease) = self.lease.filter(|_| now >= self.expiry) else {
            return;
        };
        let periods = now.since(self.expiry).0 / lease.period().0 + 1;
        let more = u128::from(lease.budget().0) * u128::from(periods);
        let left = i128::from(self.left).saturating_add_unsigned(more);
        // What was left over in one period is not for the next.
        self.left = left.min(budget(&lease).into()) as i64;
        self.expiry = self.expiry + Nanos(lease.period().0.saturating_mul(periods));
    }

    /// A debt is not paid from it: who grants leases has charged what was used, and gives the next
    /// one later.
    fn renew(&mut self, sequence: u64, lease: Lease) {
        self.sequence = sequence;
        self.left = budget(&lease);
        self.expiry = lease.expiry();
        self.lease = Some(lease);
    }
}

/// No lease has more than a second of each of a thousand places.
fn budget(lease: &Lease) -> i64 {
    i64::try_from(lease.budget().0).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::super::Granter;
    use super::*;

    struct Both {
        grant: GrantWords,
        usage: UsageWords,
        granter: Granter,
        spender: Spender,
    }

    impl Both {
        fn new() -> Self {
            let grant = GrantWords::default();
            Self {
                granter: Granter::new(&grant),
                grant,
                usage: UsageWords::default(),
                spender: Spender::default(),
            }
        }

        /// So much until then, a period being 100.
        fn grant(&mut self, depth: u32, budget: u64, expiry: u64) {
            let lease = Lease::new(0, depth, Nanos(budget), Nanos(100), Time(expiry));
            self.granter.grant(&self.grant, &lease.unwrap());
        }

        fn begin(&mut self, now: u64) -> Result<(), Wait> {
            self.spender.begin(Time(now), &self.grant)
        }

        fn end(&mut self, used: u64) {
            self.spender.end(Nanos(used), &self.usage);
        }
    }

    #[test]
    fn a_budget_is_spent_and_a_debt_is_not_paid_twice() {
        let mut both = Both::new();
        assert_eq!(both.begin(0), Err(Wait::NoLease));
        both.grant(1, 30, 100);
        both.begin(0).unwrap();
        both.end(20);
        both.begin(20).unwrap();
        both.end(60);
        assert_eq!(both.begin(80), Err(Wait::Spent(Time(100))));
        assert!(both.spender.is_over(Time(80)));
        both.grant(1, 30, 200);
        both.begin(100).unwrap();
        assert!(!both.spender.is_over(Time(199)));
        assert!(both.spender.is_over(Time(200)));
        let reported = super::super::UsageReader::default().read(&both.usage, Nanos(1000));
        assert_eq!(reported.used, Nanos(80));
    }

    #[test]
    fn as_many_jobs_run_at_once_as_the_lease_has_places() {
        let mut both = Both::new();
        both.grant(2, 100, 100);
        both.begin(0).unwrap();
        both.begin(0).unwrap();
        assert_eq!(both.begin(0), Err(Wait::Full));
        both.end(1);
        both.begin(0).unwrap();
    }

    #[test]
    fn a_lease_that_is_taken_back_or_has_ended_is_spent_no_further() {
        let mut both = Both::new();
        both.grant(1, 50, 100);
        assert_eq!(both.begin(100), Err(Wait::Expired));
        both.begin(99).unwrap();
        both.end(0);
        both.grant(1, 0, 100);
        assert_eq!(both.begin(99), Err(Wait::Stopped));
        assert_eq!(both.begin(100), Err(Wait::Stopped));
    }

    #[test]
    fn without_a_daemon_the_rate_stays_what_it_was() {
        let mut both = Both::new();
        both.grant(1, 25, 100);
        let mut used = 0;
        let mut now = 0;
        while now < 100_000 {
            match both.begin(now) {
                Ok(()) => {
                    both.end(40);
                    used += 40;
                    now += 40;
                }
                Err(Wait::Expired) => both.spender.carry_on(Time(now)),
                Err(Wait::Spent(until)) => now = until.0,
                Err(wait) => panic!("{wait:?}"),
            }
        }
        assert!((24_900..=25_100).contains(&used), "{used}");
        // Whoever sleeps meanwhile has one budget when it wakes.
        both.spender.carry_on(Time(10_000_000));
        assert!(both.spender.left <= 25);
    }
}
