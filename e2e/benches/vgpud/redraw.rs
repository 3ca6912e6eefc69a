//! Frames of a guest that draws its whole screen anew again and again: on our virtio GPU, and on
//! QEMU's own.

use anyhow::Context;
use e2e::{Machine, Programs, Vgpu, Vm};
use serde_json::json;

use crate::report::{Ratio, Report};

/// Pairs of guests, and with `--quick`.
const PAIRS: usize = 5;
const QUICK_PAIRS: usize = 1;

/// How long a guest draws.
const SECONDS: u64 = 10;
const QUICK_SECONDS: u64 = 2;

const TYPE: &str = "gpu-2d-hd";
const SIZE: &str = "1920x1080";
const ID: &str = "1af4:1050";

/// As fast at least.
const TARGET: f64 = 1.0;

pub(crate) fn measure(programs: &Programs, quick: bool, report: &mut Report) -> anyhow::Result<()> {
    let (pairs, seconds) = match quick {
        true => (QUICK_PAIRS, QUICK_SECONDS),
        false => (PAIRS, SECONDS),
    };
    report.heading(
        "A guest that draws its whole screen anew, against QEMU's own virtio-gpu-pci",
        &format!(
            "{pairs} pairs, in turns; nanoseconds of a frame of {SIZE}, over {seconds} s; drawn by \
             filling, and the next begun when the driver says that it is shown; nobody looks"
        ),
    );
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for pair in 0..pairs {
        // Each is first in every other pair.
        if pair % 2 == 0 {
            ours.push(on_vgpu(programs, seconds)?);
        }
        theirs.push(on_builtin(programs, seconds)?);
        if pair % 2 == 1 {
            ours.push(on_vgpu(programs, seconds)?);
        }
    }
    report.ratio(&Ratio {
        name: "redraw/vgpud".to_owned(),
        what: format!("vgpud {TYPE}"),
        ours: &ours,
        floor: &theirs,
        target: Some(TARGET),
    });
    Ok(())
}

fn on_vgpu(programs: &Programs, seconds: u64) -> anyhow::Result<f64> {
    let vgpu = Vgpu::run(programs, TYPE, &[])?;
    let machine = Machine::new(programs).vfio_user(&vgpu.socket(), &json!({}));
    redraw(machine, seconds)
}

fn on_builtin(programs: &Programs, seconds: u64) -> anyhow::Result<f64> {
    let machine = Machine::new(programs).device("virtio-gpu-pci,xres=1920,yres=1080,edid=on");
    redraw(machine, seconds)
}

/// Nanoseconds of a frame.
fn redraw(machine: Machine<'_>, seconds: u64) -> anyhow::Result<f64> {
    let machine = machine.module("virtio-pci").module("virtio-gpu");
    let mut vm: Vm = machine.boot()?;
    let function = vm.guest.pci_functions(ID)?.concat();
    let card = vm.guest.card_of(&function)?;
    let line = vm
        .guest
        .sh(&format!("guest redraw /dev/dri/{card} {SIZE} {seconds}"))?;
    let numbers = line.trim().split_once(' ').context("no two numbers")?;
    let (frames, took): (f64, f64) = (numbers.0.parse()?, numbers.1.parse()?);
    Ok(took / frames)
}
