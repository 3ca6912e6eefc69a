//! DMA to memory that came with a file. On edu. Whether a server maps it or asks by message is
//! its choice: the bytes are in the file either way.

use rustix::fs::{SealFlags, fcntl_add_seals};

use super::{BOTH, MAP_SECTION, PAGE, READ};
use crate::check::{Check, Unmet, Verdict, Within};
use crate::devices::edu::Way;
use crate::ensure;
use crate::feature::Feature;
use crate::guest::Guest;
use crate::target::Target;

const fn check(name: &'static str, rule: &'static str, run: fn(&Target) -> Verdict) -> Check {
    Check {
        name,
        section: MAP_SECTION,
        rule,
        needs: &[Feature::Edu],
        run,
    }
}

pub(super) const CHECKS: &[Check] = &[
    check(
        "dma_write_lands_in_the_file",
        "What the device writes is in the file, at offset plus distance from the address.",
        lands_in_the_file,
    ),
    check(
        "dma_read_takes_from_the_file",
        "What the device reads is what the file holds at that time.",
        takes_from_the_file,
    ),
    check(
        "dma_slices_of_one_file_are_told_apart",
        "Each region is its own part of the file, in whatever order they came.",
        slices,
    ),
    check(
        "dma_does_not_write_a_readable_region_of_a_file",
        "A region that is not writable stays as it is, though its file could be written.",
        readable_region,
    ),
    check(
        "dma_reads_a_write_sealed_file",
        "A readable region is read, though its file cannot be written.",
        write_sealed,
    ),
    check(
        "dma_after_an_unmap_leaves_the_file_alone",
        "Once DMA_UNMAP was answered the file is neither read nor written.",
        after_unmap,
    ),
    check(
        "dma_without_bus_mastering_leaves_the_file_alone",
        "A PCI device masters the bus only while its command register allows it.",
        without_mastering,
    ),
    check(
        "dma_past_the_end_of_a_region_leaves_the_file_alone",
        "What the file holds around a region is not the device's.",
        past_the_end,
    ),
    check(
        "dma_after_a_reset_needs_bus_mastering_again",
        "A reset clears the command register, and with it what the device may do.",
        after_reset,
    ),
];

/// What the device's buffer is filled with.
const DATA: &[u8; 16] = b"sixteen bytes ok";

/// A guest whose pages hold their number; 0 to 3 are mapped.
fn guest(target: &Target, is_believed: bool) -> Result<Guest, Unmet> {
    let mut guest = if is_believed {
        Guest::believed(target, 16)?
    } else {
        Guest::new(target, 16)?
    };
    for page in 0..16 {
        guest.put(page * PAGE, &[0x10 + page as u8; PAGE as usize])?;
    }
    guest.map_shared(0, 4)?;
    guest.fill(0, DATA)?;
    Ok(guest)
}

/// Only `at..at + 16` differs from `before`, and there the data is.
fn only_written(guest: &Guest, before: &[u8], at: Option<u64>) -> Verdict {
    let after = guest.look(0, before.len())?;
    let mut expected = before.to_vec();
    if let Some(at) = at.and_then(|at| usize::try_from(at).ok())
        && let Some(place) = expected.get_mut(at..at + DATA.len())
    {
        place.copy_from_slice(DATA);
    }
    let differs = after.iter().zip(&expected).position(|(a, b)| a != b);
    ensure!(
        differs.is_none(),
        "the file is not as it should be from {:#x} on",
        differs.unwrap_or(0)
    );
    Ok(())
}

fn lands_in_the_file(target: &Target) -> Verdict {
    for is_believed in [true, false] {
        let mut guest = guest(target, is_believed)?;
        guest.map_file(BOTH, [5 * PAGE, 9 * PAGE, 2 * PAGE])?;
        let before = guest.look(0, 16 * PAGE as usize)?;
        guest.transfer(Way::ToRam, 3 * PAGE + 40, 16)?;
        only_written(&guest, &before, Some(3 * PAGE + 40))?;
        if is_believed {
            // By message its address would be another part of the file.
            let before = guest.look(0, 16 * PAGE as usize)?;
            let served = guest.transfer(Way::ToRam, 10 * PAGE - 8, 16)?;
            if served.is_empty() {
                only_written(&guest, &before, Some(6 * PAGE - 8))?;
            }
        }
    }
    Ok(())
}

fn takes_from_the_file(target: &Target) -> Verdict {
    for is_believed in [true, false] {
        let mut guest = guest(target, is_believed)?;
        for round in 0..3 {
            let data = [round + 1; 16];
            guest.put(2 * PAGE + 4, &data)?;
            guest.transfer(Way::FromRam, 2 * PAGE + 4, 16)?;
            guest.transfer(Way::ToRam, PAGE, 16)?;
            let seen = guest.look(PAGE, 16)?;
            ensure!(seen == data, "{seen:x?} was read for {data:x?}");
        }
    }
    Ok(())
}

fn slices(target: &Target) -> Verdict {
    let mut guest = guest(target, true)?;
    guest.unmap(0, 4)?;
    // Backwards, with gaps.
    for slice in [3, 0, 5, 1, 7] {
        let numbers = [(15 - slice) * PAGE, 2 * slice * PAGE, PAGE];
        guest.map_file(BOTH, numbers)?;
    }
    // The last one takes what comes back.
    for slice in [0, 1, 3, 5] {
        let served = guest.transfer(Way::FromRam, 2 * slice * PAGE + 8, 16)?;
        if !served.is_empty() {
            return Err(Unmet::Skip("DMA to mapped memory at once".to_owned()));
        }
        guest.transfer(Way::ToRam, 14 * PAGE, 16)?;
        let seen = guest.look(8 * PAGE, 1)?;
        ensure!(
            seen == [0x1f - slice as u8],
            "the page of slice {slice} holds {seen:x?}"
        );
    }
    Ok(())
}

fn readable_region(target: &Target) -> Verdict {
    let mut guest = guest(target, true)?;
    guest.map_file(READ, [8 * PAGE, 8 * PAGE, 4 * PAGE])?;
    let before = guest.look(0, 16 * PAGE as usize)?;
    guest.transfer(Way::ToRam, 9 * PAGE, 16)?;
    only_written(&guest, &before, None)?;
    guest.transfer(Way::FromRam, 9 * PAGE, 16)?;
    guest.transfer(Way::ToRam, 0, 16)?;
    ensure!(guest.look(0, 16)? == [0x19; 16], "it cannot be read");
    Ok(())
}

fn write_sealed(target: &Target) -> Verdict {
    let mut guest = Guest::believed(target, 4)?;
    guest.put(PAGE, &[0x42; 16])?;
    fcntl_add_seals(&guest.ram, SealFlags::WRITE)?;
    guest.map_file(READ, [0, 0, 4 * PAGE])?;
    guest.transfer(Way::FromRam, PAGE, 16)?;
    // Elsewhere, since this file takes nothing.
    guest.ram = super::memory(16)?;
    guest.map_shared(8, 4)?;
    guest.transfer(Way::ToRam, 9 * PAGE, 16)?;
    let seen = guest.look(9 * PAGE, 16)?;
    ensure!(seen == [0x42; 16], "the device has read {seen:x?}");
    Ok(())
}

fn after_unmap(target: &Target) -> Verdict {
    let mut guest = guest(target, true)?;
    guest.map_shared(8, 2)?;
    guest.transfer(Way::ToRam, 8 * PAGE, 16)?;
    guest.unmap(8, 2)?;
    let before = guest.look(0, 16 * PAGE as usize)?;
    for at in [8 * PAGE + 32, 9 * PAGE] {
        guest.transfer(Way::ToRam, at, 16)?;
        only_written(&guest, &before, None)?;
    }
    guest.transfer(Way::ToRam, PAGE, 16)?;
    only_written(&guest, &before, Some(PAGE)).within("another region")
}

fn without_mastering(target: &Target) -> Verdict {
    let mut guest = guest(target, true)?;
    let before = guest.look(0, 16 * PAGE as usize)?;
    guest.master(false)?;
    guest.transfer(Way::ToRam, PAGE, 16)?;
    only_written(&guest, &before, None)?;
    guest.master(true)?;
    guest.transfer(Way::ToRam, PAGE, 16)?;
    only_written(&guest, &before, Some(PAGE)).within("switched on again")
}

fn past_the_end(target: &Target) -> Verdict {
    let mut guest = guest(target, true)?;
    let before = guest.look(4 * PAGE, 12 * PAGE as usize)?;
    for at in [4 * PAGE - 8, 4 * PAGE - 1, 4 * PAGE] {
        guest.transfer(Way::ToRam, at, 16)?;
        ensure!(
            guest.look(4 * PAGE, 12 * PAGE as usize)? == before,
            "a transfer to {at:#x} wrote beyond the region's end"
        );
    }
    Ok(())
}

fn after_reset(target: &Target) -> Verdict {
    let mut guest = guest(target, true)?;
    guest.client.reset()?;
    let before = guest.look(0, 16 * PAGE as usize)?;
    // The buffer is empty now, and zeros would be seen.
    guest.transfer(Way::ToRam, PAGE, 16)?;
    only_written(&guest, &before, None)?;
    guest.master(true)?;
    guest.fill(2 * PAGE, DATA)?;
    guest.transfer(Way::ToRam, PAGE, 16)?;
    only_written(&guest, &before, Some(PAGE)).within("switched on again")
}
