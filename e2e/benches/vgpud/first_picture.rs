//! From the start of QEMU to the first picture: a vGPU against QEMU's own `bochs-display`.
//!
//! The picture is there when the guest says so, since that is the same for both: its driver is
//! loaded, a line was printed on its text console, and the console's font can be read, which
//! is only possible once the console has moved to the display. Then, and not in the time, each
//! device's own screenshot must show the line.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use e2e::screen::Font;
use e2e::{Machine, Programs, Screen, Vgpu, Vm};
use serde_json::json;

use crate::report::{Ratio, Report};

/// Pairs of boots, and with `--quick`.
const PAIRS: usize = 11;
const QUICK_PAIRS: usize = 3;

/// Slower by a twentieth at most.
const TARGET: f64 = 1.05;

const LINE: &str = "the first picture";

/// What `bochs-display` is like unless told otherwise.
const TYPE: &str = "bochs-16m";
const MODE: &str = "mode=1280x800";

/// How long the line may take from the guest's memory to the screen.
const DRAWING: Duration = Duration::from_secs(30);

pub(crate) fn measure(programs: &Programs, quick: bool, report: &mut Report) -> anyhow::Result<()> {
    let pairs = if quick { QUICK_PAIRS } else { PAIRS };
    report.heading(
        "First picture, against QEMU's own bochs-display",
        &format!(
            "{pairs} pairs, in turns; from starting QEMU until the guest has printed a line on \
             its console, and the console is on the display"
        ),
    );
    // Makes the initramfs, and brings everything into memory.
    boot_builtin(programs)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for pair in 0..pairs {
        // Each is first in every other pair.
        if pair % 2 == 0 {
            ours.push(boot_vgpu(programs)?);
        }
        theirs.push(boot_builtin(programs)?);
        if pair % 2 == 1 {
            ours.push(boot_vgpu(programs)?);
        }
    }
    let coverage = report.ratio(&Ratio {
        name: "first-picture/vgpud".to_owned(),
        what: format!("vgpud {TYPE}"),
        ours: &ours,
        floor: &theirs,
        target: Some(TARGET),
    });
    let percent = 100.0 * coverage;
    report.line(&format!(
        "the median ratio is in that range at {percent:.1} %"
    ));
    Ok(())
}

/// Boots on a vGPU; returns nanoseconds.
fn boot_vgpu(programs: &Programs) -> anyhow::Result<f64> {
    let vgpu = Vgpu::run(programs, TYPE, &["-o", MODE])?;
    let machine = Machine::new(programs).vfio_user(&vgpu.socket(), &json!({}));
    let (mut vm, took) = boot(machine)?;
    check(&mut vm, |_| vgpu.screenshot())?;
    Ok(took)
}

/// Boots on `bochs-display`.
fn boot_builtin(programs: &Programs) -> anyhow::Result<f64> {
    let machine = Machine::new(programs).device("bochs-display");
    let (mut vm, took) = boot(machine)?;
    check(&mut vm, Vm::screenshot)?;
    Ok(took)
}

fn boot(machine: Machine<'_>) -> anyhow::Result<(Vm, f64)> {
    let machine = machine.module("bochs");
    let begin = Instant::now();
    let mut vm = machine.start()?;
    vm.wait_boot()?;
    vm.guest.sh(&format!(
        "grep -q bochs /proc/fb && guest say '{LINE}' &&
         until guest font >/dev/null 2>&1; do :; done"
    ))?;
    Ok((vm, begin.elapsed().as_nanos() as f64))
}

/// Fails unless the device shows what the guest has printed.
fn check(vm: &mut Vm, screenshot: impl Fn(&mut Vm) -> e2e::Result<Screen>) -> anyhow::Result<()> {
    let font: Font = vm.guest.font()?;
    let begin = Instant::now();
    while !screenshot(vm)?.shows(&font, LINE) {
        ensure!(
            begin.elapsed() < DRAWING,
            "the screen does not show '{LINE}'"
        );
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
