//! The twin socket: the server's commands and their replies, apart from the client's.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{BOTH, PAGE};
use crate::check::{Check, Unmet, Verdict, Within};
use crate::connection::Connection;
use crate::devices::edu::{self, Way};
use crate::ensure;
use crate::feature::{Feature, twin_client};
use crate::guest::{Guest, Wanted};
use crate::payload::{self, longs};
use crate::target::Target;

const fn check(name: &'static str, rule: &'static str, run: fn(&Target) -> Verdict) -> Check {
    Check {
        name,
        section: "VFIO_USER_VERSION",
        rule,
        needs: &[Feature::Edu, Feature::TwinSocket],
        run,
    }
}

pub(super) const CHECKS: &[Check] = &[
    check(
        "twin_socket_carries_the_servers_commands",
        "DMA_READ and DMA_WRITE come on the twin socket, and none on the main one.",
        carries_commands,
    ),
    check(
        "twin_socket_takes_the_replies",
        "The replies to the server's commands are taken on the twin socket.",
        takes_replies,
    ),
    check(
        "twin_socket_alone_takes_the_replies",
        "A reply on the main socket is one to nothing.",
        alone_takes_replies,
    ),
    check(
        "twin_socket_that_waits_holds_up_nothing",
        "While a command on the twin socket is open the main one is served.",
        holds_up_nothing,
    ),
    check(
        "twin_socket_that_is_closed_ends_nothing_but_the_session",
        "A client that closes its twin socket is served on, or disconnected; the next one is served.",
        closed,
    ),
    check(
        "twin_socket_that_is_closed_ends_the_transfers",
        "A server whose command cannot be answered any more does not wait for the answer for ever.",
        closed_ends_transfers,
    ),
    check(
        "twin_socket_that_waits_does_not_hold_up_an_unmap",
        "DMA_UNMAP and DEVICE_RESET are answered while a command on the twin socket is open.",
        unmap_and_reset,
    ),
    check(
        "twin_socket_is_closed_with_the_session",
        "When the main socket is closed the server closes its end of the twin socket too.",
        closed_with_session,
    ),
    check(
        "twin_socket_takes_no_commands",
        "What is no reply harms nothing there: the main socket is the client's.",
        takes_no_commands,
    ),
];

/// A guest whose twin socket is open; its first 8 pages are mapped without a file.
fn guest(target: &Target) -> Result<Guest, Unmet> {
    let mut client = twin_client(target)?;
    let index = client.capabilities()["twin_socket"]["fd_index"].as_u64();
    let index = index.and_then(|index| usize::try_from(index).ok());
    let index = index.filter(|index| *index < client.fds.len());
    let Some(index) = index else {
        return Err(Unmet::fail("no descriptor came for the twin socket"));
    };
    let socket: OwnedFd = client.fds.swap_remove(index);
    let patience = client.connection.patience();
    let mut guest = Guest::of(client, 16)?;
    guest.twin = Some(Connection::new(socket, patience, Arc::default()));
    guest.map(0, 8, BOTH)?;
    Ok(guest)
}

/// A command that waits for its reply.
fn waiting(guest: &mut Guest) -> Result<Wanted, Unmet> {
    edu::start(&mut guest.client, Way::FromRam, PAGE, 0, 16)?;
    loop {
        let wanted = guest.wanted()?;
        if wanted.count > 0 {
            return Ok(wanted);
        }
        guest.serve(&wanted)?;
    }
}

fn works(guest: &mut Guest) -> Verdict {
    guest.put(PAGE, b"over the other one")?;
    guest.transfer(Way::FromRam, PAGE, 16)?;
    guest.transfer(Way::ToRam, 3 * PAGE, 16)?;
    let seen = guest.look(3 * PAGE, 16)?;
    ensure!(seen == b"over the other o", "{seen:x?} came");
    guest.client.is_in_step()
}

fn carries_commands(target: &Target) -> Verdict {
    let mut guest = guest(target)?;
    guest.put(PAGE, &[7; 16])?;
    for way in [Way::FromRam, Way::ToRam] {
        let served = guest.transfer(way, PAGE, 16)?;
        ensure!(!served.is_empty(), "no command came on the twin socket");
    }
    let connection = &mut guest.client.connection;
    ensure!(
        !connection.has_commands(),
        "a command came on the main socket"
    );
    connection.expect_silence(Duration::from_millis(20))
}

fn takes_replies(target: &Target) -> Verdict {
    let mut guest = guest(target)?;
    works(&mut guest)?;
    let wanted = waiting(&mut guest)?;
    guest.refuse(&wanted, 5)?;
    guest.serve_all()?;
    works(&mut guest).within("after an error")
}

fn alone_takes_replies(target: &Target) -> Verdict {
    let mut guest = guest(target)?;
    guest.put(PAGE, b"right right rig")?;
    let wanted = waiting(&mut guest)?;
    let mut reply = longs(&[wanted.iova, wanted.count]);
    reply.extend(b"wrong wrong wron");
    let message = payload::message(wanted.id, wanted.command, 1, &reply);
    guest.client.connection.send(&message, &[])?;
    guest.client.is_in_step()?;
    ensure!(
        edu::is_transferring(&mut guest.client)?,
        "a reply on the main socket was taken"
    );
    guest.serve(&wanted)?;
    guest.serve_all()?;
    guest.transfer(Way::ToRam, 3 * PAGE, 15)?;
    let seen = guest.look(3 * PAGE, 15)?;
    ensure!(seen == b"right right rig", "the device has got {seen:x?}");
    Ok(())
}

fn holds_up_nothing(target: &Target) -> Verdict {
    let mut guest = guest(target)?;
    let wanted = waiting(&mut guest)?;
    for value in 0..50 {
        edu::write(&mut guest.client, edu::LIVENESS, value)?;
        let seen = edu::read(&mut guest.client, edu::LIVENESS)?;
        ensure!(seen == !value, "{seen:#x} was read for {value:#x}");
    }
    guest.serve(&wanted)?;
    guest.serve_all()?;
    works(&mut guest)
}

fn closed(target: &Target) -> Verdict {
    for is_waiting in [false, true] {
        let mut client = guest(target)?;
        if is_waiting {
            waiting(&mut client)?;
        }
        client.twin = None;
        // Whatever becomes of it, nothing hangs.
        let is_served = client.client.device_info().is_ok();
        if is_served {
            client.client.read(crate::negotiated::CONFIG, 0, 64)?;
            client.unmap(0, 8).within("closed, and served still")?;
        }
        drop(client);
        works(&mut guest(target)?).within("the next client")?;
    }
    Ok(())
}

fn closed_ends_transfers(target: &Target) -> Verdict {
    for is_waiting in [true, false] {
        let mut guest = guest(target)?;
        if is_waiting {
            waiting(&mut guest)?;
        }
        guest.twin = None;
        let deadline = Instant::now() + 2 * guest.client.connection.patience();
        let is_over = |guest: &mut Guest| -> Result<bool, Unmet> {
            match edu::is_transferring(&mut guest.client) {
                Ok(is_transferring) => Ok(!is_transferring),
                // Its server may have ended the session.
                Err(_) => target.client().map(|_| true),
            }
        };
        if !is_waiting && edu::start(&mut guest.client, Way::ToRam, PAGE, 0, 16).is_err() {
            continue;
        }
        while !is_over(&mut guest)? {
            ensure!(Instant::now() < deadline, "the transfer does not end");
        }
    }
    Ok(())
}

fn unmap_and_reset(target: &Target) -> Verdict {
    let mut guest = guest(target)?;
    let wanted = waiting(&mut guest)?;
    guest.unmap(0, 8)?;
    // Late.
    guest.serve(&wanted)?;
    guest.map(0, 8, BOTH)?;
    works(&mut guest).within("after DMA_UNMAP")?;
    let wanted = waiting(&mut guest)?;
    guest.client.reset()?;
    guest.serve(&wanted)?;
    guest.master(true)?;
    works(&mut guest).within("after DEVICE_RESET")
}

fn closed_with_session(target: &Target) -> Verdict {
    for is_waiting in [false, true] {
        let mut guest = guest(target)?;
        if is_waiting {
            waiting(&mut guest)?;
        }
        let Guest { client, twin, .. } = guest;
        drop(client);
        if let Some(mut twin) = twin {
            twin.expect_closed().within("the twin socket")?;
        }
    }
    Ok(())
}

fn takes_no_commands(target: &Target) -> Verdict {
    let mut guest = guest(target)?;
    if let Some(twin) = &mut guest.twin {
        for command in [4, 13, 1, 999] {
            let message = payload::message(3, command, 0, &[0; 16]);
            // It may be closed at the first.
            twin.send_while_taken(&message, &[])?;
        }
    }
    let is_served = guest.client.device_info().is_ok();
    ensure!(
        is_served || target.client()?.is_in_step().is_ok(),
        "neither this client nor the next is served"
    );
    Ok(())
}
