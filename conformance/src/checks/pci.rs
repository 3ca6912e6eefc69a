//! PCI config space, as far as any PCI device has it: libvfio-user's tests look at it too.

use vfu::wire::Command;
use vfu::wire::access::RegionAccess;

use crate::check::{Check, Unmet, Verdict, Within};
use crate::connection::Answer;
use crate::ensure;
use crate::feature::Feature;
use crate::negotiated::{CONFIG, Client};
use crate::payload::access;
use crate::target::Target;

const fn check(name: &'static str, rule: &'static str, run: fn(&Target) -> Verdict) -> Check {
    Check {
        name,
        section: "VFIO Device Model",
        rule,
        needs: &[Feature::Pci],
        run,
    }
}

pub(super) const CHECKS: &[Check] = &[
    check(
        "pci_bars_tell_the_sizes_of_their_regions",
        "All-ones written to a BAR read back as the size of the region, in 32 or 64 bits.",
        bar_sizes,
    ),
    check(
        "pci_capabilities_are_a_list_with_an_end",
        "The list of capabilities lies behind the header, and ends.",
        capability_list,
    ),
    check(
        "pci_extended_capabilities_are_a_list_with_an_end",
        "The list in the extended config space lies there, and ends.",
        extended_list,
    ),
    check(
        "pci_identity_is_read_only",
        "IDs, revision, class, header type and the heads of capabilities stay as they are.",
        identity,
    ),
    check(
        "pci_status_says_whether_there_are_capabilities",
        "Bit 4 of the status register is set where the list has a beginning, and stays.",
        status,
    ),
    check(
        "pci_function_level_reset_is_a_reset",
        "A device whose PCI Express capability has the reset does it when told to.",
        function_level_reset,
    ),
];

fn byte(client: &mut Client, at: u64) -> Result<u8, Unmet> {
    Ok(client.read(CONFIG, at, 1)?.first().copied().unwrap_or(0))
}

fn word(client: &mut Client, at: u64) -> Result<u32, Unmet> {
    let bytes = client.read(CONFIG, at, 4)?;
    Ok(u32::from_le_bytes(
        bytes.first_chunk().copied().unwrap_or_default(),
    ))
}

/// Writes to config space, which a server may refuse.
fn tries(client: &mut Client, at: u64, data: &[u8]) -> Verdict {
    let count = u32::try_from(data.len()).unwrap_or(0);
    let request = access(CONFIG, at, count, data);
    let command = Command::RegionWrite as u16;
    match client.connection.ask(command, &request, &[])? {
        Answer::Success(reply) => {
            ensure!(
                reply.payload.len() == RegionAccess::LEN,
                "a reply of {} bytes",
                reply.payload.len()
            );
            Ok(())
        }
        Answer::Refused(_) => Ok(()),
        Answer::Closed => Err(Unmet::fail("the connection was closed")),
    }
}

/// Writes all-ones to a BAR, and tells what is read then. The BAR is as it was afterwards.
fn probe(client: &mut Client, bar: u64) -> Result<u32, Unmet> {
    let at = 0x10 + 4 * bar;
    let before = client.read(CONFIG, at, 4)?;
    client.write(CONFIG, at, &[0xff; 4])?;
    let read = word(client, at)?;
    client.write(CONFIG, at, &before)?;
    ensure!(
        client.read(CONFIG, at, 4)? == before,
        "BAR{bar} does not take back what it held"
    );
    Ok(read)
}

fn bar_sizes(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let mut bar = 0;
    while bar < 6 {
        let size = client
            .region_info(u32::try_from(bar).unwrap_or(0))?
            .info
            .size;
        let low = probe(&mut client, bar)?;
        let is_port = low & 1 == 1;
        let is_wide = !is_port && low & 6 == 4;
        let mask = if is_port { !3 } else { !15 };
        let mut bits = u64::from(low & mask);
        if is_wide {
            bits |= u64::from(probe(&mut client, bar + 1)?) << 32;
        } else if bits != 0 {
            bits |= u64::MAX << 32;
        }
        let told = (!bits).wrapping_add(1);
        ensure!(
            told == size,
            "BAR{bar} tells of {told:#x} bytes, its region has {size:#x}"
        );
        bar += if is_wide { 2 } else { 1 };
    }
    Ok(())
}

/// Where the capabilities are, with their IDs.
fn capabilities(client: &mut Client) -> Result<Vec<(u64, u8)>, Unmet> {
    let mut found = Vec::new();
    if client.read(CONFIG, 6, 1)?.first().copied().unwrap_or(0) & 0x10 == 0 {
        return Ok(found);
    }
    let mut at = u64::from(byte(client, 0x34)? & !3);
    while at != 0 {
        ensure!(
            (0x40..=0xfc).contains(&at),
            "a capability at {at:#x} is not behind the header"
        );
        let is_new = found.iter().all(|(place, _)| *place != at);
        ensure!(is_new, "the list comes back to {at:#x}");
        found.push((at, byte(client, at)?));
        at = u64::from(byte(client, at + 1)? & !3);
    }
    Ok(found)
}

fn capability_list(target: &Target) -> Verdict {
    capabilities(&mut target.client()?).map(drop)
}

fn extended_list(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let size = client.region_info(CONFIG)?.info.size;
    if size < 4096 {
        // There is none, and nobody can read any.
        let request = access(CONFIG, 256, 4, &[]);
        client.refuses(Command::RegionRead, &request)?;
        return Ok(());
    }
    let (mut at, mut seen) = (0x100, Vec::new());
    while at != 0 {
        ensure!(
            (0x100..=0xffc).contains(&at) && at % 4 == 0 && !seen.contains(&at),
            "after {seen:x?} comes {at:#x}"
        );
        seen.push(at);
        let head = word(&mut client, at)?;
        at = u64::from(head >> 20);
    }
    Ok(())
}

fn identity(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let mut places = vec![(0, 4), (8, 4), (0xe, 1), (0x2c, 4), (0x34, 1)];
    places.extend(
        capabilities(&mut client)?
            .into_iter()
            .map(|(at, _)| (at, 2)),
    );
    for (at, len) in places {
        let before = client.read(CONFIG, at, len)?;
        for fill in [0, 0xff] {
            tries(&mut client, at, &vec![fill; len as usize])?;
            let after = client.read(CONFIG, at, len)?;
            ensure!(
                after == before,
                "{before:x?} at {at:#x} became {after:x?} when {fill:#x} was written"
            );
        }
    }
    Ok(())
}

fn status(target: &Target) -> Verdict {
    let mut client = target.client()?;
    let has_list = byte(&mut client, 0x34)? != 0;
    for written in [0, 0xffff_u16] {
        let says_so = byte(&mut client, 6)? & 0x10 != 0;
        ensure!(
            says_so == has_list,
            "bit 4 is {says_so}, and the list has {}",
            if has_list { "a beginning" } else { "none" }
        );
        tries(&mut client, 6, &written.to_le_bytes())?;
    }
    Ok(())
}

fn function_level_reset(target: &Target) -> Verdict {
    const EXPRESS: u8 = 0x10;
    let mut client = target.client()?;
    let express = capabilities(&mut client)?
        .into_iter()
        .find(|(_, id)| *id == EXPRESS);
    let Some((at, _)) = express else {
        return Err(Unmet::Skip("a PCI Express capability".to_owned()));
    };
    if word(&mut client, at + 4)? & 1 << 28 == 0 {
        return Err(Unmet::Skip("function level reset".to_owned()));
    }
    client.write(CONFIG, 4, &[6, 0])?;
    let control = client.read(CONFIG, at + 8, 2)?;
    let told = [
        control.first().copied().unwrap_or(0),
        control.get(1).copied().unwrap_or(0) | 0x80,
    ];
    client.write(CONFIG, at + 8, &told)?;
    let command = client.read(CONFIG, 4, 1)?;
    ensure!(
        command == [0],
        "the command register holds {command:x?} after the reset"
    );
    let control = byte(&mut client, at + 9)?;
    ensure!(control & 0x80 == 0, "the bit that starts it reads as set");
    client.is_in_step().within("after the reset")
}
