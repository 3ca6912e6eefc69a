//! Interrupts that the device itself raises, and the mask of its pin. On edu, which does so when
//! told to.

use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::Duration;

use super::{
    BOOL, INTX, MASK, MSI, NONE, SECTION, UNMASK, accepts, assign, awaited, disable, new_eventfd,
    taken,
};
use crate::check::{Check, Unmet, Verdict};
use crate::devices::edu;
use crate::ensure;
use crate::feature::Feature;
use crate::negotiated::Client;
use crate::target::Target;

const fn check(name: &'static str, rule: &'static str, run: fn(&Target) -> Verdict) -> Check {
    Check {
        name,
        section: SECTION,
        rule,
        needs: &[Feature::Edu],
        run,
    }
}

pub(super) const CHECKS: &[Check] = &[
    check(
        "intx_is_signalled_when_the_device_asserts_it",
        "The server triggers an interrupt by writing 1 to its eventfd.",
        intx_is_signalled,
    ),
    check(
        "intx_masks_itself_until_it_is_unmasked",
        "An AUTOMASKED interrupt is signalled once, and again only after UNMASK.",
        intx_masks_itself,
    ),
    check(
        "intx_that_is_masked_is_held",
        "What the device raises while the client has masked the interrupt comes with UNMASK.",
        masked_is_held,
    ),
    check(
        "intx_mask_by_bools_follows_them",
        "MASK and UNMASK with a boolean are done if it is true.",
        mask_by_bools,
    ),
    check(
        "intx_that_was_lowered_is_not_signalled_by_unmask",
        "UNMASK signals an interrupt that is pending, and no other.",
        lowered,
    ),
    check(
        "msi_is_signalled_for_each_message",
        "Each message of the device adds 1 to the eventfd of its vector.",
        msi_messages,
    ),
    check(
        "msi_that_is_switched_off_is_not_signalled",
        "After count 0 the device's messages reach no eventfd of that type.",
        msi_off,
    ),
];

/// Long enough for any server to signal what it should not.
const QUIET: Duration = Duration::from_millis(60);

/// A client with nothing pending on the device, and an eventfd for a type.
fn prepared(target: &Target, index: u32) -> Result<(Client, OwnedFd), Unmet> {
    let mut client = target.client()?;
    if client.irq_info(index)?.count == 0 {
        return Err(Unmet::Skip(format!("interrupt type {index}")));
    }
    edu::write(&mut client, edu::INTERRUPT_ACKNOWLEDGE, u32::MAX)?;
    let eventfd = new_eventfd(0)?;
    assign(&mut client, index, 0, &[&eventfd])?;
    Ok((client, eventfd))
}

fn raise(client: &mut Client) -> Verdict {
    edu::write(client, edu::INTERRUPT_RAISE, 1)
}

fn acknowledge(client: &mut Client) -> Verdict {
    edu::write(client, edu::INTERRUPT_ACKNOWLEDGE, u32::MAX)
}

/// Nothing comes.
fn is_quiet(eventfd: &OwnedFd, when: &str) -> Verdict {
    sleep(QUIET);
    let held = taken(eventfd)?;
    ensure!(held == 0, "{when}: the eventfd holds {held}");
    Ok(())
}

/// One signal comes, and no more.
fn is_signalled_once(client: &Client, eventfd: &OwnedFd, when: &str) -> Verdict {
    let held = awaited(client, eventfd)?;
    ensure!(held == 1, "{when}: the eventfd holds {held}");
    is_quiet(eventfd, when)
}

fn intx_is_signalled(target: &Target) -> Verdict {
    let (mut client, eventfd) = prepared(target, INTX)?;
    is_quiet(&eventfd, "before the device raises it")?;
    raise(&mut client)?;
    is_signalled_once(&client, &eventfd, "raised")?;
    acknowledge(&mut client)
}

fn intx_masks_itself(target: &Target) -> Verdict {
    let (mut client, eventfd) = prepared(target, INTX)?;
    raise(&mut client)?;
    is_signalled_once(&client, &eventfd, "raised")?;
    raise(&mut client)?;
    is_quiet(&eventfd, "raised again, not unmasked")?;
    accepts(&mut client, [NONE | UNMASK, INTX, 0, 1], &[])?;
    is_signalled_once(&client, &eventfd, "unmasked, and asserted still")?;
    acknowledge(&mut client)
}

fn masked_is_held(target: &Target) -> Verdict {
    let (mut client, eventfd) = prepared(target, INTX)?;
    accepts(&mut client, [NONE | MASK, INTX, 0, 1], &[])?;
    raise(&mut client)?;
    is_quiet(&eventfd, "raised while masked")?;
    accepts(&mut client, [NONE | UNMASK, INTX, 0, 1], &[])?;
    is_signalled_once(&client, &eventfd, "unmasked")?;
    acknowledge(&mut client)
}

fn mask_by_bools(target: &Target) -> Verdict {
    let (mut client, eventfd) = prepared(target, INTX)?;
    accepts(&mut client, [BOOL | MASK, INTX, 0, 1], &[1])?;
    raise(&mut client)?;
    is_quiet(&eventfd, "masked by a 1")?;
    accepts(&mut client, [BOOL | UNMASK, INTX, 0, 1], &[0])?;
    is_quiet(&eventfd, "a 0 does not unmask")?;
    accepts(&mut client, [BOOL | UNMASK, INTX, 0, 1], &[1])?;
    is_signalled_once(&client, &eventfd, "unmasked by a 1")?;
    acknowledge(&mut client)?;
    accepts(&mut client, [NONE | UNMASK, INTX, 0, 1], &[])?;
    accepts(&mut client, [BOOL | MASK, INTX, 0, 1], &[0])?;
    raise(&mut client)?;
    is_signalled_once(&client, &eventfd, "a 0 does not mask")?;
    acknowledge(&mut client)
}

fn lowered(target: &Target) -> Verdict {
    let (mut client, eventfd) = prepared(target, INTX)?;
    raise(&mut client)?;
    is_signalled_once(&client, &eventfd, "raised")?;
    acknowledge(&mut client)?;
    accepts(&mut client, [NONE | UNMASK, INTX, 0, 1], &[])?;
    is_quiet(&eventfd, "acknowledged, then unmasked")?;
    raise(&mut client)?;
    is_signalled_once(&client, &eventfd, "raised once more")?;
    acknowledge(&mut client)
}

fn msi_messages(target: &Target) -> Verdict {
    let (mut client, eventfd) = prepared(target, MSI)?;
    for round in 1..4 {
        raise(&mut client)?;
        is_signalled_once(&client, &eventfd, &format!("message {round}"))?;
    }
    acknowledge(&mut client)
}

fn msi_off(target: &Target) -> Verdict {
    let (mut client, eventfd) = prepared(target, MSI)?;
    disable(&mut client, MSI)?;
    raise(&mut client)?;
    is_quiet(&eventfd, "switched off")?;
    acknowledge(&mut client)
}
