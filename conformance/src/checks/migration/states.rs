//! The states of migration, and the ways between them.

use super::STATE_SECTION;
use crate::check::{Check, Unmet, Verdict, Within};
use crate::ensure;
use crate::feature::Feature;
use crate::migration::{
    ERROR, PRE_COPY, PRE_COPY_P2P, RESUMING, RUNNING, RUNNING_P2P, STOP, STOP_COPY, go, load, name,
    reset, save, state, states, tries,
};
use crate::negotiated::Client;
use crate::target::Target;

const fn check(name: &'static str, rule: &'static str, run: fn(&Target) -> Verdict) -> Check {
    Check {
        name,
        section: STATE_SECTION,
        rule,
        needs: &[Feature::Migration],
        run,
    }
}

pub(super) const CHECKS: &[Check] = &[
    check(
        "mig_state_is_running_at_first",
        "A device of which nobody has asked anything is RUNNING.",
        running_at_first,
    ),
    check(
        "mig_state_reaches_every_state_from_every_other",
        "Each pair of states has a shortest way that leads through no saving state.",
        every_pair,
    ),
    check(
        "mig_state_stop_copy_does_not_become_pre_copy",
        "STOP_COPY to PRE_COPY is not allowed, and changes nothing.",
        stop_copy_to_pre_copy,
    ),
    check(
        "mig_state_error_cannot_be_asked_for",
        "ERROR cannot be specified as a state, wherever the device is.",
        error_is_refused,
    ),
    check(
        "mig_state_p2p_is_not_used",
        "The two P2P states are not used in vfio-user.",
        p2p_is_refused,
    ),
    check(
        "mig_state_that_does_not_exist_is_refused",
        "Numbers from 8 on are no states.",
        unknown_state,
    ),
    check(
        "mig_state_refused_is_the_state_from_before",
        "A request that is refused before it begins leaves the state as it is.",
        refused_stays,
    ),
    check(
        "mig_state_same_as_now_stays",
        "To ask for the state that the device is in changes nothing, refused or not.",
        same_stays,
    ),
    check(
        "mig_state_pre_copy_is_refused_where_it_is_not_offered",
        "Without PRE_COPY in the flags the ways to it do not exist.",
        pre_copy_not_offered,
    ),
    check(
        "mig_state_is_running_after_a_reset_in_every_state",
        "A reset brings a device back to RUNNING.",
        reset_everywhere,
    ),
    check(
        "mig_state_is_running_for_the_next_client",
        "A client that goes in any state leaves a device that the next one finds RUNNING.",
        next_client,
    ),
    check(
        "mig_state_answers_accesses_in_every_state",
        "Region reads and the other questions are answered wherever the device is.",
        accesses_everywhere,
    ),
];

fn running_at_first(target: &Target) -> Verdict {
    let now = state(&mut target.client()?)?;
    ensure!(now == RUNNING, "the state is {}", name(now));
    Ok(())
}

/// Takes a device that is RUNNING to a state. RESUMING has then taken the whole stream, so that
/// every way leads out of it.
fn begin(client: &mut Client, from: u32, stream: &[u8]) -> Verdict {
    reset(client)?;
    go(client, from)?;
    if from == RESUMING {
        let chunk = usize::try_from(crate::migration::chunk(client)).unwrap_or(1);
        ensure!(
            crate::migration::tries_to_write_all(client, stream, chunk)?,
            "the stream was refused"
        );
    }
    Ok(())
}

fn every_pair(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let stream = save(&mut client)?;
    let states = states(&mut client)?;
    for from in &states {
        for to in states.iter().filter(|to| *to != from) {
            if (*from, *to) == (STOP_COPY, PRE_COPY) {
                continue;
            }
            let place = format!("{} to {}", name(*from), name(*to));
            begin(&mut client, *from, &stream).within(&place)?;
            go(&mut client, *to).within(&place)?;
        }
    }
    reset(&mut client)
}

/// A state that is refused from everywhere, and leaves everything as it is.
fn refused_everywhere(client: &mut Client, to: u32) -> Verdict {
    for from in states(client)? {
        let place = format!("{} to {}", name(from), name(to));
        reset(client)?;
        go(client, from).within(&place)?;
        ensure!(!tries(client, to)?, "{place} succeeded");
        let now = state(client)?;
        ensure!(now == from, "{place} left the state {}", name(now));
    }
    reset(client)
}

fn stop_copy_to_pre_copy(target: &Target) -> Verdict {
    let mut client = target.client()?;
    go(&mut client, STOP_COPY)?;
    ensure!(!tries(&mut client, PRE_COPY)?, "it succeeded");
    let now = state(&mut client)?;
    ensure!(now == STOP_COPY, "the state is {}", name(now));
    let stream = crate::migration::read_all(&mut client, 4096)?;
    ensure!(!stream.is_empty(), "there is nothing to read any more");
    Ok(())
}

fn error_is_refused(target: &Target) -> Verdict {
    refused_everywhere(&mut target.client()?, ERROR)
}

fn p2p_is_refused(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for to in [RUNNING_P2P, PRE_COPY_P2P] {
        refused_everywhere(&mut client, to)?;
    }
    Ok(())
}

fn unknown_state(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for to in [8, 9, 64, 0xabcd, 1 << 31, u32::MAX] {
        ensure!(!tries(&mut client, to)?, "{} was accepted", name(to));
        let now = state(&mut client)?;
        ensure!(now == RUNNING, "{} left {}", name(to), name(now));
    }
    Ok(())
}

fn refused_stays(target: &Target) -> Verdict {
    let mut client = target.client()?;
    go(&mut client, STOP)?;
    for to in [ERROR, RUNNING_P2P, 8, u32::MAX] {
        ensure!(!tries(&mut client, to)?, "{} was accepted", name(to));
        let now = state(&mut client)?;
        ensure!(now == STOP, "{} left {}", name(to), name(now));
    }
    go(&mut client, RUNNING)
}

fn same_stays(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for at in states(&mut client)? {
        reset(&mut client)?;
        go(&mut client, at)?;
        tries(&mut client, at)?;
        let now = state(&mut client)?;
        // What ends RESUMING looks at the stream, of which there is none.
        let may_fail = at == RESUMING && now == ERROR;
        ensure!(now == at || may_fail, "{} became {}", name(at), name(now));
    }
    reset(&mut client)
}

fn pre_copy_not_offered(target: &Target) -> Verdict {
    let mut client = target.client()?;
    if states(&mut client)?.contains(&PRE_COPY) {
        // Then every state has ways to it; that from STOP_COPY has a check of its own.
        for from in [RUNNING, STOP] {
            go(&mut client, from)?;
            go(&mut client, PRE_COPY).within(&name(from))?;
            go(&mut client, RUNNING)?;
        }
        return Ok(());
    }
    refused_everywhere(&mut client, PRE_COPY)
}

fn reset_everywhere(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for from in states(&mut client)? {
        go(&mut client, from)?;
        reset(&mut client).within(&name(from))?;
        // And the machine works as before.
        go(&mut client, STOP).within(&name(from))?;
        go(&mut client, RUNNING).within(&name(from))?;
    }
    Ok(())
}

fn next_client(target: &Target) -> Verdict {
    let states = states(&mut target.client()?)?;
    for from in states {
        let mut first = target.client()?;
        go(&mut first, from)?;
        if from == STOP_COPY || from == PRE_COPY {
            crate::migration::read(&mut first, 3)?;
        }
        drop(first);
        let mut next = target.client()?;
        let now = state(&mut next)?;
        ensure!(
            now == RUNNING,
            "{}: the next finds {}",
            name(from),
            name(now)
        );
        let stream = save(&mut next).within(&name(from))?;
        load(&mut next, &stream).within(&name(from))?;
    }
    Ok(())
}

fn accesses_everywhere(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for at in states(&mut client)? {
        reset(&mut client)?;
        go(&mut client, at)?;
        let answers = |client: &mut Client| -> Result<(), Unmet> {
            client.read(crate::negotiated::CONFIG, 0, 64)?;
            client.irq_info(0)?;
            client.regions()?;
            client.is_in_step()
        };
        answers(&mut client).within(&name(at))?;
    }
    reset(&mut client)
}
