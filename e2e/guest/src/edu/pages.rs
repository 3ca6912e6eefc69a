//! Pages of this process, and where they are in physical memory.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::mapping::Mapping;
use crate::Failure;

pub(super) const PAGE: usize = 4096;

/// An entry of `/proc/PID/pagemap` (`admin-guide/mm/pagemap.rst`): the page is in memory, and its
/// frame's number. Without the privilege to see it, that is zero.
const PRESENT: u64 = 1 << 63;
const FRAME: u64 = (1 << 55) - 1;

/// Locked pages.
pub(super) struct Pages {
    memory: Mapping,
    runs: Vec<Run>,
}

/// Pages that are neighbours in physical memory, as they are in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Where the run begins in this process's pages.
    pub(super) start: usize,
    pub(super) len: usize,
    physical: u64,
}

impl Run {
    /// The physical address of what is at `at`, counted from the beginning of the pages.
    pub(super) fn physical(&self, at: usize) -> u64 {
        self.physical + (at - self.start) as u64
    }
}

impl Pages {
    /// Takes `count` pages, and of these keeps the ones that lie in a range of physical memory.
    pub(super) fn new(count: usize, within: &Range<u64>) -> Result<Self, Failure> {
        let memory = Mapping::locked(count * PAGE)?;
        let runs = runs(&memory, within)?;
        if runs.is_empty() {
            return Err(format!("of {count} pages, none is in {within:#x?}").into());
        }
        Ok(Self { memory, runs })
    }

    /// The pages' content.
    pub(super) fn memory(&self) -> &Mapping {
        &self.memory
    }

    /// The pages' places.
    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Says so if the kernel has moved a page: transfers went to one that is no longer ours.
    pub(super) fn check_unmoved(&self) -> Result<(), Failure> {
        let now = runs(&self.memory, &(0..u64::MAX))?;
        let is_there = |run: &Run| {
            now.iter().any(|now| {
                let end = now.start + now.len;
                (now.start..end).contains(&run.start)
                    && run.start + run.len <= end
                    && now.physical(run.start) == run.physical
            })
        };
        if self.runs.iter().all(is_there) {
            Ok(())
        } else {
            Err("the kernel has moved a page".into())
        }
    }
}

/// Asks the kernel where a mapping's pages are.
fn runs(memory: &Mapping, within: &Range<u64>) -> Result<Vec<Run>, Failure> {
    let mut entries = vec![0; memory.len() / PAGE * 8];
    let first = memory.address() / PAGE * 8;
    File::open("/proc/self/pagemap")?.read_exact_at(&mut entries, first as u64)?;
    let (entries, _) = entries.as_chunks();
    join(entries.iter().copied().map(u64::from_le_bytes), within)
}

/// Joins pages that are neighbours in both memories.
fn join(entries: impl Iterator<Item = u64>, within: &Range<u64>) -> Result<Vec<Run>, Failure> {
    let mut runs: Vec<Run> = Vec::new();
    for (n, entry) in entries.enumerate() {
        let (start, physical) = (n * PAGE, (entry & FRAME) * PAGE as u64);
        if entry & PRESENT == 0 || physical == 0 {
            return Err(format!("page {n} is at no known place: {entry:#x}").into());
        }
        if !within.contains(&physical) {
            continue;
        }
        match runs.last_mut() {
            Some(run) if run.start + run.len == start && run.physical(start) == physical => {
                run.len += PAGE;
            }
            _ => runs.push(Run {
                start,
                len: PAGE,
                physical,
            }),
        }
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join_frames(frames: &[u64], within: Range<u64>) -> Vec<(usize, usize, u64)> {
        let entries = frames.iter().map(|frame| PRESENT | frame);
        let runs = join(entries, &within).unwrap();
        let pages = |run: &Run| (run.start / PAGE, run.len / PAGE, run.physical / PAGE as u64);
        runs.iter().map(pages).collect()
    }

    #[test]
    fn a_run_is_of_neighbours_in_both_memories() {
        let frames = [7, 8, 9, 3, 2, 20, 22, 23];
        let joined = join_frames(&frames, 0..u64::MAX);
        let expected = [(0, 3, 7), (3, 1, 3), (4, 1, 2), (5, 1, 20), (6, 2, 22)];
        assert_eq!(joined, expected);
        let page = PAGE as u64;
        let joined = join_frames(&frames, 8 * page..23 * page);
        assert_eq!(joined, [(1, 2, 8), (5, 1, 20), (6, 1, 22)]);
    }

    #[test]
    fn a_page_without_a_place_is_an_error() {
        for entry in [0, 5, PRESENT] {
            assert!(join([entry].into_iter(), &(0..u64::MAX)).is_err());
        }
    }
}
