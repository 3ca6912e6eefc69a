//! Eventfds: which are taken, for how long, and when they are let go.

use std::os::fd::OwnedFd;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::write;

use super::{
    EVENTFD, NONE, SECTION, TRIGGER, accepts, assign, disable, groups, new_eventfd, refuses_fds,
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
        "irq_eventfds_of_many_vectors_come_in_one_message",
        "As many eventfds as the server takes in one message are assigned in order.",
        many_at_once,
    ),
    check(
        "irq_no_fds_take_the_eventfd_away",
        "DATA_EVENTFD without descriptors de-assigns what was assigned.",
        no_fds_take_away,
    ),
    check(
        "irq_count_0_switches_the_type_off",
        "Count and start 0 without data disable every interrupt of the type.",
        count_0_switches_off,
    ),
    check(
        "irq_eventfd_is_replaced_by_a_later_one",
        "A second eventfd for a vector takes the place of the first, which is signalled no more.",
        replaced,
    ),
    check(
        "irq_refused_message_changes_no_assignment",
        "After an error the eventfds are those from before.",
        refused_changes_nothing,
    ),
    check(
        "irq_full_eventfd_does_not_block",
        "A client's counter at its maximum holds up neither the reply nor the session.",
        full_eventfd,
    ),
    check(
        "irq_eventfds_end_with_their_client",
        "When a client disconnects its interrupt descriptors are closed: the next starts with none.",
        end_with_client,
    ),
];

fn many_at_once(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let group = widest(&mut client)?;
    let taken_at_once = client.capabilities()["max_msg_fds"].as_u64().unwrap_or(1);
    let count = group
        .count
        .min(u32::try_from(taken_at_once).unwrap_or(1).min(16));
    let eventfds = (0..count)
        .map(|_| new_eventfd(0))
        .collect::<Result<Vec<_>, _>>()?;
    let all: Vec<&OwnedFd> = eventfds.iter().collect();
    assign(&mut client, group.index, 0, &all)?;
    for vector in 0..count {
        accepts(&mut client, [NONE | TRIGGER, group.index, vector, 1], &[])?;
        for (other, eventfd) in (0..count).zip(&eventfds) {
            let held = taken(eventfd)?;
            ensure!(
                held == u64::from(other == vector),
                "vector {vector} was triggered, and the eventfd of {other} holds {held}"
            );
        }
    }
    Ok(())
}

/// Triggers vector 0, which may be refused, and tells what that did to an eventfd.
fn trigger(client: &mut Client, index: u32, eventfd: &OwnedFd) -> Result<u64, Unmet> {
    tries(client, [NONE | TRIGGER, index, 0, 1], &[])?;
    taken(eventfd)
}

fn no_fds_take_away(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for group in groups(&mut client)? {
        let place = format!("type {}", group.index);
        let eventfd = new_eventfd(0)?;
        assign(&mut client, group.index, 0, &[&eventfd]).within(&place)?;
        accepts(&mut client, [EVENTFD | TRIGGER, group.index, 0, 1], &[]).within(&place)?;
        let held = trigger(&mut client, group.index, &eventfd).within(&place)?;
        ensure!(held == 0, "{place}: it is signalled still");
        // Once more, and in a range of which nothing is assigned.
        let all = [EVENTFD | TRIGGER, group.index, 0, group.count.min(8)];
        accepts(&mut client, all, &[]).within(&place)?;
    }
    Ok(())
}

fn count_0_switches_off(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for group in groups(&mut client)? {
        let place = format!("type {}", group.index);
        // That of nothing too.
        disable(&mut client, group.index).within(&place)?;
        let eventfd = new_eventfd(0)?;
        let last = group.count - 1;
        assign(&mut client, group.index, last, &[&eventfd]).within(&place)?;
        disable(&mut client, group.index).within(&place)?;
        tries(&mut client, [NONE | TRIGGER, group.index, last, 1], &[]).within(&place)?;
        ensure!(taken(&eventfd)? == 0, "{place}: it is signalled still");
        assign(&mut client, group.index, last, &[&eventfd]).within(&place)?;
        accepts(&mut client, [NONE | TRIGGER, group.index, last, 1], &[]).within(&place)?;
        ensure!(taken(&eventfd)? == 1, "{place}: it is not on again");
        disable(&mut client, group.index).within(&place)?;
    }
    Ok(())
}

fn replaced(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for group in groups(&mut client)? {
        let (old, new) = (new_eventfd(0)?, new_eventfd(0)?);
        assign(&mut client, group.index, 0, &[&old])?;
        assign(&mut client, group.index, 0, &[&new])?;
        let held = (trigger(&mut client, group.index, &new)?, taken(&old)?);
        ensure!(
            held == (1, 0),
            "type {}: the new eventfd holds {}, the old one {}",
            group.index,
            held.0,
            held.1
        );
        disable(&mut client, group.index)?;
    }
    Ok(())
}

fn refused_changes_nothing(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let group = widest(&mut client)?;
    let (old, new) = (new_eventfd(0)?, new_eventfd(0)?);
    assign(&mut client, group.index, 0, &[&old])?;
    let flags = EVENTFD | TRIGGER;
    refuses_fds(&mut client, [flags, group.index, 0, 1], &[], &[&new, &new])?;
    let past = [flags, group.index, 0, group.count + 1];
    refuses_fds(&mut client, past, &[], &[&new])?;
    let held = (trigger(&mut client, group.index, &old)?, taken(&new)?);
    ensure!(
        held == (1, 0),
        "the eventfd from before holds {}, that of the refused messages {}",
        held.0,
        held.1
    );
    Ok(())
}

/// A pipe tells when the last of its writing ends is closed; an eventfd does not.
fn full_eventfd(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let index = widest(&mut client)?.index;
    // Blocking, so that a write to it waits.
    let full = eventfd(0, EventfdFlags::CLOEXEC)?;
    write(&full, &(u64::MAX - 1).to_ne_bytes())?;
    assign(&mut client, index, 0, &[&full])?;
    tries(&mut client, [NONE | TRIGGER, index, 0, 1], &[]).within("TRIGGER")?;
    client.is_in_step()?;
    let mut fds = [PollFd::new(&full, PollFlags::OUT)];
    let is_full = poll(&mut fds, Some(&Timespec::default()))? == 0;
    ensure!(is_full, "the counter is no longer at its maximum");
    let after = taken(&full)?;
    ensure!(after == u64::MAX - 1, "the counter holds {after:#x}");
    accepts(&mut client, [NONE | TRIGGER, index, 0, 1], &[])?;
    let mut fds = [PollFd::new(&full, PollFlags::IN)];
    let is_signalled = poll(&mut fds, Some(&Timespec::default()))? == 1;
    ensure!(is_signalled, "once it has room it is signalled no more");
    Ok(())
}

fn end_with_client(target: &Target) -> Verdict {
    let mut first = target.client()?;
    let index = widest(&mut first)?.index;
    let eventfd = new_eventfd(0)?;
    assign(&mut first, index, 0, &[&eventfd])?;
    drop(first);
    let mut second = target.client()?;
    let held = trigger(&mut second, index, &eventfd)?;
    ensure!(held == 0, "the next client signals the eventfd of the last");
    Ok(())
}
