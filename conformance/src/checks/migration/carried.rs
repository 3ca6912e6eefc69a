//! What a saved device was about to do, and what a loaded one then does. On edu.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFlags, eventfd};
use vfu::wire::Command;

use crate::check::{Check, Unmet, Verdict, Within};
use crate::connection;
use crate::devices::edu::{self, Way};
use crate::ensure;
use crate::feature::Feature;
use crate::guest::{BOTH, Guest, PAGE};
use crate::migration::{RUNNING, STOP_COPY, chunk, go, load, read_all, save};
use crate::negotiated::Client;
use crate::payload::words;
use crate::target::Target;

const fn check(name: &'static str, rule: &'static str, run: fn(&Target) -> Verdict) -> Check {
    Check {
        name,
        section: "Direct State Transitions",
        rule,
        needs: &[Feature::Migration, Feature::Edu],
        run,
    }
}

pub(super) const CHECKS: &[Check] = &[
    check(
        "mig_stream_has_the_buffer_of_edu",
        "Memory of the device that no register shows is part of its state.",
        buffer,
    ),
    check(
        "mig_stream_has_the_right_to_master_the_bus",
        "A loaded device does DMA if the saved one might, and does none if it might not.",
        bus_mastering,
    ),
    check(
        "mig_stream_has_a_transfer_that_was_under_way",
        "A transfer that was not over when the device was saved is over, or goes on, when it is loaded.",
        transfer,
    ),
    check(
        "mig_stream_has_an_interrupt_that_was_pending",
        "A pin that was asserted when the device was saved is asserted when it is loaded and runs.",
        pending_interrupt,
    ),
    check(
        "mig_stream_has_no_interrupt_that_was_not_pending",
        "A device that was saved with its pin low leaves the new client alone.",
        no_interrupt,
    ),
];

const DATA: &[u8; 16] = b"sixteen bytes ok";

/// What the device's buffer begins with.
fn buffer_of(guest: &mut Guest) -> Result<Vec<u8>, Unmet> {
    guest.put(7 * PAGE, &[0; 16])?;
    guest.transfer(Way::ToRam, 7 * PAGE, 16)?;
    guest.look(7 * PAGE, 16)
}

fn buffer(target: &Target) -> Verdict {
    let mut first = Guest::believed(target, 8)?;
    first.map_shared(0, 8)?;
    first.fill(0, DATA)?;
    let stream = save(&mut first.client)?;
    drop(first);
    let mut second = Guest::believed(target, 8)?;
    second.map_shared(0, 8)?;
    second.fill(0, &[0xee; 16])?;
    load(&mut second.client, &stream)?;
    go(&mut second.client, RUNNING)?;
    let seen = buffer_of(&mut second)?;
    ensure!(seen == DATA, "the buffer begins with {seen:x?}");
    Ok(())
}

fn bus_mastering(target: &Target) -> Verdict {
    for may_master in [true, false] {
        let mut first = Guest::believed(target, 8)?;
        first.map_shared(0, 8)?;
        first.fill(0, DATA)?;
        first.master(may_master)?;
        let stream = save(&mut first.client)?;
        drop(first);
        let mut second = Guest::believed(target, 8)?;
        second.master(!may_master)?;
        second.map_shared(0, 8)?;
        load(&mut second.client, &stream)?;
        go(&mut second.client, RUNNING)?;
        second.transfer(Way::ToRam, PAGE, 16)?;
        let has_written = second.look(PAGE, 16)? == DATA;
        ensure!(
            has_written == may_master,
            "saved with bus mastering {}, it has written: {has_written}",
            if may_master { "on" } else { "off" }
        );
    }
    Ok(())
}

fn transfer(target: &Target) -> Verdict {
    let mut first = Guest::new(target, 8)?;
    first.map(0, 8, BOTH)?;
    if first.transfer(Way::FromRam, 0, 16)?.is_empty() {
        return Err(Unmet::Skip("DMA by message".to_owned()));
    }
    edu::start(&mut first.client, Way::FromRam, PAGE, 0, 16)?;
    // It waits for this one.
    first.wanted()?;
    go(&mut first.client, STOP_COPY).within("while a transfer waits")?;
    let chunk = chunk(&first.client);
    let stream = read_all(&mut first.client, chunk)?;
    drop(first);
    let mut second = Guest::new(target, 8)?;
    second.map(0, 8, BOTH)?;
    second.put(PAGE, DATA)?;
    load(&mut second.client, &stream)?;
    go(&mut second.client, RUNNING)?;
    second.serve_all()?;
    let seen = buffer_of(&mut second)?;
    ensure!(seen == DATA, "the device has got {seen:x?}");
    Ok(())
}

/// An eventfd for INTx, masked by nobody.
fn intx(client: &mut Client) -> Result<OwnedFd, Unmet> {
    if client.irq_info(0)?.count == 0 {
        return Err(Unmet::Skip("INTx".to_owned()));
    }
    let eventfd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
    let assign = words(&[20, 1 << 2 | 1 << 5, 0, 0, 1]);
    let command = Command::DeviceSetIrqs as u16;
    let fds = [eventfd.as_fd()];
    client.connection.accepts(command, &assign, &fds)?;
    Ok(eventfd)
}

fn is_signalled(eventfd: &OwnedFd, within: Duration) -> Result<bool, Unmet> {
    let deadline = Instant::now() + within;
    Ok(connection::wait(eventfd.as_fd(), PollFlags::IN, deadline)?)
}

/// Saves a device with its pin asserted or not, loads it for another client, and tells whether
/// that one is interrupted.
fn interrupts(target: &Target, is_pending: bool) -> Result<bool, Unmet> {
    let mut first = target.client()?;
    intx(&mut first)?;
    if is_pending {
        edu::write(&mut first, edu::INTERRUPT_RAISE, 1)?;
    }
    let stream = save(&mut first)?;
    drop(first);
    let mut second = target.client()?;
    let patience = second.connection.patience();
    let eventfd = intx(&mut second)?;
    load(&mut second, &stream)?;
    go(&mut second, RUNNING)?;
    let limit = if is_pending {
        patience
    } else {
        Duration::from_millis(60)
    };
    let is_interrupted = is_signalled(&eventfd, limit)?;
    let causes = edu::read(&mut second, edu::INTERRUPT_STATUS)?;
    ensure!(
        (causes != 0) == is_pending,
        "the causes that are pending are {causes:#x}"
    );
    edu::write(&mut second, edu::INTERRUPT_ACKNOWLEDGE, u32::MAX)?;
    Ok(is_interrupted)
}

fn pending_interrupt(target: &Target) -> Verdict {
    let is_interrupted = interrupts(target, true)?;
    ensure!(is_interrupted, "the new client is not interrupted");
    Ok(())
}

fn no_interrupt(target: &Target) -> Verdict {
    let is_interrupted = interrupts(target, false)?;
    ensure!(!is_interrupted, "the new client is interrupted");
    Ok(())
}
