//! DMA_MAP with a file descriptor and DMA_UNMAP, as pairs, while few or many slices of the same file
//! are mapped: against a bare ping-pong, and against the same with one slice mapped.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::Context;
use e2e::Programs;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use serde_json::json;

use crate::cpus::{Cpus, Pinned};
use crate::peers::Peer;
use crate::proc;
use crate::raw_client::{Access, Wait};
use crate::report::{Ratio, Report};
use crate::servers::{Contestant, Watchdog};
use crate::stats::median;

const PAGE: u64 = 4096;

/// Between two slices there is a page that is not mapped.
const STRIDE: u64 = 2 * PAGE;

/// Slices that are mapped before the pairs begin.
const LEVELS: [u64; 4] = [1, 1024, 65_000, 1_000_000];

const ROUNDS: usize = 5;

/// Of a pair to a round trip of the floor; libvfio-user takes 4.3, a program that does nothing but
/// the same checks 2.2.
const FLOORS: f64 = 2.9;

/// Of a pair with the most slices mapped to one with the fewest.
const GROWTH: f64 = 1.3;

/// Most bytes of the server for a slice.
const SLICE_BYTES: f64 = 200.0;

/// For all of it. A million mappings take some seconds.
const LIMIT: Duration = Duration::from_secs(300);

pub(crate) fn measure(
    programs: &Programs,
    cpus: &Cpus,
    quick: bool,
    report: &mut Report,
) -> anyhow::Result<()> {
    let levels: Vec<u64> = LEVELS
        .into_iter()
        .map(|level| if quick { level.min(2000) } else { level })
        .collect();
    let pairs = if quick { 200 } else { 4000 };
    report.heading(
        "DMA_MAP and DMA_UNMAP, a pair, on one CPU, against one round trip of a bare ping-pong",
        "slices of 4 KiB of one memfd, a descriptor with each, --poll off",
    );
    let _pinned = Pinned::to(&[cpus.client])?;
    let most = levels.last().copied().unwrap_or(1);
    let memory = memfd_create("bench", MemfdFlags::CLOEXEC)?;
    ftruncate(&memory, (most + 1) * PAGE)?;
    let mut servers = vec![
        Contestant::peer(Peer::Floor, &[cpus.client])?,
        Contestant::peer(Peer::BareMaps, &[cpus.client])?,
    ];
    for _ in &levels {
        servers.push(Contestant::vgpu(programs, "off", &[cpus.client])?);
    }
    let _watchdog = Watchdog::new(&servers, LIMIT)?;
    let mut bytes = Vec::new();
    for (server, &level) in servers[2..].iter_mut().zip(&levels) {
        let before = proc::resident_bytes(server.pid())?;
        for slice in 0..level {
            server
                .client
                .map(&memory, slice * PAGE, slice * STRIDE, PAGE)?;
        }
        let after = proc::resident_bytes(server.pid())?;
        bytes.push(after.saturating_sub(before) as f64 / level as f64);
    }
    let taken = take_turns(&mut servers, &levels, &memory, pairs)?;
    show(&levels, &taken, report);
    let per_slice = bytes.last().copied().unwrap_or_default();
    let verdict = report.judge((!quick).then_some(per_slice <= SLICE_BYTES));
    report.line(&format!(
        "{most} slices: {per_slice:.0} bytes of the server each, ≤ {SLICE_BYTES} {verdict}"
    ));
    report.add(
        "dma_slice_bytes",
        json!({ "slices": most, "bytes": per_slice, "target": SLICE_BYTES, "verdict": verdict }),
    );
    Ok(())
}

/// For the floor, the bare checks and then each level, the median nanoseconds of each round.
fn take_turns(
    servers: &mut [Contestant],
    levels: &[u64],
    memory: &OwnedFd,
    pairs: usize,
) -> anyhow::Result<Vec<Vec<f64>>> {
    let mut taken = vec![Vec::new(); servers.len()];
    for _ in 0..ROUNDS {
        let (floor, ours) = servers.split_first_mut().context("no floor")?;
        let mut trips = Vec::new();
        floor
            .client
            .trips(Access::Read, Wait::Sleep, pairs, &mut trips)?;
        taken[0].push(median(&trips));
        // The first of them keeps no mappings, so any level will do.
        let levels = std::iter::once(&1).chain(levels);
        for ((server, &level), taken) in ours.iter_mut().zip(levels).zip(&mut taken[1..]) {
            let mut took = Vec::new();
            for _ in 0..pairs {
                let begin = Instant::now();
                let (offset, iova) = (level * PAGE, level * STRIDE);
                server.client.map(memory, offset, iova, PAGE)?;
                server.client.unmap(iova, PAGE)?;
                took.push(begin.elapsed().as_nanos() as f64);
            }
            taken.push(median(&took));
        }
    }
    Ok(taken)
}

fn show(levels: &[u64], taken: &[Vec<f64>], report: &mut Report) {
    let [floor, bare, ours @ ..] = taken else {
        return;
    };
    report.ratio(&Ratio {
        name: "dma-pair/bare".to_owned(),
        what: "a program that does nothing but the checks".to_owned(),
        ours: bare,
        floor,
        target: None,
    });
    for (level, ours) in levels.iter().zip(ours) {
        report.ratio(&Ratio {
            name: format!("dma-pair/{level}"),
            what: format!("{level} slices mapped"),
            ours,
            floor,
            target: Some(FLOORS),
        });
    }
    if let ([few, .., many], [_, .., most]) = (ours, levels) {
        report.ratio(&Ratio {
            name: "dma-pair/growth".to_owned(),
            what: format!("{most} slices mapped, against 1"),
            ours: many,
            floor: few,
            target: Some(GROWTH),
        });
    }
}
