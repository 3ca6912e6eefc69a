//! Descriptors: how many, which ones, and what becomes of those that are refused.

use std::os::fd::AsFd;
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::pipe::{PipeFlags, pipe_with};

use super::{BOOL, EVENTFD, NONE, SECTION, TRIGGER, new_eventfd, refuses_fds, widest};
use crate::check::{Check, Verdict, Within};
use crate::connection;
use crate::ensure;
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
        "irq_eventfds_come_one_for_each_vector",
        "As many descriptors come as count says, or none.",
        one_for_each,
    ),
    check(
        "irq_fds_with_no_data_are_refused",
        "Descriptors belong to DATA_EVENTFD only, not to DATA_NONE.",
        fds_with_none,
    ),
    check(
        "irq_fds_with_bools_are_refused",
        "Descriptors belong to DATA_EVENTFD only, not to DATA_BOOL.",
        fds_with_bools,
    ),
    check(
        "irq_what_is_no_eventfd_is_refused",
        "The descriptors are event file descriptors; what cannot be signalled is refused.",
        no_eventfd,
    ),
    check(
        "irq_fds_of_a_refused_message_are_closed",
        "Descriptors that came with a refused message are not kept.",
        refused_are_closed,
    ),
];

fn one_for_each(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let group = widest(&mut client)?;
    let (a, b, c) = (new_eventfd(0)?, new_eventfd(0)?, new_eventfd(0)?);
    let flags = EVENTFD | TRIGGER;
    for (count, fds) in [
        (1, &[&a, &b][..]),
        (2, &[&a]),
        (3, &[&a, &b]),
        (2, &[&a, &b, &c]),
    ] {
        if count <= group.count {
            let place = format!("{} for {count}", fds.len());
            refuses_fds(&mut client, [flags, group.index, 0, count], &[], fds).within(&place)?;
        }
    }
    client.is_in_step()
}

fn fds_with_none(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let index = widest(&mut client)?.index;
    let eventfd = new_eventfd(0)?;
    refuses_fds(&mut client, [NONE | TRIGGER, index, 0, 1], &[], &[&eventfd])?;
    client.is_in_step()
}

fn fds_with_bools(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let index = widest(&mut client)?.index;
    let eventfd = new_eventfd(0)?;
    refuses_fds(
        &mut client,
        [BOOL | TRIGGER, index, 0, 1],
        &[1],
        &[&eventfd],
    )?;
    client.is_in_step()
}

fn no_eventfd(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let index = widest(&mut client)?.index;
    let (_reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let file = memfd_create("conformance", MemfdFlags::CLOEXEC)?;
    for (what, fd) in [("a pipe", &writer), ("a file", &file)] {
        refuses_fds(&mut client, [EVENTFD | TRIGGER, index, 0, 1], &[], &[fd]).within(what)?;
    }
    client.is_in_step()
}

fn refused_are_closed(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let group = widest(&mut client)?;
    let past = client.device_info()?.num_irqs;
    for (what, numbers, data) in [
        ("with no data", [NONE | TRIGGER, group.index, 0, 1], &[][..]),
        ("with booleans", [BOOL | TRIGGER, group.index, 0, 1], &[1]),
        ("of no type", [EVENTFD | TRIGGER, past, 0, 1], &[]),
        ("too many", [EVENTFD | TRIGGER, group.index, 0, 3], &[]),
        ("of no flags", [0, group.index, 0, 1], &[]),
    ] {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        let result = refuses_fds(&mut client, numbers, data, &[&writer, &writer]);
        result.within(what)?;
        drop(writer);
        let deadline = Instant::now() + client.connection.patience();
        let is_closed = connection::wait(reader.as_fd(), PollFlags::IN, deadline)?;
        ensure!(is_closed, "{what}: the server keeps them open");
    }
    Ok(())
}
