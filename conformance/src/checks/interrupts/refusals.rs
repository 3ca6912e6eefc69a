//! Messages that say nothing a server could do.

use vfu::wire::Command;

use super::{BOOL, EVENTFD, MASK, NONE, SECTION, TRIGGER, UNMASK, groups, refuses, widest};
use crate::check::{Check, Verdict, Within};
use crate::payload::words;
use crate::target::Target;

const fn check(name: &'static str, rule: &'static str, run: fn(&Target) -> Verdict) -> Check {
    Check {
        name,
        section: SECTION,
        rule,
        needs: &[],
        run,
    }
}

pub(super) const CHECKS: &[Check] = &[
    check(
        "set_irqs_needs_its_20_bytes",
        "A message that ends before the 20 bytes of its structure is refused.",
        needs_20_bytes,
    ),
    check(
        "set_irqs_argsz_has_room_for_the_structure",
        "argsz is the size of the payload, and so at least 20.",
        argsz_has_room,
    ),
    check(
        "set_irqs_index_is_one_that_the_device_has",
        "An interrupt type at or past num_irqs is refused.",
        index_exists,
    ),
    check(
        "set_irqs_has_exactly_one_action",
        "The three action flags exclude each other, and one is needed.",
        one_action,
    ),
    check(
        "set_irqs_has_exactly_one_kind_of_data",
        "The three data flags exclude each other, and one is needed.",
        one_kind_of_data,
    ),
    check(
        "set_irqs_unknown_flags_are_refused",
        "Flags other than the three of data and the three of action are not known.",
        unknown_flags,
    ),
    check(
        "set_irqs_range_ends_at_the_last_vector",
        "Start and count name sub-indexes that the interrupt type has.",
        range_ends,
    ),
    check(
        "set_irqs_range_does_not_wrap",
        "Start and count whose sum is past 32 bits name no sub-indexes.",
        range_does_not_wrap,
    ),
    check(
        "set_irqs_count_0_has_start_0",
        "A count of 0 is the special case that disables only together with a start of 0.",
        count_0_has_start_0,
    ),
    check(
        "set_irqs_bools_are_as_many_as_count",
        "The array of booleans has one for each sub-index; fewer are refused.",
        bools_are_enough,
    ),
    check(
        "set_irqs_err_and_req_cannot_be_masked",
        "An interrupt type that is not MASKABLE supports neither MASK nor UNMASK.",
        err_and_req,
    ),
];

fn needs_20_bytes(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let index = widest(&mut client)?.index;
    let whole = words(&[20, NONE | TRIGGER, index, 0, 1]);
    for len in 0..whole.len() {
        let payload = whole.get(..len).unwrap_or_default();
        client
            .refuses(Command::DeviceSetIrqs, payload)
            .within(&format!("{len} bytes"))?;
    }
    client.is_in_step()
}

fn argsz_has_room(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let index = widest(&mut client)?.index;
    for argsz in [0, 3, 16, 19] {
        let payload = words(&[argsz, NONE | TRIGGER, index, 0, 1]);
        client
            .refuses(Command::DeviceSetIrqs, &payload)
            .within(&format!("argsz {argsz}"))?;
    }
    client.is_in_step()
}

fn index_exists(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let past = client.device_info()?.num_irqs;
    for index in [past, past.saturating_add(1), 1 << 31, u32::MAX] {
        for count in [0, 1] {
            let place = format!("index {index}, count {count}");
            refuses(&mut client, [NONE | TRIGGER, index, 0, count], &[]).within(&place)?;
        }
    }
    client.is_in_step()
}

fn one_action(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let index = widest(&mut client)?.index;
    for action in [
        0,
        MASK | UNMASK,
        MASK | TRIGGER,
        UNMASK | TRIGGER,
        MASK | UNMASK | TRIGGER,
    ] {
        let place = format!("flags {:#x}", NONE | action);
        refuses(&mut client, [NONE | action, index, 0, 1], &[]).within(&place)?;
    }
    client.is_in_step()
}

fn one_kind_of_data(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let index = widest(&mut client)?.index;
    for data in [
        0,
        NONE | BOOL,
        NONE | EVENTFD,
        BOOL | EVENTFD,
        NONE | BOOL | EVENTFD,
    ] {
        let place = format!("flags {:#x}", data | TRIGGER);
        refuses(&mut client, [data | TRIGGER, index, 0, 1], &[1]).within(&place)?;
    }
    client.is_in_step()
}

fn unknown_flags(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let index = widest(&mut client)?.index;
    for bit in 6..32 {
        let flags = NONE | TRIGGER | 1 << bit;
        refuses(&mut client, [flags, index, 0, 1], &[]).within(&format!("bit {bit}"))?;
    }
    client.is_in_step()
}

fn range_ends(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for group in groups(&mut client)? {
        let count = group.count;
        for (start, number) in [(count, 1), (count - 1, 2), (0, count + 1), (count + 1, 1)] {
            let numbers = [NONE | TRIGGER, group.index, start, number];
            let place = format!("type {} of {count}, {number} from {start} on", group.index);
            refuses(&mut client, numbers, &[]).within(&place)?;
        }
    }
    client.is_in_step()
}

fn range_does_not_wrap(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for group in groups(&mut client)? {
        for (start, count) in [
            (u32::MAX, 1),
            (1, u32::MAX),
            (u32::MAX, 2),
            (u32::MAX, u32::MAX),
            (1 << 31, 1 << 31),
        ] {
            let numbers = [NONE | TRIGGER, group.index, start, count];
            let place = format!("type {}, {count} from {start} on", group.index);
            refuses(&mut client, numbers, &[]).within(&place)?;
        }
    }
    client.is_in_step()
}

fn count_0_has_start_0(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let index = widest(&mut client)?.index;
    for start in [1, u32::MAX] {
        let place = format!("start {start}");
        refuses(&mut client, [NONE | TRIGGER, index, start, 0], &[]).within(&place)?;
    }
    client.is_in_step()
}

fn bools_are_enough(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let group = widest(&mut client)?;
    for count in [1, 2, group.count] {
        if count > group.count {
            continue;
        }
        let fewer = vec![0; usize::try_from(count - 1).unwrap_or(0)];
        let numbers = [BOOL | TRIGGER, group.index, 0, count];
        let place = format!("{} for {count}", fewer.len());
        refuses(&mut client, numbers, &fewer).within(&place)?;
    }
    client.is_in_step()
}

fn err_and_req(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let all = groups(&mut client)?.into_iter();
    for group in all.filter(|group| [super::ERR, super::REQ].contains(&group.index)) {
        for action in [MASK, UNMASK] {
            let place = format!("action {action:#x} of type {}", group.index);
            refuses(&mut client, [NONE | action, group.index, 0, 1], &[]).within(&place)?;
        }
    }
    client.is_in_step()
}
