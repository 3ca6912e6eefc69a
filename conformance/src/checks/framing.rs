//! The header, and how messages lie in the stream.

use std::time::Duration;

use vfu::wire::Command;

use crate::check::{Unmet, Verdict, Within};
use crate::connection::{Answer, Received};
use crate::negotiated::CONFIG;
use crate::payload::{self, access, header, message, words};
use crate::target::Target;
use crate::{checks, ensure};

checks! {
    "Header" {
        a_size_less_than_the_header_is_refused:
            "A message is never shorter than its header; after one that says so no start is known.";
        a_size_that_no_message_has_is_refused:
            "A message longer than all that was agreed on is refused or ends the connection.";
        a_size_that_no_message_has_is_not_waited_for:
            "A server does not wait for, nor make room for, gigabytes that a header announces.";
        a_command_that_is_not_known_is_refused:
            "A command outside of the table is answered with an error.";
        a_command_that_is_not_known_is_skipped_whole:
            "The message size says where the next message begins, whatever the command.";
        a_command_of_the_server_is_refused:
            "DMA_READ and DMA_WRITE go from the server to the client only.";
        a_type_that_is_not_known_is_not_served:
            "The type of a message is command or reply; of another type nothing comes.";
        a_reply_to_nothing_is_not_served:
            "A reply acknowledges a command of the server; it does nothing else.";
        a_reserved_error_field_is_ignored:
            "The error field of a command is reserved, and says nothing.";
        the_message_id_is_echoed:
            "The reply has the message ID of the command, whichever that is.";
        the_message_id_is_echoed_by_errors:
            "An error reply has the message ID of the command as well.";
        the_command_is_echoed:
            "The reply has the command of the request, error or not.";
        message_ids_may_be_used_twice_at_once:
            "Message IDs belong to the sender: several commands may share one.";
        a_reply_is_of_type_reply:
            "A reply has the type of one, and no error bit if it is none.";
        a_reply_has_the_size_it_says:
            "The message size of a reply counts its header and all that follows.";
        an_error_reply_is_a_header_alone:
            "If an error occurs the reply has only its header.";
    }
}

/// The end or an error, and the next client is served.
fn is_refused(target: &Target, bytes: &[u8]) -> Verdict {
    let mut client = target.client()?;
    client.connection.send(bytes, &[])?;
    if let Received::Message(message) = client.connection.receive()? {
        let is_error = message.header.flags & payload::ERROR != 0;
        ensure!(is_error, "it was answered with success");
    }
    drop(client);
    let mut next = target.client().within("the next client")?;
    next.is_in_step().within("the next client")
}

fn a_size_less_than_the_header_is_refused(target: &Target) -> Verdict {
    for size in [0, 1, 15] {
        is_refused(target, &header(1, 4, size, 0)).within(&format!("size {size}"))?;
    }
    Ok(())
}

fn a_size_that_no_message_has_is_refused(target: &Target) -> Verdict {
    for size in [1 << 31, u32::MAX] {
        is_refused(target, &header(1, 10, size, 0)).within(&format!("size {size:#x}"))?;
    }
    Ok(())
}

fn a_size_that_no_message_has_is_not_waited_for(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let mut bytes = header(1, 10, u32::MAX, 0).to_vec();
    bytes.extend(vec![0; 1 << 16]);
    // It may close before it has read it all.
    client.connection.send_while_taken(&bytes, &[])?;
    match client.connection.receive()? {
        Received::Closed => Ok(()),
        Received::Message(message) => {
            let is_error = message.header.flags & payload::ERROR != 0;
            ensure!(is_error, "it was answered with success");
            Ok(())
        }
    }
}

fn a_command_that_is_not_known_is_refused(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for command in [0, 14, 0x100, 0x7fff, u16::MAX] {
        client.connection.refuses(command, &[], &[])?;
        client.is_in_step().within(&format!("command {command}"))?;
    }
    Ok(())
}

fn a_command_that_is_not_known_is_skipped_whole(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for len in [1, 8, 100, 5000] {
        client.connection.refuses(0x7fff, &vec![0xff; len], &[])?;
        client.is_in_step().within(&format!("{len} bytes"))?;
    }
    Ok(())
}

fn a_command_of_the_server_is_refused(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let payload = payload::longs(&[0x1000, 4, 0]);
    client.refuses(Command::DmaRead, &payload[..16])?;
    client.is_in_step()?;
    client.refuses(Command::DmaWrite, &payload[..20])?;
    client.is_in_step()
}

/// Sends something of which only an error, the end, or nothing may come.
fn brings_no_success(target: &Target, bytes: &[u8]) -> Verdict {
    let mut client = target.client()?;
    client.connection.send(bytes, &[])?;
    match client
        .connection
        .receive_within(Duration::from_millis(200))?
    {
        Some(Received::Closed) => return target.client().within("the next client").map(drop),
        Some(Received::Message(message)) => {
            let is_error = message.header.flags & payload::ERROR != 0;
            ensure!(is_error, "it was answered with success");
        }
        None => {}
    }
    client.is_in_step()
}

fn a_type_that_is_not_known_is_not_served(target: &Target) -> Verdict {
    for kind in [2, 7, 15] {
        let bytes = message(1, 4, kind, &words(&[16, 0, 0, 0]));
        brings_no_success(target, &bytes).within(&format!("type {kind}"))?;
    }
    Ok(())
}

fn a_reply_to_nothing_is_not_served(target: &Target) -> Verdict {
    let info = words(&[16, 0, 0, 0]);
    brings_no_success(target, &message(1, 4, 1, &info)).within("DEVICE_GET_INFO")?;
    brings_no_success(target, &message(1, 13, 1, &[])).within("DEVICE_RESET")?;
    let read = payload::longs(&[0, 4]);
    brings_no_success(target, &message(1, 11, 1, &read)).within("DMA_READ")
}

fn a_reserved_error_field_is_ignored(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let mut bytes = message(1, 4, 0, &words(&[16, 0, 0, 0]));
    bytes[12..16].copy_from_slice(&22_u32.to_ne_bytes());
    client.connection.send(&bytes, &[])?;
    client.connection.answer_to(1, 4)?.success()?;
    client.is_in_step()
}

fn the_message_id_is_echoed(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for id in [0, 1, 0x7fff, 0x8000, u16::MAX] {
        let bytes = message(id, 4, 0, &words(&[16, 0, 0, 0]));
        client.connection.send(&bytes, &[])?;
        client.connection.answer_to(id, 4)?.success()?;
    }
    Ok(())
}

fn the_message_id_is_echoed_by_errors(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for id in [0, 0x8000, u16::MAX] {
        client.connection.send(&message(id, 0x7fff, 0, &[]), &[])?;
        let answer = client.connection.answer_to(id, 0x7fff)?;
        ensure!(matches!(answer, Answer::Refused(_)), "it was not refused");
    }
    Ok(())
}

fn the_command_is_echoed(target: &Target) -> Verdict {
    let mut client = target.client()?;
    // `ask` fails where another command comes back.
    for (command, payload) in [
        (4, words(&[16, 0, 0, 0])),
        (5, payload::region_info(32, 0)),
        (7, words(&[16, 0, 0, 0])),
        (9, access(CONFIG, 0, 4, &[])),
        (9, access(u32::MAX, 0, 4, &[])),
        (0xfedc, vec![]),
    ] {
        let answer = client.connection.ask(command, &payload, &[])?;
        let is_closed = matches!(answer, Answer::Closed);
        ensure!(!is_closed, "command {command} closes the connection");
    }
    Ok(())
}

fn message_ids_may_be_used_twice_at_once(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let info = message(7, 4, 0, &words(&[16, 0, 0, 0]));
    let irq = message(7, 7, 0, &words(&[16, 0, 0, 0]));
    let bytes = [&info[..], &irq, &info, &info].concat();
    client.connection.send(&bytes, &[])?;
    for command in [4, 7, 4, 4] {
        client.connection.answer_to(7, command)?.success()?;
    }
    client.is_in_step()
}

fn a_reply_is_of_type_reply(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let good = client.accepts(Command::DeviceGetInfo, &words(&[16, 0, 0, 0]))?;
    let flags = good.header.flags;
    ensure!(flags & 0x2f == 1, "the flags of success are {flags:#x}");
    client.connection.send(&message(5, 0x7fff, 0, &[]), &[])?;
    match client.connection.receive()? {
        Received::Message(message) => {
            let flags = message.header.flags;
            ensure!(flags & 0x2f == 0x21, "the flags of an error are {flags:#x}");
            Ok(())
        }
        Received::Closed => Err(Unmet::fail("the connection was closed")),
    }
}

fn a_reply_has_the_size_it_says(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for (command, payload, expected) in [
        (4, words(&[16, 0, 0, 0]), 16),
        (5, payload::region_info(32, CONFIG), 32),
        (7, words(&[16, 0, 0, 0]), 16),
        (9, access(CONFIG, 0, 4, &[]), 20),
        (9, access(CONFIG, 0, 64, &[]), 80),
    ] {
        let reply = client.connection.accepts(command, &payload, &[])?;
        let len = reply.payload.len();
        ensure!(len == expected, "command {command} is answered with {len}");
        client.is_in_step().within(&format!("command {command}"))?;
    }
    Ok(())
}

fn an_error_reply_is_a_header_alone(target: &Target) -> Verdict {
    let mut client = target.client()?;
    // `refuses` fails where anything follows the header.
    client.refuses(Command::RegionRead, &access(u32::MAX, 0, 4, &[]))?;
    client.refuses(Command::RegionWrite, &access(u32::MAX, 0, 4, &[0; 4]))?;
    client.refuses(
        Command::DeviceGetRegionInfo,
        &payload::region_info(32, u32::MAX),
    )?;
    client.refuses(Command::DeviceGetIrqInfo, &words(&[16, 0, u32::MAX, 0]))?;
    client.connection.refuses(0x7fff, &[], &[])?;
    client.is_in_step()
}
