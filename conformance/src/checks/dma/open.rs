//! While the server waits for a reply of the client, the client waits for nothing.

use vfu::wire::Command;

use super::messages::asked;
use super::{ALL, BOTH, PAGE};
use crate::check::{Check, Unmet, Verdict, Within};
use crate::connection::{Answer, Received};
use crate::devices::edu::{self, Way};
use crate::ensure;
use crate::feature::Feature;
use crate::guest::{Guest, Wanted};
use crate::negotiated::CONFIG;
use crate::payload::{self, access, dma};
use crate::target::Target;

const fn check(name: &'static str, rule: &'static str, run: fn(&Target) -> Verdict) -> Check {
    Check {
        name,
        section: "Command Concurrency",
        rule,
        needs: &[Feature::Edu],
        run,
    }
}

pub(super) const CHECKS: &[Check] = &[
    check(
        "region_access_is_answered_while_the_server_waits_for_dma",
        "Commands of the client are processed while a command of the server is open.",
        region_access,
    ),
    check(
        "commands_keep_their_order_while_the_server_waits_for_dma",
        "Pipelined commands are answered in their order, whatever the server waits for.",
        keep_order,
    ),
    check(
        "dma_map_is_answered_while_the_server_waits_for_dma",
        "DMA_MAP does not wait for a reply of the client.",
        map_is_answered,
    ),
    check(
        "dma_unmap_is_answered_while_the_server_waits_for_dma",
        "In-flight DMA of the region is given up before the reply, and does not hold it up.",
        unmap_is_answered,
    ),
    check(
        "dma_unmap_of_everything_is_answered_while_the_server_waits_for_dma",
        "Whoever takes DMA_UNMAP of all regions gives up in-flight DMA for it too.",
        unmap_all_is_answered,
    ),
    check(
        "reset_is_answered_while_the_server_waits_for_dma",
        "DEVICE_RESET does not wait for a reply of the client.",
        reset_is_answered,
    ),
    check(
        "dma_reply_after_the_unmap_is_ignored",
        "A reply that comes when its region is gone is one to nothing.",
        after_the_unmap,
    ),
    check(
        "disconnect_while_the_server_waits_for_dma_ends_the_session_alone",
        "The next client of the device is served as if nothing had been.",
        disconnect,
    ),
];

/// A guest, and a command of the server that it has not answered.
fn waiting(target: &Target) -> Result<(Guest, Wanted), Unmet> {
    let mut guest = asked(target)?;
    guest.map(8, 4, BOTH)?;
    edu::start(&mut guest.client, Way::FromRam, 9 * PAGE, 0, 64)?;
    let wanted = guest.wanted()?;
    Ok((guest, wanted))
}

/// Lets the transfer end, and tries another one.
fn goes_on(mut guest: Guest, wanted: Option<&Wanted>) -> Verdict {
    if let Some(wanted) = wanted {
        guest.serve(wanted)?;
    }
    guest.serve_all()?;
    guest.master(true)?;
    guest.put(PAGE, b"0123")?;
    guest.transfer(Way::FromRam, PAGE, 4)?;
    guest.transfer(Way::ToRam, 2 * PAGE, 4)?;
    ensure!(
        guest.look(2 * PAGE, 4)? == b"0123",
        "the next transfer is wrong"
    );
    guest.client.is_in_step()
}

fn region_access(target: &Target) -> Verdict {
    let (mut guest, wanted) = waiting(target)?;
    for round in 0..100 {
        edu::write(&mut guest.client, edu::LIVENESS, round)?;
        let seen = edu::read(&mut guest.client, edu::LIVENESS)?;
        ensure!(seen == !round, "{seen:#x} was read for {round:#x}");
        guest.client.read(CONFIG, 0, 64)?;
    }
    goes_on(guest, Some(&wanted))
}

fn keep_order(target: &Target) -> Verdict {
    let (mut guest, wanted) = waiting(target)?;
    let connection = &mut guest.client.connection;
    for id in 0..64 {
        let read = access(CONFIG, u64::from(id % 16) * 4, 4, &[]);
        let message = payload::message(id, Command::RegionRead as u16, 0, &read);
        connection.send(&message, &[])?;
    }
    for id in 0..64 {
        match connection.receive_reply()? {
            Received::Message(reply) => {
                ensure!(
                    reply.header.id == id,
                    "the reply to {} came when that to {id} was due",
                    reply.header.id
                );
            }
            Received::Closed => return Err(Unmet::fail("the connection was closed")),
        }
    }
    goes_on(guest, Some(&wanted))
}

fn map_is_answered(target: &Target) -> Verdict {
    let (mut guest, wanted) = waiting(target)?;
    guest.map(12, 2, BOTH)?;
    guest.map_shared(14, 2)?;
    goes_on(guest, Some(&wanted))
}

fn unmap_is_answered(target: &Target) -> Verdict {
    let (mut guest, wanted) = waiting(target)?;
    guest.unmap(8, 4).within("the region in use")?;
    guest.unmap(0, 8).within("another region")?;
    guest.map(0, 8, BOTH)?;
    drop(wanted);
    goes_on(guest, None)
}

fn unmap_all_is_answered(target: &Target) -> Verdict {
    let (mut guest, wanted) = waiting(target)?;
    let all = dma(24, ALL, &[0, 0]);
    let command = Command::DmaUnmap as u16;
    match guest.client.connection.ask(command, &all, &[])? {
        Answer::Success(_) => guest.map(0, 8, BOTH)?,
        // It is libvfio-user's and QEMU's, and not the specification's.
        Answer::Refused(_) => return goes_on(guest, Some(&wanted)),
        Answer::Closed => return Err(Unmet::fail("the connection was closed")),
    }
    drop(wanted);
    goes_on(guest, None)
}

fn reset_is_answered(target: &Target) -> Verdict {
    let (mut guest, wanted) = waiting(target)?;
    guest.client.reset()?;
    drop(wanted);
    goes_on(guest, None)
}

fn after_the_unmap(target: &Target) -> Verdict {
    let (mut guest, wanted) = waiting(target)?;
    guest.unmap(8, 4)?;
    guest.serve(&wanted)?;
    goes_on(guest, Some(&wanted))
}

fn disconnect(target: &Target) -> Verdict {
    for _ in 0..3 {
        let (guest, _) = waiting(target)?;
        drop(guest);
    }
    let (guest, wanted) = waiting(target)?;
    goes_on(guest, Some(&wanted))
}
