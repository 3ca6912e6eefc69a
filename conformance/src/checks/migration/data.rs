//! MIG_DATA_READ and MIG_DATA_WRITE: their form, and when they are due.

use vfu::wire::Command;

use crate::check::{Check, Unmet, Verdict, Within};
use crate::connection::Answer;
use crate::ensure;
use crate::feature::Feature;
use crate::migration::{
    PRE_COPY, RESUMING, RUNNING, STOP, STOP_COPY, chunk, go, name, read, read_all, read_payload,
    reset, save, states, tries_to_load, tries_to_write, write_payload,
};
use crate::negotiated::Client;
use crate::target::Target;

const fn check(
    name: &'static str,
    section: &'static str,
    rule: &'static str,
    run: fn(&Target) -> Verdict,
) -> Check {
    Check {
        name,
        section,
        rule,
        needs: &[Feature::Migration],
        run,
    }
}

const READ: &str = "VFIO_USER_MIG_DATA_READ";
const WRITE: &str = "VFIO_USER_MIG_DATA_WRITE";

pub(super) const CHECKS: &[Check] = &[
    check(
        "mig_data_read_needs_its_8_bytes",
        READ,
        "A message that ends before argsz and size is refused.",
        read_needs_8_bytes,
    ),
    check(
        "mig_data_read_is_for_the_saving_states",
        READ,
        "The stream is read in PRE_COPY and STOP_COPY, and refused elsewhere.",
        read_states,
    ),
    check(
        "mig_data_read_keeps_to_the_servers_size",
        READ,
        "More than max_data_xfer_size at once is refused, or as much comes as fits.",
        read_size,
    ),
    check(
        "mig_data_read_reply_fits_argsz",
        READ,
        "argsz that is less than size needs is refused, or keeps the reply to it.",
        read_argsz,
    ),
    check(
        "mig_data_read_of_no_bytes_takes_none",
        READ,
        "Size 0 is refused, or brings nothing and leaves the stream where it is.",
        read_nothing,
    ),
    check(
        "mig_data_read_in_parts_is_the_same_stream",
        READ,
        "The data are a stream: 1, 7 or 4096 bytes at a time come to what one read brings.",
        read_in_parts,
    ),
    check(
        "mig_data_read_past_the_end_stays_at_the_end",
        READ,
        "Less than was asked for is the end, and after it comes nothing.",
        past_the_end,
    ),
    check(
        "mig_data_write_needs_its_8_bytes",
        WRITE,
        "A message that ends before argsz and size is refused.",
        write_needs_8_bytes,
    ),
    check(
        "mig_data_write_is_for_resuming",
        WRITE,
        "The stream is written in RESUMING, and refused elsewhere.",
        write_states,
    ),
    check(
        "mig_data_write_has_as_much_data_as_size_says",
        WRITE,
        "Size is the size of the data: less and more are refused.",
        write_size,
    ),
    check(
        "mig_data_write_keeps_to_the_servers_size",
        WRITE,
        "More than max_data_xfer_size at once is refused, taken or ends the session, and no more.",
        write_most,
    ),
    check(
        "mig_data_write_that_is_refused_writes_nothing",
        WRITE,
        "After a malformed message the stream goes on where it was.",
        refused_writes_nothing,
    ),
    check(
        "mig_data_write_reply_has_no_payload",
        WRITE,
        "The reply is a header alone.",
        write_reply,
    ),
];

/// A client whose device is being saved.
fn saving(target: &Target) -> Result<Client, Unmet> {
    let mut client = target.client()?;
    go(&mut client, STOP_COPY)?;
    Ok(client)
}

fn read_needs_8_bytes(target: &Target) -> Verdict {
    let mut client = saving(target)?;
    for len in 0..8 {
        let payload = read_payload(16, 8);
        client
            .refuses(Command::MigDataRead, payload.get(..len).unwrap_or_default())
            .within(&format!("{len} bytes"))?;
    }
    client.is_in_step()
}

fn read_states(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for at in states(&mut client)? {
        reset(&mut client)?;
        go(&mut client, at)?;
        let request = read_payload(24, 16);
        let answer = client
            .connection
            .ask(Command::MigDataRead as u16, &request, &[])?;
        let is_due = at == STOP_COPY || at == PRE_COPY;
        let is_done = matches!(answer, Answer::Success(_));
        ensure!(
            is_done == is_due,
            "in {} it was {}",
            name(at),
            if is_done { "done" } else { "refused" }
        );
    }
    reset(&mut client)
}

fn read_size(target: &Target) -> Verdict {
    let mut client = saving(target)?;
    let most = client.max_data_xfer_size();
    for size in [most + 1, most + 4096, 1 << 31, (1 << 32) - 9, (1 << 32) - 1] {
        let Ok(size) = u32::try_from(size) else {
            continue;
        };
        let request = read_payload(size.saturating_add(8), size);
        let command = Command::MigDataRead as u16;
        let place = format!("{size:#x} bytes");
        if let Answer::Success(reply) = client
            .connection
            .ask(command, &request, &[])
            .within(&place)?
        {
            let len = reply.payload.len() as u64;
            ensure!(len <= most + 8, "{place}: {len} came, of {most} at most");
        }
    }
    client.is_in_step()
}

fn read_argsz(target: &Target) -> Verdict {
    let mut client = saving(target)?;
    for (argsz, size) in [(0, 1), (7, 1), (8, 1), (8, 64), (71, 64), (16, 4096)] {
        let request = read_payload(argsz, size);
        let command = Command::MigDataRead as u16;
        let place = format!("argsz {argsz} for {size} bytes");
        if let Answer::Success(reply) = client
            .connection
            .ask(command, &request, &[])
            .within(&place)?
        {
            let len = reply.payload.len() as u64;
            ensure!(len <= u64::from(argsz), "{place}: {len} came");
        }
    }
    client.is_in_step()
}

fn read_nothing(target: &Target) -> Verdict {
    let mut client = saving(target)?;
    let whole = read_all(&mut client, 4096)?;
    go(&mut client, STOP)?;
    go(&mut client, STOP_COPY)?;
    let mut seen = read(&mut client, 1)?;
    let command = Command::MigDataRead as u16;
    let answer = client.connection.ask(command, &read_payload(8, 0), &[])?;
    if let Answer::Success(reply) = answer {
        ensure!(
            reply.payload.len() == 8,
            "{} bytes came",
            reply.payload.len()
        );
    }
    seen.extend(read_all(&mut client, 4096)?);
    ensure!(seen == whole, "the stream is another one then");
    Ok(())
}

/// Long streams take too long byte by byte, so only their beginning is read so.
const BYTEWISE: usize = 3000;

fn read_in_parts(target: &Target) -> Verdict {
    let mut client = saving(target)?;
    let large = chunk(&client);
    let whole = read_all(&mut client, large)?;
    for size in [1, 7, 4096] {
        go(&mut client, STOP)?;
        go(&mut client, STOP_COPY)?;
        let mut seen = Vec::new();
        while seen.len() < whole.len().min(BYTEWISE) {
            let part = read(&mut client, size)?;
            ensure!(
                !part.is_empty(),
                "{size} at a time: the stream ends after {} bytes of {}",
                seen.len(),
                whole.len()
            );
            seen.extend(part);
        }
        let rest = read_all(&mut client, large)?;
        seen.extend(rest);
        ensure!(
            seen == whole,
            "{size} bytes at a time, {} come instead of {}, or others",
            seen.len(),
            whole.len()
        );
    }
    Ok(())
}

fn past_the_end(target: &Target) -> Verdict {
    let mut client = saving(target)?;
    let stream = read_all(&mut client, 4096)?;
    ensure!(!stream.is_empty(), "the stream has no bytes");
    for size in [1, 4096, 1] {
        let more = read(&mut client, size)?;
        ensure!(more.is_empty(), "{} bytes came after the end", more.len());
    }
    Ok(())
}

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
            crate::migration::tries_to_write_all(&mut client, part, size)?,
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
