//! What a device does, and does not do, while it is migrated.

use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::Duration;

use vfu::wire::Command;

use super::STATE_SECTION;
use crate::check::{Check, Unmet, Verdict, Within};
use crate::devices::edu::{self, Way};
use crate::ensure;
use crate::feature::Feature;
use crate::guest::{BOTH, Guest, PAGE};
use crate::migration::{
    PRE_COPY, RESUMING, RUNNING, STOP, STOP_COPY, go, load, name, read, reset, save,
};
use crate::negotiated::{CONFIG, SCRATCH};
use crate::payload::{dma, words};
use crate::target::Target;

const fn check(
    name: &'static str,
    rule: &'static str,
    needs: &'static [Feature],
    run: fn(&Target) -> Verdict,
) -> Check {
    Check {
        name,
        section: STATE_SECTION,
        rule,
        needs,
        run,
    }
}

const EDU: &[Feature] = &[Feature::Migration, Feature::Edu];

pub(super) const CHECKS: &[Check] = &[
    check(
        "mig_stop_and_go_on_changes_nothing",
        "A device that was stopped, and runs again, is as it was.",
        &[Feature::Migration, Feature::Pci],
        stop_and_go_on,
    ),
    check(
        "mig_stopped_device_does_no_dma",
        "In STOP, STOP_COPY and RESUMING the device does not change what is outside of it.",
        EDU,
        no_dma,
    ),
    check(
        "mig_device_of_a_client_that_went_works_for_the_next",
        "A device that was stopped by a client which then went runs again for the next one.",
        EDU,
        works_for_the_next,
    ),
    check(
        "mig_stop_is_answered_while_the_server_waits_for_dma",
        "A transfer under way does not hold up the change of state, nor is it lost.",
        EDU,
        stop_while_waiting,
    ),
    check(
        "mig_mappings_and_eventfds_are_not_part_of_the_state",
        "Regions and eventfds are the client's: to save and to load leaves them.",
        &[Feature::Migration],
        mappings_stay,
    ),
    check(
        "mig_pre_copy_device_runs_on",
        "In PRE_COPY the device runs: registers, config space and DMA work between the reads.",
        &[Feature::PreCopy, Feature::Edu],
        pre_copy_runs_on,
    ),
    check(
        "mig_pre_copy_given_up_leaves_the_device_running",
        "PRE_COPY to RUNNING ends the data transfer, and the device is fully operational.",
        &[Feature::PreCopy, Feature::Pci],
        pre_copy_given_up,
    ),
    check(
        "mig_reset_forgets_what_was_written_and_read",
        "After a reset neither half a stream that was written nor one that was read goes on.",
        &[Feature::Migration],
        reset_forgets,
    ),
];

fn stop_and_go_on(target: &Target) -> Verdict {
    use super::look::{look, marked};
    let mut client = target.client()?;
    let before = marked(&mut client)?;
    for _ in 0..3 {
        go(&mut client, STOP)?;
        // What it reads as then is the server's choice; it must not change it.
        look(&mut client)?;
        go(&mut client, RUNNING)?;
        before.is_still(&mut client)?;
    }
    client.write(CONFIG, SCRATCH, &[0x77])?;
    ensure!(client.scratch()? == 0x77, "it takes no writes any more");
    Ok(())
}

/// Long enough for any server to do what it should not.
const QUIET: Duration = Duration::from_millis(40);

fn no_dma(target: &Target) -> Verdict {
    for at in [STOP, STOP_COPY, RESUMING] {
        let mut guest = Guest::believed(target, 4)?;
        guest.map_shared(0, 4)?;
        guest.fill(0, &[0x99; 64])?;
        let before = guest.look(0, 4 * PAGE as usize)?;
        go(&mut guest.client, at)?;
        // A server may drop or refuse a write to a register that comes now.
        let _ = edu::start(&mut guest.client, Way::ToRam, PAGE, 0, 64);
        sleep(QUIET);
        ensure!(
            guest.look(0, 4 * PAGE as usize)? == before,
            "in {} the device has written memory",
            name(at)
        );
        let asked = guest.next_within(Duration::ZERO)?;
        ensure!(asked.is_none(), "in {} it asks for memory", name(at));
        reset(&mut guest.client)?;
    }
    Ok(())
}

fn works_for_the_next(target: &Target) -> Verdict {
    for at in [STOP, STOP_COPY, RESUMING] {
        let mut first = target.client()?;
        go(&mut first, at)?;
        drop(first);
        let mut guest = Guest::believed(target, 4)?;
        guest.map_shared(0, 4)?;
        guest.put(0, b"sixteen bytes ok")?;
        let works = |guest: &mut Guest| {
            guest.transfer(Way::FromRam, 0, 16)?;
            guest.transfer(Way::ToRam, PAGE, 16)?;
            let seen = guest.look(PAGE, 16)?;
            ensure!(seen == b"sixteen bytes ok", "DMA brought {seen:x?}");
            Ok(())
        };
        works(&mut guest).within(&name(at))?;
    }
    Ok(())
}

fn stop_while_waiting(target: &Target) -> Verdict {
    let mut guest = Guest::new(target, 8)?;
    guest.put(PAGE, b"sixteen bytes ok")?;
    guest.map(0, 8, BOTH)?;
    if guest.transfer(Way::FromRam, 0, 16)?.is_empty() {
        return Err(Unmet::Skip("DMA by message".to_owned()));
    }
    edu::start(&mut guest.client, Way::FromRam, PAGE, 0, 16)?;
    let wanted = guest.wanted()?;
    go(&mut guest.client, STOP).within("while a command is open")?;
    // Late, or expected still.
    guest.serve(&wanted)?;
    go(&mut guest.client, RUNNING)?;
    guest.serve_all()?;
    guest.transfer(Way::ToRam, 3 * PAGE, 16)?;
    let seen = guest.look(3 * PAGE, 16)?;
    ensure!(
        seen == b"sixteen bytes ok",
        "what the device was reading is {seen:x?}"
    );
    Ok(())
}

fn mappings_stay(target: &Target) -> Verdict {
    let mut client = target.client()?;
    client.accepts(Command::DmaMap, &dma(32, BOTH, &[0, 0x10_0000, PAGE]))?;
    let flags = rustix::event::EventfdFlags::NONBLOCK | rustix::event::EventfdFlags::CLOEXEC;
    let eventfd = rustix::event::eventfd(0, flags)?;
    // ERR, which every PCI device of ours and of libvfio-user has; TRIGGER by eventfd, then by hand.
    let has_err = client.device_info()?.num_irqs > 3 && client.irq_info(3)?.count > 0;
    if has_err {
        let assign = words(&[20, 1 << 2 | 1 << 5, 3, 0, 1]);
        let command = Command::DeviceSetIrqs as u16;
        client
            .connection
            .accepts(command, &assign, &[eventfd.as_fd()])?;
    }
    let stream = save(&mut client)?;
    load(&mut client, &stream)?;
    go(&mut client, RUNNING)?;
    client
        .accepts(Command::DmaUnmap, &dma(24, 0, &[0x10_0000, PAGE]))
        .within("the region from before")?;
    if has_err {
        let trigger = words(&[20, 1 | 1 << 5, 3, 0, 1]);
        client.accepts(Command::DeviceSetIrqs, &trigger)?;
        let mut count = [0; 8];
        let is_signalled = rustix::io::read(&eventfd, &mut count).is_ok();
        ensure!(is_signalled, "the eventfd from before is signalled no more");
    }
    Ok(())
}

fn pre_copy_runs_on(target: &Target) -> Verdict {
    let mut guest = Guest::believed(target, 4)?;
    guest.map_shared(0, 4)?;
    go(&mut guest.client, PRE_COPY)?;
    for round in 0..50 {
        read(&mut guest.client, 64)?;
        edu::write(&mut guest.client, edu::LIVENESS, round)?;
        let seen = edu::read(&mut guest.client, edu::LIVENESS)?;
        ensure!(seen == !round, "{seen:#x} was read for {round:#x}");
        guest.client.write(CONFIG, SCRATCH, &[round as u8])?;
        let seen = guest.client.scratch()?;
        ensure!(u32::from(seen) == round, "Interrupt Line is {seen}");
    }
    guest.put(PAGE, b"while it is read")?;
    guest.transfer(Way::FromRam, PAGE, 16)?;
    guest.transfer(Way::ToRam, 2 * PAGE, 16)?;
    let seen = guest.look(2 * PAGE, 16)?;
    ensure!(seen == b"while it is read", "DMA brought {seen:x?}");
    go(&mut guest.client, RUNNING)
}

fn pre_copy_given_up(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for size in [0, 1, 5000] {
        go(&mut client, PRE_COPY)?;
        if size > 0 {
            read(&mut client, size)?;
        }
        go(&mut client, RUNNING)?;
        client.write(CONFIG, SCRATCH, &[0x33])?;
        ensure!(client.scratch()? == 0x33, "it takes no writes any more");
        client
            .refuses(Command::MigDataRead, &words(&[24, 16]))
            .within("there is no stream any more")?;
    }
    let stream = save(&mut client)?;
    load(&mut client, &stream)
}

fn reset_forgets(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let stream = save(&mut client)?;
    reset(&mut client)?;
    client
        .refuses(Command::MigDataRead, &words(&[24, 16]))
        .within("a stream that was read")?;
    go(&mut client, RESUMING)?;
    let half = stream.get(..stream.len() / 2).unwrap_or_default();
    let size = usize::try_from(crate::migration::chunk(&client)).unwrap_or(1);
    crate::migration::tries_to_write_all(&mut client, half, size)?;
    reset(&mut client)?;
    load(&mut client, &stream).within("written anew")?;
    go(&mut client, RUNNING)
}
