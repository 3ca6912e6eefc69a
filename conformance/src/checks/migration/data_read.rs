//! MIG_DATA_READ: its form, and when it is due.

use vfu::wire::Command;

use crate::check::{Check, Unmet, Verdict, Within};
use crate::connection::Answer;
use crate::ensure;
use crate::feature::Feature;
use crate::migration::{
    PRE_COPY, STOP, STOP_COPY, chunk, go, name, read, read_all, read_payload, reset, states,
};
use crate::negotiated::Client;
use crate::target::Target;

const fn check(name: &'static str, rule: &'static str, run: fn(&Target) -> Verdict) -> Check {
    Check {
        name,
        section: "VFIO_USER_MIG_DATA_READ",
        rule,
        needs: &[Feature::Migration],
        run,
    }
}

pub(super) const CHECKS: &[Check] = &[
    check(
        "mig_data_read_needs_its_8_bytes",
        "A message that ends before argsz and size is refused.",
        read_needs_8_bytes,
    ),
    check(
        "mig_data_read_is_for_the_saving_states",
        "The stream is read in PRE_COPY and STOP_COPY, and refused elsewhere.",
        read_states,
    ),
    check(
        "mig_data_read_keeps_to_the_servers_size",
        "More than max_data_xfer_size at once is refused, or as much comes as fits.",
        read_size,
    ),
    check(
        "mig_data_read_reply_fits_argsz",
        "argsz that is less than size needs is refused, or keeps the reply to it.",
        read_argsz,
    ),
    check(
        "mig_data_read_of_no_bytes_takes_none",
        "Size 0 is refused, or brings nothing and leaves the stream where it is.",
        read_nothing,
    ),
    check(
        "mig_data_read_in_parts_is_the_same_stream",
        "The data are a stream: 1, 7 or 4096 bytes at a time come to what one read brings.",
        read_in_parts,
    ),
    check(
        "mig_data_read_past_the_end_stays_at_the_end",
        "Less than was asked for is the end, and after it comes nothing.",
        past_the_end,
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
