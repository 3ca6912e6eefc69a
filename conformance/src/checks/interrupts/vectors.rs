//! Triggering by message: which vectors are signalled, and how often.

use std::os::fd::OwnedFd;

use super::{
    BOOL, Group, MASK, NONE, SECTION, TRIGGER, accepts, assign, disable, groups, new_eventfd,
    taken, tries, widest,
};
use crate::check::{Check, Unmet, Verdict, Within};
use crate::ensure;
use crate::negotiated::Client;
use crate::target::Target;

const fn check(name: &'static str, rule: &'static str, run: fn(&Target) -> Verdict) -> Check {
    Check {
        name,
        section: SECTION,
        rule,
        needs: &[],
        run,
    }
}

pub(super) const CHECKS: &[Check] = &[
    check(
        "irq_trigger_signals_each_vector_of_its_range",
        "TRIGGER without data adds 1 to the eventfd of each sub-index that is named, of no other.",
        trigger_signals,
    ),
    check(
        "irq_trigger_by_bools_signals_those_that_are_true",
        "TRIGGER with booleans is done for the sub-indexes whose boolean is true.",
        trigger_by_bools,
    ),
    check(
        "irq_bools_past_count_do_nothing",
        "Booleans beyond count belong to no sub-index: the message is refused, or they are ignored.",
        bools_past_count,
    ),
    check(
        "irq_bools_for_no_vector_do_nothing",
        "Booleans with a count of 0 disable nothing, whether refused or not.",
        bools_for_no_vector,
    ),
    check(
        "irq_mask_of_no_vector_is_refused_or_disables",
        "A count of 0 without data disables the type; with MASK a server may also refuse it.",
        mask_of_no_vector,
    ),
    check(
        "irq_trigger_without_an_eventfd_harms_nothing",
        "To trigger what nobody assigned is answered, and the session goes on.",
        trigger_without_eventfd,
    ),
    check(
        "irq_each_type_has_vectors_of_its_own",
        "To trigger one interrupt type signals no other type.",
        types_are_apart,
    ),
    check(
        "irq_each_trigger_counts",
        "Each of several triggers adds 1.",
        each_trigger_counts,
    ),
];

/// Most vectors that are looked at: as many descriptors as QEMU sends in one message.
const MOST: u32 = 8;

/// Gives the first vectors of a group an eventfd each, one message for each.
fn give(client: &mut Client, group: Group) -> Result<Vec<OwnedFd>, Unmet> {
    let mut eventfds = Vec::new();
    for vector in 0..group.count.min(MOST) {
        // Not 0, so that one that is set instead of added to is seen.
        let eventfd = new_eventfd(4)?;
        assign(client, group.index, vector, &[&eventfd])?;
        eventfds.push(eventfd);
    }
    Ok(eventfds)
}

/// What eventfds held since `give`, or the last look.
fn look(eventfds: &[OwnedFd]) -> Result<Vec<u64>, Unmet> {
    eventfds.iter().map(taken).collect()
}

fn trigger_signals(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for group in groups(&mut client)? {
        let place = format!("type {}", group.index);
        let eventfds = give(&mut client, group).within(&place)?;
        let last = u32::try_from(eventfds.len()).unwrap_or(1) - 1;
        accepts(&mut client, [NONE | TRIGGER, group.index, last, 1], &[]).within(&place)?;
        let mut expected = vec![4; eventfds.len()];
        if let Some(last) = expected.last_mut() {
            *last = 5;
        }
        let held = look(&eventfds)?;
        ensure!(held == expected, "{place}: the eventfds hold {held:?}");
        let all = [NONE | TRIGGER, group.index, 0, last + 1];
        accepts(&mut client, all, &[]).within(&place)?;
        let held = look(&eventfds)?;
        ensure!(
            held.iter().all(|held| *held == 1),
            "{place}: all were triggered, and the eventfds hold {held:?}"
        );
        disable(&mut client, group.index).within(&place)?;
    }
    Ok(())
}

fn trigger_by_bools(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for group in groups(&mut client)? {
        let place = format!("type {}", group.index);
        let eventfds = give(&mut client, group).within(&place)?;
        look(&eventfds)?;
        let count = u32::try_from(eventfds.len()).unwrap_or(1);
        // Any byte but 0 is true.
        for pattern in [
            [0; 8],
            [1, 0, 1, 0, 0, 1, 1, 0],
            [0, 1, 0, 1, 0xff, 0, 0, 2],
        ] {
            let bools = pattern.get(..eventfds.len()).unwrap_or_default();
            let numbers = [BOOL | TRIGGER, group.index, 0, count];
            accepts(&mut client, numbers, bools).within(&place)?;
            let held = look(&eventfds)?;
            let expected: Vec<u64> = bools.iter().map(|bool| u64::from(*bool != 0)).collect();
            ensure!(
                held == expected,
                "{place}: after {bools:?} the eventfds hold {held:?}"
            );
        }
        disable(&mut client, group.index).within(&place)?;
    }
    Ok(())
}

fn bools_past_count(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let group = widest(&mut client)?;
    let eventfds = give(&mut client, group)?;
    look(&eventfds)?;
    tries(&mut client, [BOOL | TRIGGER, group.index, 0, 1], &[0, 1, 1])?;
    let held = look(&eventfds)?;
    ensure!(
        held.iter().all(|held| *held == 0),
        "one that is false and two too many: the eventfds hold {held:?}"
    );
    client.is_in_step()
}

/// Whether vector 0 is still signalled.
fn is_assigned(client: &mut Client, index: u32, eventfd: &OwnedFd) -> Result<bool, Unmet> {
    taken(eventfd)?;
    // What has no eventfd may be refused.
    tries(client, [NONE | TRIGGER, index, 0, 1], &[])?;
    Ok(taken(eventfd)? == 1)
}

fn bools_for_no_vector(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let index = widest(&mut client)?.index;
    let eventfd = new_eventfd(0)?;
    assign(&mut client, index, 0, &[&eventfd])?;
    tries(&mut client, [BOOL | TRIGGER, index, 0, 0], &[])?;
    ensure!(
        is_assigned(&mut client, index, &eventfd)?,
        "vector 0 is signalled no more"
    );
    Ok(())
}

fn mask_of_no_vector(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let index = widest(&mut client)?.index;
    let eventfd = new_eventfd(0)?;
    assign(&mut client, index, 0, &[&eventfd])?;
    let is_done = tries(&mut client, [NONE | MASK, index, 0, 0], &[])?;
    let is_assigned = is_assigned(&mut client, index, &eventfd)?;
    ensure!(
        is_done != is_assigned,
        "it was {}, and vector 0 is {}",
        if is_done { "done" } else { "refused" },
        if is_assigned {
            "signalled still"
        } else {
            "signalled no more"
        }
    );
    Ok(())
}

fn trigger_without_eventfd(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for group in groups(&mut client)? {
        tries(&mut client, [NONE | TRIGGER, group.index, 0, 1], &[])?;
        tries(&mut client, [BOOL | TRIGGER, group.index, 0, 1], &[1])?;
    }
    client.is_in_step()
}

fn types_are_apart(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let (mut used, mut eventfds) = (Vec::new(), Vec::new());
    for group in groups(&mut client)? {
        let eventfd = new_eventfd(0)?;
        // As in the kernel, one type may be in use at a time.
        if used.is_empty() || assign(&mut client, group.index, 0, &[&eventfd]).is_ok() {
            used.push(group);
            eventfds.push(eventfd);
        }
    }
    let first = used.iter().zip(&eventfds).next();
    if let Some((group, eventfd)) = first {
        assign(&mut client, group.index, 0, &[eventfd])?;
    }
    for (position, group) in used.iter().enumerate() {
        accepts(&mut client, [NONE | TRIGGER, group.index, 0, 1], &[])?;
        let held = look(&eventfds)?;
        let expected: Vec<u64> = (0..held.len())
            .map(|it| u64::from(it == position))
            .collect();
        ensure!(
            held == expected,
            "type {} was triggered, and the types' eventfds hold {held:?}",
            group.index
        );
    }
    Ok(())
}

fn each_trigger_counts(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let index = widest(&mut client)?.index;
    let eventfd = new_eventfd(0)?;
    assign(&mut client, index, 0, &[&eventfd])?;
    for _ in 0..100 {
        accepts(&mut client, [NONE | TRIGGER, index, 0, 1], &[])?;
    }
    let held = taken(&eventfd)?;
    ensure!(held == 100, "100 triggers, and the eventfd holds {held}");
    Ok(())
}
