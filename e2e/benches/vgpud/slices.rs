//! Frames into a slice of a physical display's memory, in each way that a client has to it, against
//! writing that memory with nothing in between.
//!
//! The display is physical to a guest, which is emulated: so these are ratios of one piece of emulated
//! work to another. A real card's memory is slower than this one, and a message as fast as on this machine.

use std::time::Duration;

use anyhow::Context;
use e2e::{Machine, Programs};

use crate::report::{Ratio, Report};

const BOCHS: &str = "1234:1111";

/// Times that all is measured, and for how long each: and with `--quick`.
const ROUNDS: usize = 11;
const QUICK_ROUNDS: usize = 3;
const MILLISECONDS: u32 = 400;
const QUICK_MILLISECONDS: u32 = 100;

/// For one round.
const LIMIT: Duration = Duration::from_secs(120);

/// What the program in the guest calls each way, in words, and the most that is wanted.
const WAYS: [(&str, &str, Option<f64>); 6] = [
    ("direct-off", "direct, not shown", Some(1.1)),
    ("direct-on", "direct, shown", Some(1.1)),
    ("shadow-off", "shadow, not shown", None),
    ("shadow-on", "shadow, shown", None),
    ("trap-off", "trap, not shown", None),
    ("trap-on", "trap, shown", None),
];

pub(crate) fn measure(programs: &Programs, quick: bool, report: &mut Report) -> anyhow::Result<()> {
    let (rounds, milliseconds) = match quick {
        true => (QUICK_ROUNDS, QUICK_MILLISECONDS),
        false => (ROUNDS, MILLISECONDS),
    };
    report.heading(
        "Frames of 800x600 into a slice, against the bare memory of the card",
        &format!(
            "{rounds} rounds in one guest, under emulation; {milliseconds} ms for each way; by lines"
        ),
    );
    let mut vm = Machine::new(programs)
        .module("vfio-pci")
        .module("vfio_iommu_type1")
        .guest_program("slices")
        .kernel_arg("intel_iommu=on no_timer_check")
        .device("intel-iommu,intremap=on,caching-mode=on")
        .device("bochs-display")
        .cpus(2)
        .boot()?;
    let function = vm.guest.give(BOCHS)?;
    let mut said = Vec::new();
    for _ in 0..rounds {
        let command = format!("slices bench {function} {milliseconds}");
        let output = vm.guest.run_within(&command, LIMIT)?;
        anyhow::ensure!(
            output.status == 0,
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        said.push(String::from_utf8(output.stdout)?);
    }
    let of = |way: &str| -> anyhow::Result<Vec<f64>> {
        let found = |text: &String| {
            let mut lines = text.lines().filter_map(|line| line.split_once(' '));
            let (_, ns) = lines.find(|(name, _)| *name == way)?;
            ns.parse().ok()
        };
        let found: Option<Vec<f64>> = said.iter().map(found).collect();
        found.with_context(|| format!("the guest does not tell of {way}"))
    };
    for (way, words, target) in WAYS {
        // To show what is drawn costs something as well: in this guest, QEMU's emulation.
        let bare = if way.ends_with("-on") {
            "bare-on"
        } else {
            "bare-off"
        };
        report.ratio(&Ratio {
            name: format!("slices/{way}"),
            what: words.to_owned(),
            ours: &of(way)?,
            floor: &of(bare)?,
            target,
        });
    }
    Ok(())
}
