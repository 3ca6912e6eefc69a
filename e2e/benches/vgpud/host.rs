//! What a physical device costs through us, in a guest that has one behind an emulated IOMMU.
//!
//! - pins: pages of a guest's memory, pinned, mapped for the device and let go, against the kernel's
//!   own calls for as many.

use std::time::Duration;

use anyhow::Context;
use e2e::{Machine, Programs, Vm};

use crate::report::{Ratio, Report};

const EDU: &str = "1234:11e8";

/// Rounds, and with `--quick`.
const ROUNDS: usize = 21;
const QUICK_ROUNDS: usize = 3;

/// What is wanted of a pin, at most.
const TARGET: f64 = 1.2;

/// For each part.
const LIMIT: Duration = Duration::from_secs(300);

pub(crate) fn measure(programs: &Programs, quick: bool, report: &mut Report) -> anyhow::Result<()> {
    let rounds = if quick { QUICK_ROUNDS } else { ROUNDS };
    report.heading(
        "A physical device: pages pinned, mapped for it and let go, against the bare calls of VFIO",
        &format!("{rounds} rounds, in turns, in one process of a guest with an emulated IOMMU"),
    );
    let (mut vm, devices) = boot(programs)?;
    pins(&mut vm, &devices, rounds, report)
}

/// A guest with two devices of a kind that are its user space's, and where they are.
fn boot(programs: &Programs) -> anyhow::Result<(Vm, Vec<String>)> {
    let mut vm = Machine::new(programs)
        .module("vfio-pci")
        .module("vfio_iommu_type1")
        .guest_program("physical")
        .kernel_arg("intel_iommu=on no_timer_check")
        .device("intel-iommu,intremap=on,caching-mode=on")
        .device("edu,dma_mask=0xffffffff")
        .device("edu,dma_mask=0xffffffff")
        .boot()?;
    let devices = vm.guest.give_all(EDU)?;
    Ok((vm, devices))
}

fn pins(vm: &mut Vm, devices: &[String], rounds: usize, report: &mut Report) -> anyhow::Result<()> {
    let [ours, bare] = devices else {
        anyhow::bail!("not two devices: {devices:?}");
    };
    let command = format!("physical bench-pins {ours} {bare} {rounds}");
    let output = vm.guest.run_within(&command, LIMIT)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<Vec<f64>> = text
        .lines()
        .map(|line| line.split(' ').map(str::parse).collect())
        .collect::<Result<_, _>>()
        .with_context(|| format!("{text}{}", String::from_utf8_lossy(&output.stderr)))?;
    for (bytes, words) in [(4096.0, "4 KiB"), (2_097_152.0, "2 MiB")] {
        let column = |number: usize| -> Vec<f64> {
            let lines = lines.iter().filter(|line| line.first() == Some(&bytes));
            lines.filter_map(|line| line.get(number).copied()).collect()
        };
        let (ours, floor) = (column(1), column(2));
        anyhow::ensure!(ours.len() == rounds && floor.len() == rounds, "{text}");
        report.ratio(&Ratio {
            name: format!("host/pin/{bytes}"),
            what: format!("{words} pinned and let go"),
            ours: &ours,
            floor: &floor,
            target: Some(TARGET),
        });
    }
    Ok(())
}
