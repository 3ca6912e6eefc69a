//! How messages lie in the stream: in pieces, or together.

use std::thread::sleep;
use std::time::Duration;

use crate::check::{Verdict, Within};
use crate::checks;
use crate::connection::Connection;
use crate::negotiated::{CONFIG, Client, OFFER};
use crate::payload::{self, NO_REPLY, access, message, version, words};
use crate::target::Target;

/// Between two pieces of a message: enough that the server reads them apart, mostly.
const PAUSE: Duration = Duration::from_micros(300);

checks! {
    "Message sizes" {
        a_message_may_come_byte_by_byte:
            "A stream has no message boundaries: a message may come in pieces of one byte.";
        a_version_may_come_byte_by_byte:
            "The first message may come in pieces of one byte, like all others.";
        a_header_may_come_in_two_pieces:
            "A header may come in two pieces, wherever it is cut.";
        a_payload_may_come_late:
            "What follows the header may come after it.";
        messages_may_come_together:
            "Several messages may come in one piece.";
        messages_may_come_cut_anywhere:
            "A piece may end in the middle of one message and begin in the middle of another.";
    }
}

/// Sends in pieces of these lengths, over and over, with pauses.
fn send_in_pieces(connection: &mut Connection, bytes: &[u8], lens: &[usize]) -> Verdict {
    let mut rest = bytes;
    for len in lens.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*len).min(rest.len()));
        connection.send(piece, &[])?;
        sleep(PAUSE);
        rest = after;
    }
    Ok(())
}

fn a_message_may_come_byte_by_byte(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for (id, command, payload) in [
        (1, 4, words(&[16, 0, 0, 0])),
        (2, 9, access(CONFIG, 0, 4, &[])),
        (3, 5, payload::region_info(32, CONFIG)),
    ] {
        let bytes = message(id, command, 0, &payload);
        send_in_pieces(&mut client.connection, &bytes, &[1])?;
        client.connection.answer_to(id, command)?.success()?;
    }
    client.is_in_step()
}

fn a_version_may_come_byte_by_byte(target: &Target) -> Verdict {
    let mut connection = target.connect()?;
    let text = [OFFER.as_bytes(), b"\0"].concat();
    let bytes = message(1, 1, 0, &version(0, 0, &text));
    send_in_pieces(&mut connection, &bytes, &[1])?;
    let reply = connection.answer_to(1, 1)?.success()?;
    Client::agreed(connection, reply)?.is_in_step()
}

fn a_header_may_come_in_two_pieces(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for cut in [1, 2, 4, 8, 12, 15] {
        let bytes = message(1, 4, 0, &words(&[16, 0, 0, 0]));
        let (front, back) = bytes.split_at(cut);
        client.connection.send(front, &[])?;
        sleep(10 * PAUSE);
        client.connection.send(back, &[])?;
        client
            .connection
            .answer_to(1, 4)?
            .success()
            .within(&format!("cut at {cut}"))?;
    }
    Ok(())
}

fn a_payload_may_come_late(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for cut in [16, 17, 24, 31] {
        let bytes = message(1, 4, 0, &words(&[16, 0, 0, 0]));
        let (front, back) = bytes.split_at(cut);
        client.connection.send(front, &[])?;
        sleep(Duration::from_millis(100));
        client.connection.send(back, &[])?;
        client
            .connection
            .answer_to(1, 4)?
            .success()
            .within(&format!("cut at {cut}"))?;
    }
    Ok(())
}

/// Ten commands of several lengths, and their IDs and commands.
fn a_mix() -> (Vec<u8>, Vec<(u16, u16)>) {
    let mut bytes = Vec::new();
    let mut expected = Vec::new();
    for id in (0..12).step_by(4) {
        for (id, command, payload) in [
            (id, 4, words(&[16, 0, 0, 0])),
            (id + 1, 9, access(CONFIG, 0, 4, &[])),
            (id + 2, 5, payload::region_info(32, CONFIG)),
        ] {
            bytes.extend(message(id, command, 0, &payload));
            expected.push((id, command));
        }
        // One without a reply in between.
        bytes.extend(message(id + 3, 9, NO_REPLY, &access(u32::MAX, 0, 4, &[])));
    }
    (bytes, expected)
}

fn messages_may_come_together(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let (bytes, expected) = a_mix();
    client.connection.send(&bytes, &[])?;
    for (id, command) in expected {
        client.connection.answer_to(id, command)?.success()?;
    }
    client.is_in_step()
}

fn messages_may_come_cut_anywhere(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for lens in [&[7_usize, 30, 3, 41][..], &[47], &[17]] {
        let (bytes, expected) = a_mix();
        send_in_pieces(&mut client.connection, &bytes, lens)?;
        for (id, command) in expected {
            client.connection.answer_to(id, command)?.success()?;
        }
    }
    client.is_in_step()
}
