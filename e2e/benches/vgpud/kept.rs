//! What it costs that another worker could go on with a vGPU, should its own die: against the same
//! worker without a keeper.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use e2e::Programs;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use crate::cpus::{Cpus, Pinned};
use crate::raw_client::{Access, Wait};
use crate::report::{Ratio, Report};
use crate::servers::{Contestant, Watchdog};
use crate::stats::median;

const PAGE: u64 = 4096;
const ROUNDS: usize = 7;
/// Turns that each takes in a round.
const SLICES: usize = 10;

/// Of an access to a region: nothing, as far as it can be measured.
const ACCESS: f64 = 1.03;
/// Of a mapping and its end.
const PAIR: f64 = 1.15;

/// For all of it.
const LIMIT: Duration = Duration::from_secs(300);

/// What is asked in turns.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Access(Access),
    /// Of a file that is mapped elsewhere too, or of one that is not.
    Pair {
        is_known: bool,
    },
}

const WORKS: [(Work, &str, &str); 4] = [
    (Work::Access(Access::Read), "read", "read, 4 bytes"),
    (Work::Access(Access::Write), "write", "write, 4 bytes"),
    (
        Work::Pair { is_known: true },
        "pair-known-file",
        "DMA_MAP and DMA_UNMAP of a file of which more is mapped",
    ),
    (
        Work::Pair { is_known: false },
        "pair-new-file",
        "DMA_MAP and DMA_UNMAP of a file of which nothing else is",
    ),
];

pub(crate) fn measure(
    programs: &Programs,
    cpus: &Cpus,
    quick: bool,
    report: &mut Report,
) -> anyhow::Result<()> {
    report.heading(
        "A vGPU that another worker could go on with, against one that none could",
        "on one CPU, --poll off; the keeper takes in what is parked on another",
    );
    let _pinned = Pinned::to(&[cpus.client])?;
    let memory = memfd_create("bench", MemfdFlags::CLOEXEC)?;
    ftruncate(&memory, 4 * PAGE)?;
    let mut servers = [
        Contestant::vgpu(programs, "off", &[cpus.client])?,
        Contestant::kept(programs, "off", &[cpus.client])?,
    ];
    let _watchdog = Watchdog::new(&servers, LIMIT)?;
    let times = if quick { 40 } else { 400 };
    for (work, key, name) in WORKS {
        if work == (Work::Pair { is_known: true }) {
            for server in &mut servers {
                server.client.map(&memory, 0, 0, PAGE)?;
            }
        } else if work == (Work::Pair { is_known: false }) {
            for server in &mut servers {
                server.client.unmap(0, PAGE)?;
            }
        }
        let mut medians = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            let mut took = [Vec::new(), Vec::new()];
            for slice in 0..SLICES {
                // Nobody always comes after the other.
                for turn in [slice % 2, 1 - slice % 2] {
                    do_work(&mut servers[turn], work, &memory, times, &mut took[turn])?;
                }
            }
            for (medians, took) in medians.iter_mut().zip(&took) {
                medians.push(median(took));
            }
        }
        let target = match work {
            Work::Access(_) => ACCESS,
            Work::Pair { .. } => PAIR,
        };
        report.ratio(&Ratio {
            name: format!("kept/{key}"),
            what: name.to_owned(),
            ours: &medians[1],
            floor: &medians[0],
            target: Some(target),
        });
    }
    Ok(())
}

fn do_work(
    server: &mut Contestant,
    work: Work,
    memory: &OwnedFd,
    times: usize,
    took: &mut Vec<f64>,
) -> anyhow::Result<()> {
    match work {
        Work::Access(access) => Ok(server.client.trips(access, Wait::Sleep, times, took)?),
        Work::Pair { .. } => {
            for _ in 0..times {
                let begin = Instant::now();
                server.client.map(memory, 2 * PAGE, 8 * PAGE, PAGE)?;
                server.client.unmap(8 * PAGE, PAGE)?;
                took.push(begin.elapsed().as_nanos() as f64);
            }
            Ok(())
        }
    }
}
