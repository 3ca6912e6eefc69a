//! How fast vgpud is, as ratios to something else measured in the same run.
//!
//! `./x bench`, or `./x bench -- --quick`, or `./x bench -- round-trips`. The parts, as they run:
//!
//! - [`round_trips`]: a register access against a bare ping-pong of messages of those sizes, and
//!   against the crate `vfio_user`.
//! - [`dma_maps`]: mapping and unmapping guest memory, with few and with many mappings.
//! - [`kept`]: what it costs that another worker could go on; and with it [`replaced`]: how long a
//!   client waits for one.
//! - [`gpu`]: a frame of the virtio GPU against `memcpy`, and its smallest command.
//! - [`idle`]: what a silent client costs.
//! - [`instances`]: what 256 vGPUs cost at once, and how fast they come and go; and with them
//!   [`ready`]: how soon one is there.
//! - [`viewer`]: what a VNC viewer costs a guest that draws.
//! - [`shares`]: how well several vGPUs share an engine, and what that costs.
//! - [`redraw`]: frames of a guest on the virtio GPU against QEMU's own.
//! - [`host`]: a physical device, in a guest that has one.
//! - [`slices`]: frames into a slice of a physical display's memory, in each way, against that memory.
//! - [`first_picture`]: a guest's boot against QEMU's own `bochs-display`.
//!
//! How guest memory is found and copied is measured inside one process, by `cargo bench -p mdev`,
//! which `./x bench` runs first; its figures become part of the summary.
//!
//! And what they stand on:
//!
//! - [`raw_client`]: a client that does nothing but send and receive; [`gpu_driver`]: a driver of a
//!   GPU on it.
//! - [`spinner`]: a client that has an engine be busy.
//! - [`servers`]: what it talks to, each in a process of its own; those that are not vgpud are this
//!   program, started again: [`peers`].
//! - [`cpus`], [`proc`]: which CPUs a process may use, and what it has used.
//! - [`stats`], [`report`]: medians, intervals, the table and `target/bench/summary.json`.

mod cpus;
mod dma_maps;
mod first_picture;
mod gpu;
mod gpu_driver;
mod host;
mod idle;
mod instances;
mod kept;
mod peers;
mod proc;
mod raw_client;
mod ready;
mod redraw;
mod replaced;
mod report;
mod round_trips;
mod servers;
mod shares;
mod slices;
mod spinner;
mod stats;
mod viewer;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use e2e::Programs;

use cpus::Cpus;
use peers::Peer;
use report::Report;

/// Measures vgpud against its floor and its peers.
#[derive(Parser)]
struct Arguments {
    /// What to measure; everything if nothing is named
    parts: Vec<Part>,
    /// Fewer and shorter samples: shows that the bench works, not how fast vgpud is
    #[arg(long)]
    quick: bool,
    /// `cargo bench` says it
    #[arg(long, hide = true)]
    bench: bool,
    /// Be a peer, on standard input
    #[arg(long, hide = true)]
    peer: Option<Peer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    RoundTrips,
    DmaMaps,
    Kept,
    Gpu,
    Idle,
    Instances,
    Viewer,
    Shares,
    Redraw,
    Host,
    Slices,
    FirstPicture,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.peer {
        Some(peer) => peer.serve(),
        None => measure(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let programs = Programs::from_env()?;
    let cpus = Cpus::choose()?;
    let mut report = Report::new(&cpus, arguments.quick)?;
    let wants = |part| arguments.parts.is_empty() || arguments.parts.contains(&part);
    if wants(Part::RoundTrips) {
        round_trips::measure(&programs, &cpus, arguments.quick, &mut report)?;
    }
    if wants(Part::DmaMaps) {
        dma_maps::measure(&programs, &cpus, arguments.quick, &mut report)?;
    }
    if wants(Part::Kept) {
        kept::measure(&programs, &cpus, arguments.quick, &mut report)?;
        replaced::measure(&programs, arguments.quick, &mut report)?;
    }
    if wants(Part::Gpu) {
        gpu::measure(&programs, &cpus, arguments.quick, &mut report)?;
    }
    if wants(Part::Idle) {
        idle::measure(&programs, &cpus, &mut report)?;
    }
    if wants(Part::Instances) {
        ready::measure(&programs, arguments.quick, &mut report)?;
        instances::measure(&programs, arguments.quick, &mut report)?;
    }
    if wants(Part::Viewer) {
        viewer::measure(&programs, &cpus, arguments.quick, &mut report)?;
    }
    if wants(Part::Shares) {
        shares::measure(&programs, arguments.quick, &mut report)?;
    }
    if wants(Part::Redraw) {
        redraw::measure(&programs, arguments.quick, &mut report)?;
    }
    if wants(Part::Host) {
        host::measure(&programs, arguments.quick, &mut report)?;
    }
    if wants(Part::Slices) {
        slices::measure(&programs, arguments.quick, &mut report)?;
    }
    if wants(Part::FirstPicture) {
        first_picture::measure(&programs, arguments.quick, &mut report)?;
    }
    report.save()
}
