//! VFIO's states of migration, and the way from one to another; specification, sections "Direct
//! State Transitions" and "Complex State Transitions".

use std::collections::VecDeque;

use vfu::wire::migration::MigState;

/// The steps that there are. Each is an action; every other change is a row of them.
const STEPS: [(MigState, MigState); 9] = [
    (MigState::Running, MigState::Stop),
    (MigState::Running, MigState::PreCopy),
    (MigState::PreCopy, MigState::Running),
    (MigState::PreCopy, MigState::StopCopy),
    (MigState::Stop, MigState::Running),
    (MigState::Stop, MigState::StopCopy),
    (MigState::Stop, MigState::Resuming),
    (MigState::StopCopy, MigState::Stop),
    (MigState::Resuming, MigState::Stop),
];

/// The states in which the state is read: no way leads through them.
pub fn is_saving(state: MigState) -> bool {
    matches!(state, MigState::PreCopy | MigState::StopCopy)
}

/// The states in which the device does nothing, and its state is not to be changed by accesses.
pub fn is_stopped(state: MigState) -> bool {
    !matches!(state, MigState::Running | MigState::PreCopy)
}

/// The shortest way from one state to another, the first one left out; `None` if there is none.
pub fn way(from: MigState, to: MigState, has_pre_copy: bool) -> Option<Vec<MigState>> {
    // Over STOP and RUNNING there would be a way, but it would begin anew what was half read.
    if (from, to) == (MigState::StopCopy, MigState::PreCopy) {
        return None;
    }
    let is_known = |state| has_pre_copy || state != MigState::PreCopy;
    if !is_known(to) || !STEPS.iter().any(|(_, reached)| *reached == to) {
        return None;
    }
    let mut ways = VecDeque::from([vec![from]]);
    while let Some(way) = ways.pop_front() {
        let &here = way.last()?;
        if here == to {
            return Some(way.into_iter().skip(1).collect());
        }
        if here != from && is_saving(here) {
            continue;
        }
        for (_, next) in STEPS.iter().filter(|(start, _)| *start == here) {
            if is_known(*next) && !way.contains(next) {
                ways.push_back([&way[..], &[*next]].concat());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use MigState::{Error, PreCopy, PreCopyP2p, Resuming, Running, RunningP2p, Stop, StopCopy};

    #[test]
    fn the_way_is_the_shortest_and_leads_through_no_state_that_is_read() {
        for (from, to, expected) in [
            (Running, Running, Some(vec![])),
            (Running, Stop, Some(vec![Stop])),
            (Running, StopCopy, Some(vec![Stop, StopCopy])),
            (Running, Resuming, Some(vec![Stop, Resuming])),
            (Running, PreCopy, Some(vec![PreCopy])),
            (PreCopy, StopCopy, Some(vec![StopCopy])),
            (PreCopy, Running, Some(vec![Running])),
            (PreCopy, Stop, Some(vec![Running, Stop])),
            (PreCopy, Resuming, Some(vec![Running, Stop, Resuming])),
            (Stop, PreCopy, Some(vec![Running, PreCopy])),
            (StopCopy, Running, Some(vec![Stop, Running])),
            (StopCopy, Resuming, Some(vec![Stop, Resuming])),
            (StopCopy, StopCopy, Some(vec![])),
            (StopCopy, PreCopy, None),
            (Resuming, Running, Some(vec![Stop, Running])),
            (Resuming, StopCopy, Some(vec![Stop, StopCopy])),
            (Resuming, PreCopy, Some(vec![Stop, Running, PreCopy])),
            (Error, Running, None),
            (Error, Stop, None),
            (Running, Error, None),
            (Running, RunningP2p, None),
            (PreCopy, PreCopyP2p, None),
        ] {
            assert_eq!(way(from, to, true), expected, "{from:?} to {to:?}");
        }
    }

    #[test]
    fn a_device_without_pre_copy_has_no_way_there() {
        for from in [Running, Stop, StopCopy, Resuming] {
            assert_eq!(way(from, PreCopy, false), None, "{from:?}");
            for to in [Running, Stop, StopCopy, Resuming] {
                let without = way(from, to, false);
                assert!(without.is_some() && without == way(from, to, true));
            }
        }
    }
}
