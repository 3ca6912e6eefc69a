//! Streams that are no state of this device: refused when RESUMING ends, and nothing worse.

use crate::check::{Check, Unmet, Verdict, Within};
use crate::ensure;
use crate::feature::Feature;
use crate::migration::{
    ERROR, RESUMING, RUNNING, STATES, STOP, chunk, go, load, name, reset, save, state, states,
    tries, tries_to_write_all,
};
use crate::negotiated::Client;
use crate::target::Target;

const fn check(name: &'static str, rule: &'static str, run: fn(&Target) -> Verdict) -> Check {
    Check {
        name,
        section: "Direct State Transitions",
        rule,
        needs: &[Feature::Migration],
        run,
    }
}

pub(super) const CHECKS: &[Check] = &[
    check(
        "mig_stream_that_is_empty_is_refused",
        "No data at all are incomplete: every way out of RESUMING fails.",
        empty,
    ),
    check(
        "mig_stream_that_is_cut_short_is_refused",
        "Data that end too early are incomplete, wherever they end.",
        cut_short,
    ),
    check(
        "mig_stream_with_a_flipped_bit_is_refused",
        "Data in which one bit is another are inconsistent, wherever it is.",
        flipped_bit,
    ),
    check(
        "mig_stream_with_more_after_its_end_is_refused",
        "Data that go on after the state are inconsistent, rubbish or the same once more.",
        more_after_the_end,
    ),
    check(
        "mig_stream_out_of_order_is_refused",
        "The halves of a stream the wrong way round are inconsistent.",
        out_of_order,
    ),
    check(
        "mig_stream_of_noise_is_refused",
        "Data that are no state at all are invalid, few or many.",
        noise,
    ),
    check(
        "mig_stream_that_announces_too_much_is_refused",
        "Lengths in the data are believed no further than the data go.",
        too_much,
    ),
    check(
        "mig_stream_that_is_good_loads_after_one_that_was_refused",
        "RESUMING goes on after a failure, or a reset leads out of ERROR.",
        good_after_bad,
    ),
    check(
        "mig_device_answers_after_every_refused_stream",
        "A device that was given bad data is reset, and runs.",
        answers_after,
    ),
];

/// Writes a stream, and tries to leave RESUMING. Refused somewhere on the way is refused.
fn takes(client: &mut Client, stream: &[u8], to: u32) -> Result<bool, Unmet> {
    reset(client)?;
    go(client, RESUMING)?;
    let size = usize::try_from(chunk(client)).unwrap_or(1);
    let is_taken = tries_to_write_all(client, stream, size)?;
    // It cannot be left then either.
    let has_left = tries(client, to)?;
    let now = state(client)?;
    if has_left {
        ensure!(
            now == to,
            "{} was accepted, and left {}",
            name(to),
            name(now)
        );
    } else {
        ensure!(
            now == RESUMING || now == ERROR,
            "RESUMING failed to end, and the state is {}",
            name(now)
        );
    }
    Ok(is_taken && has_left)
}

/// A stream that must be refused, and a device that lives on.
fn refuses(client: &mut Client, stream: &[u8], place: &str) -> Verdict {
    ensure!(
        !takes(client, stream, STOP).within(place)?,
        "{place}: it was taken"
    );
    if state(client)? == ERROR {
        for to in STATES {
            ensure!(
                !tries(client, to)?,
                "{place}: {} leads out of ERROR",
                name(to)
            );
        }
    }
    reset(client).within(place)
}

fn empty(target: &Target) -> Verdict {
    let mut client = target.client()?;
    if save(&mut client)?.is_empty() {
        return Err(Unmet::Skip("a state of any bytes".to_owned()));
    }
    let states = states(&mut client)?;
    for to in states.into_iter().filter(|to| *to != RESUMING) {
        ensure!(
            !takes(&mut client, &[], to)?,
            "{} was reached without data",
            name(to)
        );
    }
    reset(&mut client)
}

fn cut_short(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let stream = save(&mut client)?;
    let len = stream.len();
    for end in [1, 4, 7, 8, 16, 24, len / 4, len / 2, len - len.min(16)]
        .into_iter()
        .chain((1..9).map(|less| len - len.min(less)))
    {
        let part = stream.get(..end).filter(|part| part.len() < len);
        refuses(
            &mut client,
            part.unwrap_or_default(),
            &format!("{end} bytes of {len}"),
        )?;
    }
    load(&mut client, &stream).within("all of it")
}

/// How many places.
const PLACES: usize = 64;

fn flipped_bit(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let mut stream = save(&mut client)?;
    let len = stream.len();
    for place in 0..PLACES.min(len) {
        // Spread over the stream, both ends included.
        let at = place * (len - 1) / (PLACES - 1).max(1);
        let bit = 1 << (place * 5 % 8);
        flip(&mut stream, at, bit);
        refuses(&mut client, &stream, &format!("bit {bit:#x} of byte {at}"))?;
        flip(&mut stream, at, bit);
    }
    load(&mut client, &stream).within("as it was")
}

fn flip(stream: &mut [u8], at: usize, bit: u8) {
    if let Some(byte) = stream.get_mut(at) {
        *byte ^= bit;
    }
}

fn more_after_the_end(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let stream = save(&mut client)?;
    for (what, more) in [
        ("a byte of zeros", vec![0]),
        ("rubbish", b"rubbish rubbish rubbish".to_vec()),
        ("4096 zeros", vec![0; 4096]),
        ("the same once more", stream.clone()),
    ] {
        let longer = [stream.clone(), more].concat();
        refuses(&mut client, &longer, what)?;
    }
    load(&mut client, &stream).within("without more")
}

fn out_of_order(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let stream = save(&mut client)?;
    for part in [2, 3, 5] {
        let (first, second) = stream.split_at(stream.len() / part);
        let swapped = [second, first].concat();
        refuses(&mut client, &swapped, &format!("split at 1/{part}"))?;
    }
    Ok(())
}

fn noise(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |len: usize| -> Vec<u8> {
        (0..len)
            .map(|_| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                (seed >> 32) as u8
            })
            .collect()
    };
    for len in [1, 8, 100, 5000, 1 << 20] {
        let place = format!("{len} bytes of noise");
        refuses(&mut client, &random(len), &place)?;
        refuses(&mut client, &vec![0; len], &format!("{len} zeros"))?;
        refuses(&mut client, &vec![0xff; len], &format!("{len} ones"))?;
    }
    Ok(())
}

/// All-ones over each aligned word in turn: some of them are lengths.
fn too_much(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let stream = save(&mut client)?;
    let words = (stream.len() / 4).min(48);
    for word in 0..words {
        let mut wrong = stream.clone();
        if let Some(place) = wrong.get_mut(word * 4..word * 4 + 4) {
            if place == [0xff; 4] {
                continue;
            }
            place.fill(0xff);
        }
        refuses(&mut client, &wrong, &format!("word {word}"))?;
    }
    Ok(())
}

fn good_after_bad(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let stream = save(&mut client)?;
    let half = stream.get(..stream.len() / 2).unwrap_or_default();
    ensure!(!takes(&mut client, half, STOP)?, "half of it was taken");
    if state(&mut client)? == ERROR {
        reset(&mut client)?;
        go(&mut client, RESUMING)?;
    }
    let size = usize::try_from(chunk(&client)).unwrap_or(1);
    ensure!(
        tries_to_write_all(&mut client, &stream, size)?,
        "after the failure nothing is taken"
    );
    go(&mut client, STOP).within("all of it, after the failure")?;
    ensure!(save(&mut client)? == stream, "it became another device");
    go(&mut client, RUNNING)
}

fn answers_after(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let stream = save(&mut client)?;
    reset(&mut client)?;
    let before = super::look::marked(&mut client)?;
    for end in [0, 1, stream.len() / 2, stream.len().saturating_sub(1)] {
        let part = stream.get(..end).unwrap_or_default();
        refuses(&mut client, part, &format!("{end} bytes"))?;
        super::look::mark(&mut client)?;
        let place = format!("after {end} bytes");
        before.is_still(&mut client).within(&place)?;
    }
    drop(client);
    target.client()?.is_in_step()
}
