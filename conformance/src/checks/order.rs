//! The order of commands, and those that want no reply.

use std::time::Duration;

use vfu::wire::Command;

use crate::check::{Unmet, Verdict, Within};
use crate::connection::Answer;
use crate::negotiated::{CONFIG, Client, SCRATCH};
use crate::payload::{self, NO_REPLY, access, message, words};
use crate::target::Target;
use crate::{checks, ensure};

checks! {
    "Command Concurrency" {
        five_hundred_commands_are_answered_in_order:
            "A client may send many commands before it reads a reply; they are served in order.";
        reads_and_writes_are_done_in_order, needs Pci:
            "A read sees the writes that were sent before it, and none that were sent after.";
        what_wants_no_reply_is_done_before_a_later_reply, needs Pci:
            "When a reply comes, all that was sent before without wanting one has been done.";
        many_that_want_no_reply_are_done_in_order, needs Pci:
            "Commands that want no reply are done in the order they were sent in.";
        replies_skip_what_wants_none:
            "Between commands that want no reply, those that want one get theirs, in order.";
    }
    "Header" {
        what_wants_no_reply_gets_none, needs Pci:
            "A command with No_reply set is not answered.";
        what_wants_no_reply_gets_no_error:
            "A command with No_reply set is not answered when it fails, either.";
        an_unknown_command_that_wants_no_reply_gets_none:
            "No_reply holds for commands that the server does not know.";
        a_short_command_that_wants_no_reply_gets_none:
            "No_reply holds for a message that is too short for its command.";
    }
}

fn five_hundred_commands_are_answered_in_order(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let bytes: Vec<u8> = (0..500)
        .flat_map(|id| message(id, 4, 0, &words(&[16, 0, 0, 0])))
        .collect();
    client.connection.send(&bytes, &[])?;
    for id in 0..500 {
        client.connection.answer_to(id, 4)?.success()?;
    }
    client.is_in_step()
}

/// A write of a byte that stays.
fn write(id: u16, flags: u32, value: u8) -> Vec<u8> {
    message(id, 10, flags, &access(CONFIG, SCRATCH, 1, &[value]))
}

/// Waits for the reply to a read of that byte.
fn value_of(client: &mut Client, id: u16) -> Result<Option<u8>, Unmet> {
    let reply = client.connection.answer_to(id, 9)?.success();
    Ok(reply.within("the read")?.payload.get(16).copied())
}

fn reads_and_writes_are_done_in_order(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let read = access(CONFIG, SCRATCH, 1, &[]);
    let mut bytes = Vec::new();
    for value in 1..=20_u8 {
        bytes.extend(write(u16::from(value), 0, value));
        bytes.extend(message(u16::from(value), 9, 0, &read));
    }
    client.connection.send(&bytes, &[])?;
    for value in 1..=20_u8 {
        let id = u16::from(value);
        if let Answer::Refused(_) | Answer::Closed = client.connection.answer_to(id, 10)? {
            return Err(Unmet::fail("the write did not succeed"));
        }
        let read = value_of(&mut client, id)?;
        ensure!(read == Some(value), "{value} was written, {read:?} read");
    }
    Ok(())
}

fn what_wants_no_reply_is_done_before_a_later_reply(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for value in [0x5a, 0xa5, 0] {
        client.post(Command::RegionWrite, &access(CONFIG, SCRATCH, 1, &[value]))?;
        let read = client.scratch()?;
        ensure!(
            read == value,
            "{value:#x} was written, {read:#x} is read after it"
        );
    }
    Ok(())
}

fn many_that_want_no_reply_are_done_in_order(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let mut bytes: Vec<u8> = (0..=250)
        .flat_map(|value| write(1, NO_REPLY, value))
        .collect();
    bytes.extend(message(2, 9, 0, &access(CONFIG, SCRATCH, 1, &[])));
    client.connection.send(&bytes, &[])?;
    let read = value_of(&mut client, 2)?;
    ensure!(read == Some(250), "250 was written last, {read:?} is read");
    Ok(())
}

fn replies_skip_what_wants_none(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let info = words(&[16, 0, 0, 0]);
    let silent = access(u32::MAX, 0, 1, &[0]);
    let mut bytes = Vec::new();
    for id in 0..50 {
        bytes.extend(message(id, 10, NO_REPLY, &silent));
        bytes.extend(message(id, 4, 0, &info));
    }
    client.connection.send(&bytes, &[])?;
    for id in 0..50 {
        let answer = client.connection.answer_to(id, 4)?;
        ensure!(matches!(answer, Answer::Success(_)), "{id}: {answer:?}");
    }
    client.is_in_step()
}

/// Posts a command; the reply that comes next must be that to another one.
fn is_silent(target: &Target, command: u16, payload: &[u8]) -> Verdict {
    let mut client = target.client()?;
    let bytes = message(1, command, NO_REPLY, payload);
    client.connection.send(&bytes, &[])?;
    client
        .connection
        .expect_silence(Duration::from_millis(50))?;
    client.is_in_step()
}

fn what_wants_no_reply_gets_none(target: &Target) -> Verdict {
    is_silent(target, 10, &access(CONFIG, SCRATCH, 1, &[1])).within("REGION_WRITE")?;
    let map = payload::dma(32, 3, &[0, 0x10_0000, 0x1000]);
    is_silent(target, 2, &map).within("DMA_MAP")
}

fn what_wants_no_reply_gets_no_error(target: &Target) -> Verdict {
    is_silent(target, 10, &access(u32::MAX, 0, 1, &[1])).within("REGION_WRITE")?;
    let unmap = payload::dma(24, 0, &[0x5000, 0x1000]);
    is_silent(target, 3, &unmap).within("DMA_UNMAP")
}

fn an_unknown_command_that_wants_no_reply_gets_none(target: &Target) -> Verdict {
    is_silent(target, 0x7fff, &[]).within("no payload")?;
    is_silent(target, 0x7fff, &[0xff; 48]).within("48 bytes")
}

fn a_short_command_that_wants_no_reply_gets_none(target: &Target) -> Verdict {
    is_silent(target, 10, &[0; 7]).within("REGION_WRITE")?;
    is_silent(target, 2, &[0; 31]).within("DMA_MAP")
}
