//! A long row of changes of state, held against a table of what is possible.

use vfu::wire::Command;

use super::STATE_SECTION;
use crate::check::{Check, Verdict, Within};
use crate::checks::dma::Numbers;
use crate::ensure;
use crate::feature::Feature;
use crate::migration::{
    PRE_COPY, RESUMING, RUNNING, STATES, STOP, STOP_COPY, chunk, go, name, read, reset, save,
    state, state_payload, states, tries, tries_to_write_all,
};
use crate::payload;
use crate::target::Target;

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "mig_state_is_as_it_should_be_over_a_long_walk",
        section: STATE_SECTION,
        rule: "Whatever came before, a way that there is works, and one that there is not fails.",
        needs: &[Feature::Migration],
        run: long_walk,
    },
    Check {
        name: "mig_state_that_wants_no_reply_is_reached_before_the_next_reply",
        section: "Command Concurrency",
        rule: "A change of state that wants no reply has been made when a later reply comes.",
        needs: &[Feature::Migration],
        run: no_reply,
    },
];

fn long_walk(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let stream = save(&mut client)?;
    reset(&mut client)?;
    let known = states(&mut client)?;
    let size = usize::try_from(chunk(&client)).unwrap_or(1);
    let mut numbers = Numbers::new(0x5eed);
    let (mut now, mut has_state) = (RUNNING, false);
    let mut way = vec![name(now)];
    for _ in 0..300 {
        match numbers.below(4) {
            0 if now == RESUMING && !has_state => {
                has_state = true;
                let is_taken = tries_to_write_all(&mut client, &stream, size)?;
                ensure!(is_taken, "{}: the stream was refused", way.join(", "));
            }
            1 if now == STOP_COPY || now == PRE_COPY => {
                let size = 1 + u32::try_from(numbers.below(5000)).unwrap_or(0);
                read(&mut client, size).within(&way.join(", "))?;
            }
            _ => {
                let index = usize::try_from(numbers.below(STATES.len() as u64)).unwrap_or(0);
                let to = STATES.get(index).copied().unwrap_or(RUNNING);
                // Of these two the outcome is the server's choice, or an end that may be ERROR.
                if to == now || (now == RESUMING && !has_state) {
                    continue;
                }
                let is_possible = known.contains(&to) && (now, to) != (STOP_COPY, PRE_COPY);
                way.push(name(to));
                let is_done = tries(&mut client, to).within(&way.join(", "))?;
                ensure!(
                    is_done == is_possible,
                    "{}: the last was {}",
                    way.join(", "),
                    if is_done { "done" } else { "refused" }
                );
                if is_done {
                    (now, has_state) = (to, false);
                } else {
                    way.pop();
                }
                let seen = state(&mut client)?;
                ensure!(seen == now, "{}: it is {}", way.join(", "), name(seen));
            }
        }
    }
    reset(&mut client)
}

fn no_reply(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for to in [STOP, STOP_COPY, RUNNING] {
        let command = Command::DeviceFeature as u16;
        let id = client.connection.take_id();
        let message = payload::message(id, command, payload::NO_REPLY, &state_payload(to));
        client.connection.send(&message, &[])?;
        let now = state(&mut client)?;
        ensure!(
            now == to,
            "{} was posted, and it is {}",
            name(to),
            name(now)
        );
    }
    // One that cannot be.
    let message = payload::message(1, 16, payload::NO_REPLY, &state_payload(0));
    client.connection.send(&message, &[])?;
    let now = state(&mut client)?;
    ensure!(
        now == RUNNING,
        "a state that was refused left {}",
        name(now)
    );
    go(&mut client, STOP)?;
    go(&mut client, RUNNING)
}
