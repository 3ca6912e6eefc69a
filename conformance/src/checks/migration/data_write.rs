//! MIG_DATA_WRITE: its form, and when it is due.

use vfu::wire::Command;

use crate::check::{Check, Verdict, Within};
use crate::connection::Answer;
use crate::ensure;
use crate::feature::Feature;
use crate::migration::{
    RESUMING, RUNNING, chunk, go, name, read_payload, reset, save, states, tries_to_load,
    tries_to_write, tries_to_write_all, write_payload,
};
use crate::target::Target;

const fn check(name: &'static str, rule: &'static str, run: fn(&Target) -> Verdict) -> Check {
    Check {
        name,
        section: "VFIO_USER_MIG_DATA_WRITE",
        rule,
        needs: &[Feature::Migration],
        run,
    }
}

pub(super) const CHECKS: &[Check] = &[
    check(
        "mig_data_write_needs_its_8_bytes",
        "A message that ends before argsz and size is refused.",
        write_needs_8_bytes,
    ),
    check(
        "mig_data_write_is_for_resuming",
        "The stream is written in RESUMING, and refused elsewhere.",
        write_states,
    ),
    check(
        "mig_data_write_has_as_much_data_as_size_says",
        "Size is the size of the data: less and more are refused.",
        write_size,
    ),
    check(
        "mig_data_write_keeps_to_the_servers_size",
        "More than max_data_xfer_size at once is refused, taken or ends the session, and no more.",
        write_most,
    ),
    check(
        "mig_data_write_that_is_refused_writes_nothing",
        "After a malformed message the stream goes on where it was.",
        refused_writes_nothing,
    ),
    check(
        "mig_data_write_reply_has_no_payload",
        "The reply is a header alone.",
        write_reply,
    ),
];
fn write_needs_8_bytes(target: &Target) -> Verdict {
    let mut client = target.client()?;
    go(&mut client, RESUMING)?;
    for len in 0..8 {
        let payload = write_payload(8, 0, &[]);
        client
            .refuses(
                Command::MigDataWrite,
                payload.get(..len).unwrap_or_default(),
            )
            .within(&format!("{len} bytes"))?;
    }
    client.is_in_step()
}

fn write_states(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let stream = save(&mut client)?;
    let first = stream.get(..1).unwrap_or_default();
    for at in states(&mut client)? {
        reset(&mut client)?;
        go(&mut client, at)?;
        let is_done = tries_to_write(&mut client, first)?;
        ensure!(
            is_done == (at == RESUMING),
            "in {} it was {}",
            name(at),
            if is_done { "done" } else { "refused" }
        );
    }
    reset(&mut client)
}

fn write_size(target: &Target) -> Verdict {
    let mut client = target.client()?;
    go(&mut client, RESUMING)?;
    for (size, len) in [(1, 0), (0, 1), (8, 7), (8, 9), (1 << 20, 8), (u32::MAX, 8)] {
        let data = vec![0; len];
        let argsz = size.saturating_add(8);
        client
            .refuses(Command::MigDataWrite, &write_payload(argsz, size, &data))
            .within(&format!("{len} bytes for a size of {size}"))?;
    }
    client.is_in_step()
}

fn write_most(target: &Target) -> Verdict {
    for more in [0, 1, 4096, 1 << 20] {
        let mut client = target.client()?;
        go(&mut client, RESUMING)?;
        let len = client.max_data_xfer_size().saturating_add(more);
        if len > 64 << 20 {
            continue;
        }
        let data = vec![0x5a; usize::try_from(len).unwrap_or(0)];
        let size = u32::try_from(len).unwrap_or(u32::MAX);
        let payload = write_payload(size.saturating_add(8), size, &data);
        let place = format!("{len} bytes");
        let command = Command::MigDataWrite as u16;
        let answer = client.connection.ask(command, &payload, &[]);
        if !matches!(answer.within(&place)?, Answer::Closed) {
            client.is_in_step().within(&place)?;
        }
    }
    target.client()?.is_in_step()
}

fn refused_writes_nothing(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let stream = save(&mut client)?;
    go(&mut client, RESUMING)?;
    let (first, rest) = stream.split_at(stream.len() / 2);
    ensure!(
        tries_to_write(
            &mut client,
            first.get(..8.min(first.len())).unwrap_or_default()
        )?,
        "the beginning was refused"
    );
    client.refuses(Command::MigDataWrite, &write_payload(16, 9, &[0; 8]))?;
    client.refuses(Command::MigDataWrite, &[0; 3])?;
    client.refuses(Command::MigDataRead, &read_payload(16, 8))?;
    for part in [first.get(8.min(first.len())..).unwrap_or_default(), rest] {
        let size = usize::try_from(chunk(&client)).unwrap_or(1);
        ensure!(
            tries_to_write_all(&mut client, part, size)?,
            "the rest was refused"
        );
    }
    go(&mut client, RUNNING)
}

fn write_reply(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let stream = save(&mut client)?;
    go(&mut client, RESUMING)?;
    let first = stream.get(..1).unwrap_or_default();
    let reply = client.accepts(Command::MigDataWrite, &write_payload(9, 1, first))?;
    ensure!(
        reply.payload.is_empty() && reply.fds.is_empty(),
        "the reply has {} bytes",
        reply.payload.len()
    );
    reset(&mut client)?;
    ensure!(
        tries_to_load(&mut client, &stream)?,
        "the stream is refused"
    );
    go(&mut client, RUNNING)
}
