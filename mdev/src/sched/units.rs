//! Nanoseconds, shares of an engine, and virtual time.

use std::fmt;
use std::ops::Add;

use super::error::SchedError;

/// A length of time, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

impl Nanos {
    /// So many milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// So many microseconds.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros.saturating_mul(1000))
    }

    pub(super) fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    pub(super) fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// A point in time: nanoseconds since a moment that the caller has chosen once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// How long ago `earlier` was; zero if it is still to come.
    pub fn since(self, earlier: Self) -> Nanos {
        Nanos(self.0.saturating_sub(earlier.0))
    }

    pub(super) fn before(self, length: Nanos) -> Self {
        Self(self.0.saturating_sub(length.0))
    }
}

impl Add<Nanos> for Time {
    type Output = Self;

    /// The end of time, which is 584 years away, is never passed.
    fn add(self, length: Nanos) -> Self {
        Self(self.0.saturating_add(length.0))
    }
}

/// A share of an engine's capacity in thousandths, more than none and at most all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PerMille(u16);

impl PerMille {
    /// The whole engine.
    pub const ALL: Self = Self(1000);

    /// Refuses 0, which would be a client that never runs, and more than 1000.
    pub fn new(thousandths: u32) -> Result<Self, SchedError> {
        match u16::try_from(thousandths) {
            Ok(share @ 1..=1000) => Ok(Self(share)),
            _ => Err(SchedError::ShareOutOfRange(thousandths)),
        }
    }

    /// The number, 1 to 1000.
    pub fn thousandths(self) -> u32 {
        self.0.into()
    }
}

impl fmt::Display for PerMille {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} %", self.0 / 10, self.0 % 10)
    }
}

/// How much a client gets in relation to others: 1 to 10,000, the range of the kernel's
/// `cpu.weight` (Documentation/admin-guide/cgroup-v2.rst).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u16);

impl Weight {
    /// What a client has that was given no other, as with `cpu.weight`.
    pub const DEFAULT: Self = Self(100);

    /// Refuses 0, which would be no share at all, and more than 10,000.
    pub fn new(weight: u32) -> Result<Self, SchedError> {
        match u16::try_from(weight) {
            Ok(weight @ 1..=10_000) => Ok(Self(weight)),
            _ => Err(SchedError::WeightOutOfRange(weight)),
        }
    }

    /// The number, 1 to 10,000.
    pub fn value(self) -> u32 {
        self.0.into()
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl From<PerMille> for Weight {
    fn from(share: PerMille) -> Self {
        Self(share.0)
    }
}

/// Service divided by weight: whoever has the least is next.
///
/// 128 bits, since 64 would be full after weeks of an engine with many CPUs at weight 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtualTime(u128);

impl VirtualTime {
    /// A nanosecond at weight 1. What weights do not divide is lost below that.
    const PER_NANO: u128 = 1_000_000;

    /// What `service` costs a client of that weight.
    pub const fn of(service: Nanos, weight: Weight) -> Self {
        Self(service.0 as u128 * Self::PER_NANO / weight.0 as u128)
    }

    /// In nanoseconds of a client with the default weight, for people and traces.
    pub fn at_default_weight(self) -> Nanos {
        let nanos = self.0.saturating_mul(u128::from(Weight::DEFAULT.0)) / Self::PER_NANO;
        Nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    pub(super) fn back(self, by: Self) -> Self {
        Self(self.0.saturating_sub(by.0))
    }
}

impl Add for VirtualTime {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_more_than_none_and_at_most_all() {
        for (thousandths, is_share) in [(0, false), (1, true), (1000, true), (1001, false)] {
            let share = PerMille::new(thousandths);
            assert_eq!(share.is_ok(), is_share, "{thousandths}");
        }
        assert!(PerMille::new(65_536 + 1).is_err());
    }

    #[test]
    fn a_weight_has_the_range_of_the_kernels() {
        for (weight, is_weight) in [(0, false), (1, true), (10_000, true), (10_001, false)] {
            assert_eq!(Weight::new(weight).is_ok(), is_weight, "{weight}");
        }
        assert!(Weight::new(65_536 + 1).is_err());
    }

    #[test]
    fn virtual_time_passes_slower_for_a_larger_weight() {
        let weight = |weight| Weight::new(weight).unwrap();
        let cost = |w| VirtualTime::of(Nanos(3000), weight(w)).at_default_weight();
        assert_eq!(cost(100), Nanos(3000));
        assert_eq!(cost(300), Nanos(1000));
        assert_eq!(cost(1), Nanos(300_000));
        assert_eq!(cost(10_000), Nanos(30));
    }

    #[test]
    fn a_share_is_written_in_percent() {
        assert_eq!(PerMille::new(125).unwrap().to_string(), "12.5 %");
        assert_eq!(PerMille::ALL.to_string(), "100.0 %");
    }
}
