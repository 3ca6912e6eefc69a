//! DMA_UNMAP: which region it ends.

use super::{PAGE, UNMAP_SECTION, map, map_refused, unmap, unmap_refused};
use crate::check::{Check, Verdict, Within};
use crate::target::Target;

const fn check(name: &'static str, rule: &'static str, run: fn(&Target) -> Verdict) -> Check {
    Check {
        name,
        section: UNMAP_SECTION,
        rule,
        needs: &[],
        run,
    }
}

pub(super) const CHECKS: &[Check] = &[
    check(
        "dma_unmap_of_what_is_not_mapped_is_refused",
        "Address and size are those of a region that is mapped.",
        not_mapped,
    ),
    check(
        "dma_unmap_of_part_of_a_mapping_is_refused",
        "Address and size match a region exactly: a part of it does not.",
        part,
    ),
    check(
        "dma_unmap_of_more_than_a_mapping_is_refused",
        "Address and size match a region exactly: what contains it does not.",
        more,
    ),
    check(
        "dma_unmap_of_two_mappings_at_once_is_refused",
        "Address and size match one region exactly: two beside each other are not one.",
        two_at_once,
    ),
    check(
        "dma_unmap_a_second_time_is_refused",
        "What was unmapped is mapped no more.",
        a_second_time,
    ),
    check(
        "dma_unmap_of_no_bytes_is_refused",
        "No region has no bytes.",
        no_bytes,
    ),
    check(
        "dma_unmap_does_not_wrap",
        "No region goes past the last address.",
        does_not_wrap,
    ),
    check(
        "dma_unmap_leaves_the_other_mappings",
        "The regions around one that is unmapped stay.",
        leaves_the_others,
    ),
    check(
        "dma_map_again_after_an_unmap_works",
        "The addresses of an unmapped region can be mapped again, in other sizes too.",
        map_again,
    ),
    check(
        "dma_map_and_unmap_go_on_for_ever",
        "What is mapped and unmapped again leaves nothing behind that runs out.",
        for_ever,
    ),
];

const BASE: u64 = 0x10_0000;

fn not_mapped(target: &Target) -> Verdict {
    let mut client = target.client()?;
    unmap_refused(&mut client, BASE, PAGE).within("nothing is mapped")?;
    map(&mut client, BASE, PAGE)?;
    for (iova, size) in [
        (BASE + PAGE, PAGE),
        (BASE - PAGE, PAGE),
        (0, PAGE),
        (1 << 62, PAGE),
    ] {
        unmap_refused(&mut client, iova, size).within(&format!("{size:#x} at {iova:#x}"))?;
    }
    unmap(&mut client, BASE, PAGE)
}

/// Each of these pairs of first page and pages is refused while the pages 4 to 7 are mapped.
fn each_is_refused(target: &Target, pairs: &[(u64, u64)]) -> Verdict {
    let mut client = target.client()?;
    map(&mut client, BASE + 4 * PAGE, 4 * PAGE)?;
    for &(first, pages) in pairs {
        let place = format!("{pages} pages from page {first} on");
        unmap_refused(&mut client, BASE + first * PAGE, pages * PAGE).within(&place)?;
        map_refused(&mut client, BASE + 4 * PAGE, 4 * PAGE)
            .within(&place)
            .within("mapped again, and not refused")?;
    }
    unmap(&mut client, BASE + 4 * PAGE, 4 * PAGE).within("at last")
}

fn part(target: &Target) -> Verdict {
    each_is_refused(target, &[(4, 1), (4, 3), (5, 1), (5, 2), (5, 3), (7, 1)])
}

fn more(target: &Target) -> Verdict {
    each_is_refused(target, &[(3, 5), (4, 5), (3, 6), (0, 100), (3, 2), (7, 2)])
}

fn two_at_once(target: &Target) -> Verdict {
    let mut client = target.client()?;
    map(&mut client, BASE, PAGE)?;
    map(&mut client, BASE + PAGE, PAGE)?;
    unmap_refused(&mut client, BASE, 2 * PAGE)?;
    unmap(&mut client, BASE, PAGE).within("the first")?;
    unmap(&mut client, BASE + PAGE, PAGE).within("the second")
}

fn a_second_time(target: &Target) -> Verdict {
    let mut client = target.client()?;
    map(&mut client, BASE, PAGE)?;
    unmap(&mut client, BASE, PAGE)?;
    unmap_refused(&mut client, BASE, PAGE)
}

fn no_bytes(target: &Target) -> Verdict {
    let mut client = target.client()?;
    map(&mut client, BASE, PAGE)?;
    for iova in [0, BASE, BASE + PAGE] {
        unmap_refused(&mut client, iova, 0).within(&format!("at {iova:#x}"))?;
    }
    unmap(&mut client, BASE, PAGE)
}

fn does_not_wrap(target: &Target) -> Verdict {
    let mut client = target.client()?;
    map(&mut client, 0, PAGE)?;
    for (iova, size) in [
        (u64::MAX - PAGE + 1, 2 * PAGE),
        (PAGE, u64::MAX - PAGE + 1),
        (u64::MAX, u64::MAX),
    ] {
        unmap_refused(&mut client, iova, size).within(&format!("{size:#x} at {iova:#x}"))?;
    }
    unmap(&mut client, 0, PAGE)
}

fn leaves_the_others(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for place in 0..3 {
        map(&mut client, BASE + place * PAGE, PAGE)?;
    }
    unmap(&mut client, BASE + PAGE, PAGE)?;
    for place in [0, 2] {
        map_refused(&mut client, BASE + place * PAGE, PAGE)
            .within(&format!("region {place} is gone"))?;
        unmap(&mut client, BASE + place * PAGE, PAGE)?;
    }
    Ok(())
}

fn map_again(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for pages in [(0, 4), (0, 1), (1, 3), (0, 8)] {
        let (iova, size) = (BASE + pages.0 * PAGE, pages.1 * PAGE);
        map(&mut client, iova, size).within(&format!("{size:#x} at {iova:#x}"))?;
        unmap(&mut client, iova, size)?;
    }
    Ok(())
}

fn for_ever(target: &Target) -> Verdict {
    let mut client = target.client()?;
    for round in 0..3000 {
        let iova = BASE + round % 7 * PAGE;
        map(&mut client, iova, 4 * PAGE).within(&format!("round {round}"))?;
        unmap(&mut client, iova, 4 * PAGE).within(&format!("round {round}"))?;
    }
    Ok(())
}
