//! The virtio GPU: a whole frame transferred and flushed, against `memcpy` of the same bytes; and
//! the smallest command there and back, against a bare ping-pong of messages.

use std::time::{Duration, Instant};

use e2e::Programs;
use serde_json::json;

use crate::cpus::{Cpus, Pinned};
use crate::gpu_driver::{FREE, GpuDriver, Ram, command};
use crate::peers::Peer;
use crate::raw_client::{Access, Wait};
use crate::report::{Ratio, Report};
use crate::servers::{Contestant, Watchdog};
use crate::stats::{median, percentile_99};

const TYPE: &str = "gpu-2d-hd";
const WIDTH: u32 = 1920;
const HEIGHT: u32 = 1080;
const FRAME: usize = (WIDTH * HEIGHT * 4) as usize;
const PAGE: usize = 4096;
const PAGES: usize = FRAME.div_ceil(PAGE);

/// Commands and answers.
const DISPLAY_INFO: u32 = 0x100;
const CREATE: u32 = 0x101;
const SCANOUT: u32 = 0x103;
const FLUSH: u32 = 0x104;
const TRANSFER: u32 = 0x105;
const ATTACH: u32 = 0x106;
const OK: u32 = 0x1100;
const OK_DISPLAY_INFO: u32 = 0x1101;

const ROUNDS: usize = 7;
/// Frames and pings of a round.
const FRAMES: usize = 20;
const PINGS: usize = 2000;

/// Of the time to the time of `memcpy`: 85 % of its speed.
const TARGET: f64 = 1.0 / 0.85;

/// For all of it.
const LIMIT: Duration = Duration::from_secs(300);

pub(crate) fn measure(
    programs: &Programs,
    cpus: &Cpus,
    quick: bool,
    report: &mut Report,
) -> anyhow::Result<()> {
    let Some(other) = cpus.other else {
        report.heading("The GPU of virtio", "not measured: there is one CPU");
        return Ok(());
    };
    let frames = if quick { 3 } else { FRAMES };
    measure_frames(programs, (cpus.client, other), frames, report)?;
    let pings = if quick { 100 } else { PINGS };
    measure_pings(programs, (cpus.client, other), pings, report)
}

/// Places of the pages of a scattered frame, in its order.
fn scattered() -> Vec<usize> {
    let mut order: Vec<usize> = (0..PAGES).collect();
    let mut random = 4711_u64;
    for at in (1..order.len()).rev() {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        order.swap(at, (random >> 33) as usize % (at + 1));
    }
    order.iter().map(|page| FREE + page * PAGE).collect()
}

/// Two resources of a frame's size: of one piece of memory, and of scattered pages of the same.
fn set_up(driver: &mut GpuDriver) -> anyhow::Result<()> {
    let whole = vec![(FREE, FRAME)];
    let pages = scattered().into_iter().map(|at| (at, PAGE)).collect();
    for (id, entries) in [(1, whole), (2, pages)] {
        driver.ask(&command(CREATE, &[id, 1, WIDTH, HEIGHT]), OK)?;
        // What is said of so many entries is longer than a slot of the ring.
        let mut attach = command(ATTACH, &[id, entries.len() as u32]);
        for (at, len) in &entries {
            attach.extend((*at as u64).to_le_bytes());
            attach.extend((*len as u64).to_le_bytes());
        }
        driver.ask(&attach, OK)?;
        driver.ask(&command(SCANOUT, &[0, 0, WIDTH, HEIGHT, 0, id]), OK)?;
    }
    Ok(())
}

/// Transfers and flushes frames that are told of at once; nanoseconds of each.
fn frames_at_once(driver: &mut GpuDriver, id: u32, count: u32) -> anyhow::Result<f64> {
    let transfer = command(TRANSFER, &[0, 0, WIDTH, HEIGHT, 0, 0, id, 0]);
    let flush = command(FLUSH, &[0, 0, WIDTH, HEIGHT, id, 0]);
    let begin = Instant::now();
    for _ in 0..count {
        driver.offer(&transfer, 24);
        driver.offer(&flush, 24);
    }
    driver.kick()?;
    driver.wait(Wait::Poll)?;
    let took = begin.elapsed().as_nanos() as f64;
    driver.check_last(OK)?;
    Ok(took / f64::from(count))
}

fn measure_frames(
    programs: &Programs,
    (client, other): (usize, usize),
    frames: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    report.heading(
        "A frame of 1920x1080, transferred and flushed, against memcpy of the same bytes",
        &format!(
            "the driver on CPU {client}; worker and memcpy on CPU {other}, in turns; the worker's \
             time has the way there and back in it"
        ),
    );
    let server = Contestant::vgpu_of(TYPE, programs, "off", &[other])?;
    let _watchdog = Watchdog::new(std::slice::from_ref(&server), LIMIT)?;
    let (_process, raw) = server.into_client();
    let _pinned = Pinned::to(&[client])?;
    let mut driver = GpuDriver::new(raw, FREE + 2 * FRAME)?;
    set_up(&mut driver)?;
    let medians = frame_turns(&mut driver, other, frames)?;
    let [whole, pages, many, many_pages, floor, floor_pages] = &medians;
    for (name, what, ours, floor, target) in [
        ("whole", "one piece of memory", whole, floor, Some(TARGET)),
        ("pages", "scattered pages", pages, floor, Some(TARGET)),
        (
            "pages-alike",
            "scattered pages, against a memcpy of each",
            pages,
            floor_pages,
            None,
        ),
        ("whole-8", "8 at once, one piece", many, floor, None),
        (
            "pages-8",
            "8 at once, scattered pages",
            many_pages,
            floor,
            None,
        ),
    ] {
        report.ratio(&Ratio {
            name: format!("gpu-frame/{name}"),
            what: what.to_owned(),
            ours,
            floor,
            target,
        });
    }
    Ok(())
}

/// The median of each round: of frames of one piece and of pages, of 8 such that are told of at
/// once, and of copies alike on the worker's CPU.
fn frame_turns(
    driver: &mut GpuDriver,
    other: usize,
    frames: usize,
) -> anyhow::Result<[Vec<f64>; 6]> {
    // As warm as the worker's, who has one for each as well.
    let [copy, copy_of_pages] = [Ram::new(FRAME + PAGE)?, Ram::new(FRAME + PAGE)?];
    let pages = scattered();
    let mut medians = [const { Vec::new() }; 6];
    for _ in 0..ROUNDS {
        let mut took = [const { Vec::new() }; 6];
        for turn in 0..frames {
            // A guest has drawn it anew.
            let drawn = vec![turn as u8; FRAME];
            for (number, (id, count)) in [(1, 1), (2, 1), (1, 8), (2, 8)].into_iter().enumerate() {
                driver.ram.put(FREE, &drawn);
                took[number].push(frames_at_once(driver, id, count)?);
            }
            driver.ram.put(FREE, &drawn);
            let there = Pinned::to(&[other])?;
            let begin = Instant::now();
            driver.ram.copy_to(FREE, &copy, 0, FRAME);
            took[4].push(begin.elapsed().as_nanos() as f64);
            drop(there);
            driver.ram.put(FREE, &drawn);
            let there = Pinned::to(&[other])?;
            let begin = Instant::now();
            for (number, at) in pages.iter().enumerate() {
                driver.ram.copy_to(*at, &copy_of_pages, number * PAGE, PAGE);
            }
            took[5].push(begin.elapsed().as_nanos() as f64);
            drop(there);
        }
        for (medians, took) in medians.iter_mut().zip(&took) {
            medians.push(median(took));
        }
    }
    Ok(medians)
}

/// So many pings; how long each took.
fn ping(driver: &mut GpuDriver, wait: Wait, count: usize) -> anyhow::Result<Vec<f64>> {
    let ping = command(DISPLAY_INFO, &[]);
    let mut took = Vec::with_capacity(count);
    for _ in 0..count {
        let begin = Instant::now();
        driver.offer(&ping, 408);
        driver.kick()?;
        driver.wait(wait)?;
        took.push(begin.elapsed().as_nanos() as f64);
        driver.check_last(OK_DISPLAY_INFO)?;
    }
    Ok(took)
}

/// How a ping is waited for, and the worker's polling.
const WAYS: [(&str, Wait, &str); 4] = [
    ("off", Wait::Sleep, "both sleep"),
    ("off", Wait::Poll, "the driver polls"),
    ("auto", Wait::Sleep, "--poll auto, the driver sleeps"),
    ("auto", Wait::Poll, "--poll auto, the driver polls"),
];

fn measure_pings(
    programs: &Programs,
    (client, other): (usize, usize),
    pings: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    report.heading(
        "GET_DISPLAY_INFO there and back, against a bare ping-pong of messages where both sleep",
        &format!(
            "client on CPU {client}, worker and floor on CPU {other}; with --poll auto the worker \
             is put there before each turn, and free to leave"
        ),
    );
    let both = [client, other];
    let mut floor = Contestant::peer(Peer::Floor, &[other])?;
    let mut drivers = Vec::new();
    for (poll, _, _) in WAYS {
        let cpus = if poll == "off" { &both[1..] } else { &both[..] };
        let server = Contestant::vgpu_of(TYPE, programs, poll, cpus)?;
        let (process, raw) = server.into_client();
        drivers.push((process, GpuDriver::new(raw, FREE)?));
    }
    let _pinned = Pinned::to(&[client])?;
    let mut middles = vec![Vec::new(); WAYS.len() + 1];
    let mut tails = middles.clone();
    let mut told = vec![0; WAYS.len()];
    for _ in 0..ROUNDS {
        let mut took = Vec::new();
        floor
            .client
            .trips(Access::Read, Wait::Sleep, pings, &mut took)?;
        middles[0].push(median(&took));
        tails[0].push(percentile_99(&took));
        for (number, (_, wait, _)) in WAYS.iter().enumerate() {
            let (process, driver) = &mut drivers[number];
            process.hold_to(&[other])?;
            ping(driver, *wait, pings / 10)?;
            process.let_go()?;
            let before = driver.notifications;
            let took = ping(driver, *wait, pings)?;
            told[number] += driver.notifications - before;
            middles[number + 1].push(median(&took));
            tails[number + 1].push(percentile_99(&took));
        }
    }
    for (number, (poll, wait, what)) in WAYS.iter().enumerate() {
        for (part, series) in [("p50", &middles), ("p99", &tails)] {
            report.ratio(&Ratio {
                name: format!("gpu-ping/{poll}/{wait:?}/{part}").to_lowercase(),
                what: format!("{part}: {what}"),
                ours: &series[number + 1],
                floor: &series[0],
                target: None,
            });
        }
    }
    let all = (ROUNDS * pings) as f64;
    let told: Vec<_> = told.iter().map(|told| *told as f64 / all).collect();
    report.line(&format!("notifications for each ping: {told:.2?}"));
    report.add("gpu_ping_notifications", json!(told));
    Ok(())
}
