//! The table that is printed, and `target/bench/summary.json`.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde_json::{Map, Value, json};

use crate::cpus::Cpus;
use crate::stats::{interval, median};

/// One figure against another, both taken several times, each time together.
pub(crate) struct Ratio<'a> {
    /// For machines: `one-cpu/read/…`.
    pub(crate) name: String,
    /// For people.
    pub(crate) what: String,
    /// What is measured, in nanoseconds.
    pub(crate) ours: &'a [f64],
    /// What it is measured against.
    pub(crate) floor: &'a [f64],
    /// The most that is wanted of the median.
    pub(crate) target: Option<f64>,
}

/// What was found so far.
pub(crate) struct Report {
    summary: Map<String, Value>,
    ratios: Vec<Value>,
    missed: usize,
}

impl Report {
    /// Says what machine this is.
    pub(crate) fn new(cpus: &Cpus, quick: bool) -> anyhow::Result<Self> {
        let read = |path| {
            let text = fs::read_to_string(path);
            text.map(|text| text.trim().to_owned())
        };
        let kernel = read("/proc/sys/kernel/osrelease")?;
        let load = read("/proc/loadavg")?;
        let count = std::thread::available_parallelism()?.get();
        let one_minute = load.split(' ').next().unwrap_or_default();
        println!("Linux {kernel}, {count} CPUs, load {one_minute}");
        println!("Each line: a ratio, its range, what was measured / against what, what is wanted");
        if quick {
            println!("--quick: shows that the bench works, not how fast vgpud is");
        }
        let machine = json!({
            "kernel": kernel,
            "cpus": count,
            "client_cpu": cpus.client,
            "other_cpu": cpus.other,
            "load_at_start": load,
            "quick": quick,
        });
        Ok(Self {
            summary: Map::from_iter([("machine".to_owned(), machine)]),
            ratios: Vec::new(),
            missed: 0,
        })
    }

    /// Begins a part of the table.
    pub(crate) fn heading(&self, title: &str, how: &str) {
        println!("\n{title}\n  {how}");
    }

    /// Adds a line that is no ratio.
    pub(crate) fn line(&self, line: &str) {
        println!("  {line}");
    }

    /// Adds a ratio. Returns how probable it is that the true one lies in the range in brackets.
    pub(crate) fn ratio(&mut self, ratio: &Ratio<'_>) -> f64 {
        let pairs = ratio.ours.iter().zip(ratio.floor);
        let values: Vec<f64> = pairs.map(|(ours, floor)| ours / floor).collect();
        let middle = median(&values);
        let span = interval(&values);
        let verdict = self.judge(ratio.target.map(|target| middle <= target));
        let target = ratio
            .target
            .map(|target| format!("≤ {target:.2} {verdict}"));
        println!(
            "  {:<44} {middle:5.2} ({:.2}–{:.2})  {:>9} / {:<9} {}",
            ratio.what,
            span.low,
            span.high,
            time(median(ratio.ours)),
            time(median(ratio.floor)),
            target.unwrap_or_default(),
        );
        self.ratios.push(json!({
            "name": ratio.name,
            "ratio": middle,
            "values": values,
            "low": span.low,
            "high": span.high,
            "coverage": span.coverage,
            "target": ratio.target,
            "verdict": ratio.target.map(|_| verdict),
            "ns": ratio.ours,
            "floor_ns": ratio.floor,
        }));
        span.coverage
    }

    /// Puts something into the summary under a name of its own.
    pub(crate) fn add(&mut self, name: &str, value: Value) {
        self.summary.insert(name.to_owned(), value);
    }

    /// The word for a target that was met, or not; none where there is no target.
    pub(crate) fn judge(&mut self, is_met: Option<bool>) -> &'static str {
        match is_met {
            Some(true) => "met",
            Some(false) => {
                self.missed += 1;
                "MISSED"
            }
            None => "",
        }
    }

    /// Writes the summary.
    pub(crate) fn save(mut self) -> anyhow::Result<()> {
        self.summary
            .insert("ratios".to_owned(), Value::Array(self.ratios));
        // Cargo's folder for such things is TARGET/tmp, wherever TARGET is.
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
        let path = dir.join("summary.json");
        // What `cargo bench -p mdev` measured, if it ran.
        for name in ["memory", "scheduler"] {
            if let Ok(text) = fs::read(dir.join(name).with_extension("json")) {
                let figures = serde_json::from_slice(&text)
                    .with_context(|| format!("{name}.json is not JSON"))?;
                self.summary.insert(name.to_owned(), figures);
            }
        }
        let text = serde_json::to_string_pretty(&Value::Object(self.summary))?;
        fs::create_dir_all(&dir)
            .and_then(|()| fs::write(&path, text + "\n"))
            .with_context(|| format!("cannot write {}", path.display()))?;
        let missed = self.missed;
        println!("\n{missed} targets missed; all figures: {}", path.display());
        Ok(())
    }
}

fn time(ns: f64) -> String {
    if ns < 1e6 {
        format!("{:.2} µs", ns / 1e3)
    } else if ns < 1e8 {
        format!("{:.2} ms", ns / 1e6)
    } else {
        format!("{:.3} s", ns / 1e9)
    }
}
