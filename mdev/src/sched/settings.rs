//! What a client may be given, and how an engine is shared. All of it changes live.

use std::fmt;
use std::str::FromStr;

use super::error::SchedError;
use super::units::{PerMille, VirtualTime, Weight};

/// How the time of an engine is divided. The names are those of NVIDIA's vGPU software
/// (docs.nvidia.com, AI Enterprise, "Scheduling Policies").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// By weight among those who want it; what one does not use, the others may.
    #[default]
    BestEffort,
    /// Each of `n` clients that have joined has a ceiling of 1/n, whoever of them is busy. Weights
    /// and reservations are kept and have no effect.
    EqualShare,
    /// A client's reservation is what it gets, and no more, whoever else there is.
    FixedShare,
}

impl Policy {
    const NAMES: [(Self, &str); 3] = [
        (Self::BestEffort, "best-effort"),
        (Self::EqualShare, "equal-share"),
        (Self::FixedShare, "fixed-share"),
    ];
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(policy, _)| policy == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

/// The name is none of a policy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a policy: there are best-effort, equal-share and fixed-share")]
pub struct UnknownPolicy;

impl FromStr for Policy {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        let found = Self::NAMES.iter().find(|(_, name)| *name == text);
        found.map(|(policy, _)| *policy).ok_or(UnknownPolicy)
    }
}

/// Who waits for whom. It moves nobody's share: whoever has run ahead by the lead of its priority
/// waits as the others do. The names are those of Intel's `sched_priority`
/// (sysfs-driver-intel-xe-sriov).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// After the others, as long as they are not behind by the lead.
    Low,
    /// As most.
    #[default]
    Normal,
    /// Before the others, until it is ahead by the lead.
    High,
}

impl Priority {
    pub(super) const ALL: [Self; 3] = [Self::Low, Self::Normal, Self::High];

    /// How far one priority may run ahead of the next: 10 ms of a client with the default weight.
    ///
    /// The idea of a bounded lead is that of borrowed virtual time (Duda and Cheriton, SOSP 1999).
    /// Without the bound a busy client of high priority would starve all others.
    pub const LEAD: VirtualTime =
        VirtualTime::of(super::units::Nanos::from_millis(10), Weight::DEFAULT);

    /// What is added to a client's virtual time when it is compared with one of another priority.
    pub(super) fn handicap(self) -> VirtualTime {
        match self {
            Self::High => VirtualTime::default(),
            Self::Normal => Self::LEAD,
            Self::Low => Self::LEAD + Self::LEAD,
        }
    }
}

/// What one client gets of every engine of its parent.
///
/// # Invariants
///
/// The cap is not below the reservation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    weight: Weight,
    cap: Option<PerMille>,
    reservation: Option<PerMille>,
    priority: Priority,
}

impl Settings {
    /// `cap` is a ceiling, even when others idle; `reservation` is what is there when the client
    /// wants it, whatever the weights say. Refuses a cap below the reservation.
    pub fn new(
        weight: Weight,
        cap: Option<PerMille>,
        reservation: Option<PerMille>,
        priority: Priority,
    ) -> Result<Self, SchedError> {
        if let (Some(cap), Some(reservation)) = (cap, reservation)
            && cap < reservation
        {
            return Err(SchedError::CapBelowReservation { cap, reservation });
        }
        Ok(Self {
            weight,
            cap,
            reservation,
            priority,
        })
    }

    /// The share in relation to others.
    pub fn weight(&self) -> Weight {
        self.weight
    }

    /// The ceiling.
    pub fn cap(&self) -> Option<PerMille> {
        self.cap
    }

    /// What is there when it is wanted.
    pub fn reservation(&self) -> Option<PerMille> {
        self.reservation
    }

    /// Who waits for whom.
    pub fn priority(&self) -> Priority {
        self.priority
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_have_the_names_that_users_know() {
        for policy in [Policy::BestEffort, Policy::EqualShare, Policy::FixedShare] {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        assert_eq!("fixed-share".parse(), Ok(Policy::FixedShare));
        assert_eq!("Best-effort".parse::<Policy>(), Err(UnknownPolicy));
    }

    #[test]
    fn a_cap_below_the_reservation_is_refused() {
        let share = |n| Some(PerMille::new(n).unwrap());
        for (cap, reservation, is_sound) in [
            (None, share(500), true),
            (share(500), None, true),
            (share(500), share(500), true),
            (share(499), share(500), false),
        ] {
            let settings = Settings::new(Weight::DEFAULT, cap, reservation, Priority::Normal);
            assert_eq!(settings.is_ok(), is_sound, "{cap:?} {reservation:?}");
        }
    }
}
