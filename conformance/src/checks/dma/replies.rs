//! Replies to DMA_READ and DMA_WRITE that no client should give.

use std::os::fd::AsFd;
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use vfu::wire::Command;

use super::PAGE;
use super::messages::asked;
use crate::check::{Check, Verdict, Within};
use crate::connection;
use crate::devices::edu::{self, Way};
use crate::ensure;
use crate::feature::Feature;
use crate::guest::{Guest, Wanted};
use crate::payload::{self, longs};
use crate::target::Target;

const fn check(name: &'static str, rule: &'static str, run: fn(&Target) -> Verdict) -> Check {
    Check {
        name,
        section: "Security Considerations",
        rule,
        needs: &[Feature::Edu],
        run,
    }
}

pub(super) const CHECKS: &[Check] = &[
    check(
        "dma_error_reply_ends_the_transfer_and_no_more",
        "A client may refuse DMA, with or without an errno; the session goes on.",
        error_reply,
    ),
    check(
        "dma_reply_with_a_wrong_count_ends_the_transfer_and_no_more",
        "A count that is not what was asked for is an error of the client.",
        wrong_count,
    ),
    check(
        "dma_reply_without_its_fields_ends_the_transfer_and_no_more",
        "A reply that ends before its data is an error of the client.",
        without_fields,
    ),
    check(
        "dma_reply_with_too_much_data_ends_the_transfer_and_no_more",
        "A reply longer than what was asked for is an error of the client.",
        too_much_data,
    ),
    check(
        "dma_reply_to_another_command_harms_nothing",
        "A reply whose command is not that of its message ID is an error of the client.",
        another_command,
    ),
    check(
        "dma_reply_to_nothing_is_ignored",
        "A reply that nobody waits for, of any command and ID, changes nothing.",
        reply_to_nothing,
    ),
    check(
        "dma_reply_that_comes_twice_is_taken_once",
        "The second reply to a command is one to nothing.",
        twice,
    ),
    check(
        "dma_reply_with_descriptors_keeps_none",
        "Descriptors that belong to no reply are closed.",
        with_descriptors,
    ),
];

/// A transfer that is right from end to end.
fn works_again(guest: &mut Guest) -> Verdict {
    let works = |guest: &mut Guest| {
        let data = [0x5a, 0xa5, 1, 2, 3, 4, 5, 6];
        guest.put(PAGE, &data)?;
        guest.transfer(Way::FromRam, PAGE, 8)?;
        guest.transfer(Way::ToRam, 2 * PAGE, 8)?;
        let seen = guest.look(2 * PAGE, 8)?;
        ensure!(seen == data, "the next transfer brought {seen:x?}");
        guest.client.is_in_step()
    };
    works(guest).within("afterwards")
}

/// Starts a transfer, and gives the command that it takes.
fn begin(guest: &mut Guest, way: Way) -> Result<Wanted, crate::check::Unmet> {
    edu::start(&mut guest.client, way, 3 * PAGE, 0, 8)?;
    loop {
        let wanted = guest.wanted()?;
        if wanted.count > 0 {
            return Ok(wanted);
        }
        guest.serve(&wanted)?;
    }
}

/// Answers reads and writes by `answer`, and sees whether all goes on.
fn answered(target: &Target, answer: impl Fn(&mut Guest, &Wanted) -> Verdict) -> Verdict {
    let mut guest = asked(target)?;
    for way in [Way::FromRam, Way::ToRam] {
        let wanted = begin(&mut guest, way)?;
        answer(&mut guest, &wanted).within(&format!("{way:?}"))?;
        guest.serve_all().within(&format!("{way:?}"))?;
        works_again(&mut guest).within(&format!("{way:?}"))?;
    }
    Ok(())
}

fn error_reply(target: &Target) -> Verdict {
    for errno in [14, 0, u32::MAX] {
        answered(target, |guest, wanted| guest.refuse(wanted, errno))
            .within(&format!("errno {errno}"))?;
    }
    Ok(())
}

fn wrong_count(target: &Target) -> Verdict {
    for count in [0, 7, 9, 1 << 40, u64::MAX] {
        answered(target, |guest, wanted| {
            let mut reply = longs(&[wanted.iova, count]);
            if !wanted.is_write() {
                reply.extend([0; 8]);
            }
            guest.reply(wanted, 1, 0, &reply)
        })
        .within(&format!("count {count:#x}"))?;
    }
    Ok(())
}

fn without_fields(target: &Target) -> Verdict {
    for len in [0, 1, 8, 15] {
        answered(target, |guest, wanted| {
            let whole = longs(&[wanted.iova, wanted.count]);
            guest.reply(wanted, 1, 0, whole.get(..len).unwrap_or_default())
        })
        .within(&format!("{len} bytes"))?;
    }
    answered(target, |guest, wanted| {
        let mut reply = longs(&[wanted.iova, wanted.count]);
        if !wanted.is_write() {
            reply.extend([0; 7]);
        }
        guest.reply(wanted, 1, 0, &reply)
    })
    .within("a byte less")
}

fn too_much_data(target: &Target) -> Verdict {
    for more in [1, 8, 4096] {
        answered(target, |guest, wanted| {
            let mut reply = longs(&[wanted.iova, wanted.count]);
            reply.extend(vec![0x77; 8 + more]);
            guest.reply(wanted, 1, 0, &reply)
        })
        .within(&format!("{more} bytes more"))?;
    }
    Ok(())
}

fn another_command(target: &Target) -> Verdict {
    for command in [Command::Version as u16, Command::RegionRead as u16, 999] {
        let mut guest = asked(target)?;
        let wanted = begin(&mut guest, Way::FromRam)?;
        let wrong = Wanted {
            command,
            ..wanted.clone()
        };
        guest.reply(&wrong, 1, 0, &longs(&[wanted.iova, wanted.count, 0]))?;
        guest.client.is_in_step()?;
        // A server may have taken that for an error, or wait for the right one still.
        guest.serve(&wanted)?;
        guest.serve_all()?;
        works_again(&mut guest).within(&format!("command {command}"))?;
    }
    Ok(())
}

fn reply_to_nothing(target: &Target) -> Verdict {
    let mut guest = asked(target)?;
    for command in [11, 12, 9, 1, 0, 999] {
        for id in [0, 1, 2, 0x8000, u16::MAX] {
            for (flags, len) in [(1, 0), (1, 24), (1 | payload::ERROR, 0)] {
                let reply = payload::message(id, command, flags, &vec![0xab; len]);
                guest.client.connection.send(&reply, &[])?;
            }
        }
    }
    works_again(&mut guest)
}

fn twice(target: &Target) -> Verdict {
    let mut guest = asked(target)?;
    for way in [Way::FromRam, Way::ToRam] {
        let wanted = begin(&mut guest, way)?;
        guest.serve(&wanted)?;
        guest.serve(&wanted)?;
        guest.refuse(&wanted, 5)?;
        guest.serve_all()?;
        works_again(&mut guest).within(&format!("{way:?}"))?;
    }
    Ok(())
}

fn with_descriptors(target: &Target) -> Verdict {
    let mut guest = asked(target)?;
    let wanted = begin(&mut guest, Way::FromRam)?;
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut reply = longs(&[wanted.iova, wanted.count]);
    reply.extend([0; 8]);
    let message = payload::message(wanted.id, wanted.command, 1, &reply);
    let connection = &mut guest.client.connection;
    connection.send(&message, &[writer.as_fd()])?;
    drop(writer);
    let deadline = Instant::now() + connection.patience();
    let is_closed = connection::wait(reader.as_fd(), PollFlags::IN, deadline)?;
    ensure!(is_closed, "the server keeps the descriptor");
    // Whether the reply was taken is the server's choice.
    guest.serve(&wanted)?;
    guest.serve_all()?;
    works_again(&mut guest)
}
