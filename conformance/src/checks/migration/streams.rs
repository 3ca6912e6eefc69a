//! The stream of a saved device, put into a device: what was saved is there again.

use super::look::marked;
use crate::check::{Check, Unmet, Verdict, Within};
use crate::devices::edu;
use crate::ensure;
use crate::feature::Feature;
use crate::migration::{
    PRE_COPY, RESUMING, RUNNING, STOP, STOP_COPY, chunk, go, load, read, read_all, reset, save,
    tries_to_write_all,
};
use crate::negotiated::{CONFIG, Client, SCRATCH};
use crate::target::Target;

const fn check(
    name: &'static str,
    rule: &'static str,
    needs: &'static [Feature],
    run: fn(&Target) -> Verdict,
) -> Check {
    Check {
        name,
        section: "Direct State Transitions",
        rule,
        needs,
        run,
    }
}

const MIGRATION: &[Feature] = &[Feature::Migration];
const PCI: &[Feature] = &[Feature::Migration, Feature::Pci];
const EDU: &[Feature] = &[Feature::Migration, Feature::Edu];

pub(super) const CHECKS: &[Check] = &[
    check(
        "mig_stream_brings_config_space_and_regions_back",
        "A device that was saved, reset and loaded reads as it did: config space and all BARs.",
        PCI,
        brings_back,
    ),
    check(
        "mig_stream_brings_the_registers_of_edu_back",
        "Liveness, factorial, status, DMA registers and pending causes are part of the state.",
        EDU,
        brings_edu_back,
    ),
    check(
        "mig_stream_outlives_its_session",
        "A stream that one client has read can be written by another.",
        PCI,
        outlives_session,
    ),
    check(
        "mig_stream_of_a_loaded_device_is_the_same",
        "A device that was loaded, and did nothing since, gives the stream that it was loaded with.",
        MIGRATION,
        same_again,
    ),
    check(
        "mig_stream_may_be_written_in_small_parts",
        "The data are a stream: where its parts begin and end means nothing.",
        MIGRATION,
        small_parts,
    ),
    check(
        "mig_stream_of_pre_copy_goes_on_in_stop_copy",
        "What PRE_COPY and then STOP_COPY bring is one stream, and loads.",
        &[Feature::PreCopy, Feature::Pci],
        pre_copy_goes_on,
    ),
    check(
        "mig_stream_has_what_was_written_after_pre_copy",
        "What changes while the device is saved in PRE_COPY is in the rest of the stream.",
        &[Feature::PreCopy, Feature::Edu],
        written_after_pre_copy,
    ),
    check(
        "mig_stream_that_is_given_up_is_read_from_its_beginning",
        "To leave a saving state ends the session of data transfer; the next begins anew.",
        MIGRATION,
        given_up,
    ),
];

fn brings_back(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let before = marked(&mut client)?;
    let stream = save(&mut client)?;
    reset(&mut client)?;
    ensure!(client.scratch()? != 0x5a, "the reset left a mark");
    load(&mut client, &stream)?;
    // What a device that is stopped reads as is the server's choice.
    go(&mut client, RUNNING)?;
    before.is_still(&mut client)?;
    reset(&mut client)
}

fn brings_edu_back(target: &Target) -> Verdict {
    let mut client = target.client()?;
    edu::write(&mut client, edu::LIVENESS, 0x1234_5678)?;
    edu::write(&mut client, edu::STATUS, 0x80)?;
    edu::write(&mut client, edu::FACTORIAL, 10)?;
    let deadline = std::time::Instant::now() + client.connection.patience();
    while edu::read(&mut client, edu::STATUS)? & 1 != 0 {
        ensure!(
            std::time::Instant::now() < deadline,
            "the factorial takes too long"
        );
    }
    edu::write(&mut client, edu::INTERRUPT_RAISE, 0x40)?;
    for (register, value) in [
        (edu::DMA_SOURCE, 0x1111_2222_3333),
        (edu::DMA_DESTINATION, edu::BUFFER),
        (edu::DMA_COUNT, 77),
    ] {
        edu::write_wide(&mut client, register, value)?;
    }
    let registers = |client: &mut Client| -> Result<[u64; 7], Unmet> {
        Ok([
            edu::read(client, edu::LIVENESS)?.into(),
            edu::read(client, edu::FACTORIAL)?.into(),
            edu::read(client, edu::STATUS)?.into(),
            edu::read(client, edu::INTERRUPT_STATUS)?.into(),
            edu::read_wide(client, edu::DMA_SOURCE)?,
            edu::read_wide(client, edu::DMA_DESTINATION)?,
            edu::read_wide(client, edu::DMA_COUNT)?,
        ])
    };
    let before = registers(&mut client)?;
    let stream = save(&mut client)?;
    reset(&mut client)?;
    ensure!(registers(&mut client)? != before, "the reset left them all");
    load(&mut client, &stream)?;
    go(&mut client, RUNNING)?;
    let after = registers(&mut client)?;
    ensure!(after == before, "{before:x?} became {after:x?}");
    reset(&mut client)
}

fn outlives_session(target: &Target) -> Verdict {
    let mut first = target.client()?;
    let before = marked(&mut first)?;
    let stream = save(&mut first)?;
    drop(first);
    let mut second = target.client()?;
    reset(&mut second)?;
    load(&mut second, &stream)?;
    go(&mut second, RUNNING)?;
    before.is_still(&mut second)?;
    reset(&mut second)
}

fn same_again(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let stream = save(&mut client)?;
    for round in 0..2 {
        reset(&mut client)?;
        load(&mut client, &stream)?;
        let again = save(&mut client)?;
        ensure!(
            again == stream,
            "round {round}: {} bytes came of {}, or others",
            again.len(),
            stream.len()
        );
    }
    Ok(())
}

/// Long streams take too long byte by byte, so only their beginning and end are written so.
const BYTEWISE: usize = 1500;

fn small_parts(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let stream = save(&mut client)?;
    let large = usize::try_from(chunk(&client)).unwrap_or(1);
    let (first, rest) = stream.split_at(stream.len().min(BYTEWISE));
    let (middle, last) = rest.split_at(rest.len().saturating_sub(BYTEWISE));
    for size in [1, 13] {
        reset(&mut client)?;
        go(&mut client, RESUMING)?;
        for (part, size) in [(first, size), (middle, large), (last, size)] {
            ensure!(
                tries_to_write_all(&mut client, part, size)?,
                "{size} bytes at a time: a part was refused"
            );
        }
        go(&mut client, STOP).within(&format!("{size} bytes at a time"))?;
        ensure!(
            save(&mut client)? == stream,
            "{size} bytes at a time: it became another"
        );
    }
    Ok(())
}

fn pre_copy_goes_on(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let before = marked(&mut client)?;
    let chunk = chunk(&client);
    // Without a look at PRE_COPY, in the middle of it, and at its end.
    for parts in [0, 1, 1 << 20] {
        let place = format!("{parts} reads in PRE_COPY");
        go(&mut client, PRE_COPY)?;
        let mut stream = Vec::new();
        for _ in 0..parts {
            let part = read(&mut client, 5000).within(&place)?;
            let is_short = part.len() < 5000;
            stream.extend(part);
            if is_short {
                break;
            }
        }
        go(&mut client, STOP_COPY)?;
        stream.extend(read_all(&mut client, chunk).within(&place)?);
        reset(&mut client)?;
        load(&mut client, &stream).within(&place)?;
        go(&mut client, RUNNING)?;
        before.is_still(&mut client).within(&place)?;
    }
    reset(&mut client)
}

fn written_after_pre_copy(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let chunk = chunk(&client);
    edu::write(&mut client, edu::LIVENESS, 1)?;
    go(&mut client, PRE_COPY)?;
    let mut stream = read_all(&mut client, chunk)?;
    edu::write(&mut client, edu::LIVENESS, 2)?;
    client.write(CONFIG, SCRATCH, &[0xa5])?;
    ensure!(
        edu::read(&mut client, edu::LIVENESS)? == !2,
        "in PRE_COPY the device does not take a write"
    );
    go(&mut client, STOP_COPY)?;
    stream.extend(read_all(&mut client, chunk)?);
    reset(&mut client)?;
    load(&mut client, &stream)?;
    go(&mut client, RUNNING)?;
    let seen = (edu::read(&mut client, edu::LIVENESS)?, client.scratch()?);
    ensure!(
        seen == (!2, 0xa5),
        "liveness and Interrupt Line are {seen:x?}"
    );
    reset(&mut client)
}

fn given_up(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let whole = save(&mut client)?;
    for _ in 0..3 {
        go(&mut client, RUNNING)?;
        go(&mut client, STOP_COPY)?;
        read(&mut client, 11)?;
    }
    go(&mut client, STOP)?;
    let again = save(&mut client)?;
    ensure!(
        again == whole,
        "{} bytes came of {}, or others",
        again.len(),
        whole.len()
    );
    Ok(())
}
