//! The plots of `docs/scheduling.md`, of runs that are made here.
//!
//! - `runs`: a daemon, two vGPUs on one engine, clients that keep them busy, and `vgpu trace` beside,
//! - `trace`: shares and waits over time, out of what that has written,
//! - `plot`: an SVG of them.
//!
//! `policies FOLDER` writes them there, and prints what each vGPU had on average.

mod plot;
mod runs;
#[path = "../../benches/vgpud/spinner.rs"]
#[expect(dead_code, reason = "the bench uses the rest")]
mod spinner;
mod trace;

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use e2e::Programs;

use plot::{Line, Plot};
use runs::{FIRST, SECOND};
use trace::Trace;

/// What a share is the mean of.
const BIN: f64 = 0.2;

fn main() -> anyhow::Result<()> {
    let folder = std::env::args().nth(1).context("which folder?")?;
    let folder = PathBuf::from(folder);
    fs::create_dir_all(&folder)?;
    let programs = Programs::from_env()?;
    let plots = [
        ("policies.svg", policies(&runs::policies(&programs)?)),
        ("cap.svg", cap(&runs::cap(&programs)?)),
        ("light.svg", light(&runs::light(&programs)?)),
    ];
    for (name, plot) in plots {
        fs::write(folder.join(name), plot.svg())?;
    }
    Ok(())
}

/// Shares of both over time.
fn shares(trace: &Trace, names: [&str; 2]) -> Vec<Line> {
    let vgpus = [FIRST, SECOND];
    let lines = vgpus.into_iter().zip(names).map(|(place, name)| Line {
        name: name.to_owned(),
        points: trace.shares(place, BIN),
        is_dots: false,
    });
    lines.collect()
}

fn policies(trace: &Trace) -> Plot {
    let marks = trace.policies();
    for (place, (from, policy)) in marks.iter().enumerate() {
        let until = marks.get(place + 1).map_or(trace.end(), |next| next.0);
        // Without the moment of the change.
        let mean = |vgpu| trace.mean(vgpu, from + BIN, until - BIN) * 100.0;
        println!("{policy}: {:.1} % and {:.1} %", mean(FIRST), mean(SECOND));
    }
    Plot {
        title: "weights 300 and 100, reservations 45 % and 15 %, both always busy".to_owned(),
        unit: "% of the engine".to_owned(),
        most: 100.0,
        seconds: trace.end(),
        lines: shares(trace, ["first", "second"]),
        marks,
        levels: Vec::new(),
    }
}

fn cap(trace: &Trace) -> Plot {
    let end = trace.end();
    for (what, from, until) in [
        ("alone", 0.0, end / 3.0),
        ("beside another", end / 3.0, end * 2.0 / 3.0),
        ("alone again", end * 2.0 / 3.0, end),
    ] {
        let mean = |vgpu| trace.mean(vgpu, from + BIN, until - BIN) * 100.0;
        println!("{what}: {:.1} % and {:.1} %", mean(FIRST), mean(SECOND));
    }
    Plot {
        title: "a cap of 30 %; the other is busy for a third of the time".to_owned(),
        unit: "% of the engine".to_owned(),
        most: 100.0,
        seconds: end,
        lines: shares(trace, ["capped", "other"]),
        marks: Vec::new(),
        levels: vec![(30.0, "cap".to_owned())],
    }
}

fn light(trace: &Trace) -> Plot {
    let end = trace.end();
    let waits = trace.waits(FIRST);
    for (what, from, until) in [("alone", 0.0, end / 2.0), ("beside a hog", end / 2.0, end)] {
        let its = waits.iter().filter(|(at, _)| (from..until).contains(at));
        let mut its: Vec<_> = its.map(|(_, wait)| *wait).collect();
        its.sort_by(f64::total_cmp);
        let part = |part: usize| its.get(its.len() * part / 100).copied().unwrap_or(0.0);
        let count = its.len();
        println!(
            "{what}: {count} waits, half within {:.2} ms, 99 of 100 within {:.2} ms",
            part(50),
            part(99)
        );
    }
    let longest = waits.iter().map(|(_, wait)| *wait).fold(4.0, f64::max);
    Plot {
        title: "how long jobs of 0.1 ms wait; a hog begins halfway, with jobs of 2 ms".to_owned(),
        unit: "ms".to_owned(),
        most: longest.ceil(),
        seconds: end,
        lines: vec![Line {
            name: "a turn of the light one".to_owned(),
            points: waits,
            is_dots: true,
        }],
        marks: Vec::new(),
        levels: vec![(2.0, "one job of the hog".to_owned())],
    }
}
