//! Long rows of maps and unmaps, held against a list that is searched from end to end.

use std::os::fd::{AsFd, OwnedFd};

use vfu::wire::Command;

use super::{BOTH, MAP_SECTION, PAGE, UNMAP_SECTION, memory};
use crate::check::{Check, Unmet, Verdict, Within};
use crate::connection::Answer;
use crate::ensure;
use crate::negotiated::Client;
use crate::payload::dma;
use crate::target::Target;

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "dma_map_and_unmap_agree_with_a_list_over_a_long_walk",
        section: MAP_SECTION,
        rule: "Whatever was mapped and unmapped before, only an overlap and an inexact unmap fail.",
        needs: &[],
        run: small_walk,
    },
    Check {
        name: "dma_map_and_unmap_of_files_agree_with_a_list_over_a_long_walk",
        section: MAP_SECTION,
        rule: "Files change nothing about which regions can be mapped and unmapped.",
        needs: &[],
        run: file_walk,
    },
    Check {
        name: "dma_unmap_finds_each_of_many_mappings",
        section: UNMAP_SECTION,
        rule: "Each of a thousand regions far apart is found, in whatever order they are unmapped.",
        needs: &[],
        run: many_far_apart,
    },
];

/// Numbers that are the same in every run.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// The next one, less than `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % end.max(1)
    }
}

/// Whether the server did what was asked for.
fn is_done(
    client: &mut Client,
    command: Command,
    payload: &[u8],
    file: Option<&OwnedFd>,
) -> Result<bool, Unmet> {
    let fds: Vec<_> = file.into_iter().map(AsFd::as_fd).collect();
    match client.connection.ask(command as u16, payload, &fds)? {
        Answer::Success(_) => Ok(true),
        Answer::Refused(_) => Ok(false),
        Answer::Closed => Err(Unmet::fail("the connection was closed")),
    }
}

/// Maps and unmaps at random in so many pages.
fn walk(target: &Target, pages: u64, steps: u32, file: Option<&OwnedFd>) -> Verdict {
    let mut client = target.client()?;
    let mut numbers = Numbers::new(pages * 0x1234_5677);
    let mut mapped: Vec<(u64, u64)> = Vec::new();
    for step in 0..steps {
        let first = numbers.below(pages);
        let count = 1 + numbers.below(5);
        let known = usize::try_from(numbers.below(mapped.len() as u64)).unwrap_or(0);
        // Half of the unmaps name a region that there is.
        let (first, count) = match mapped.get(known) {
            Some(known) if step % 4 == 1 => *known,
            _ => (first, count),
        };
        let (iova, size) = (first * PAGE, count * PAGE);
        if step % 2 == 0 {
            let end = first + count;
            let is_free = mapped
                .iter()
                .all(|(at, len)| at + len <= first || end <= *at);
            let offset = if file.is_some() { iova } else { 0 };
            let payload = dma(32, BOTH, &[offset, iova, size]);
            let is_mapped = is_done(&mut client, Command::DmaMap, &payload, file)?;
            ensure!(
                is_mapped == is_free,
                "step {step}: {count} pages at {first} were {}, with {mapped:?} mapped",
                if is_mapped { "mapped" } else { "refused" }
            );
            if is_free {
                mapped.push((first, count));
            }
        } else {
            let place = mapped.iter().position(|it| *it == (first, count));
            let payload = dma(24, 0, &[iova, size]);
            let is_unmapped = is_done(&mut client, Command::DmaUnmap, &payload, None)?;
            ensure!(
                is_unmapped == place.is_some(),
                "step {step}: {count} pages at {first} were {}, with {mapped:?} mapped",
                if is_unmapped { "unmapped" } else { "refused" }
            );
            if let Some(place) = place {
                mapped.swap_remove(place);
            }
        }
    }
    Ok(())
}

fn small_walk(target: &Target) -> Verdict {
    walk(target, 16, 2000, None)?;
    walk(target, 200, 2000, None)
}

fn file_walk(target: &Target) -> Verdict {
    let file = memory(64)?;
    walk(target, 48, 2000, Some(&file))
}

fn many_far_apart(target: &Target) -> Verdict {
    const COUNT: u64 = 1000;
    let mut client = target.client()?;
    // 37 is prime to 1000: all of them, in another order.
    let iova = |n: u64| (n * 37 % COUNT) * (3 << 20);
    for n in 0..COUNT {
        let payload = dma(32, BOTH, &[0, iova(n), PAGE + n % 3 * PAGE]);
        client
            .accepts(Command::DmaMap, &payload)
            .within(&format!("region {n}"))?;
    }
    for n in (0..COUNT).rev() {
        let entry = dma(24, 0, &[iova(n), PAGE + n % 3 * PAGE]);
        client
            .accepts(Command::DmaUnmap, &entry)
            .within(&format!("region {n}"))?;
    }
    Ok(())
}
