//! What many vGPUs cost at once, and how fast they come and go.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use e2e::daemon::Instance;
use e2e::{Daemon, Programs};
use serde_json::json;

use crate::proc::CpuUse;
use crate::raw_client::RawClient;
use crate::report::Report;

/// vGPUs at once, each with a connected client.
const MANY: usize = 256;
const QUICK: usize = 16;

/// What each is: the bench's client knows its registers.
const TYPE: &str = "bochs-4m";

/// Who asks the daemon at a time.
const ASKERS: usize = 4;

/// What is wanted of each: mebibytes of proportional memory at most.
const MEMORY_MIB: f64 = 3.0;
/// And of all: creations a second at least.
const RATE: f64 = 50.0;

/// After the last client: longer than any of its windows.
const SETTLING: Duration = Duration::from_millis(500);
const SILENCE: Duration = Duration::from_secs(2);

pub(crate) fn measure(programs: &Programs, quick: bool, report: &mut Report) -> anyhow::Result<()> {
    let count = if quick { QUICK } else { MANY };
    report.heading(
        "Many vGPUs",
        &format!(
            "{count} of {TYPE}, by `vgpu start` from {ASKERS} at a time, each with a connected \
             client; wanted: {MEMORY_MIB} MiB each, no CPU in {SILENCE:?}, {RATE} created a second"
        ),
    );
    let mut daemon = Daemon::run(programs)?;
    let begin = Instant::now();
    let instances = create(&daemon, count)?;
    let rate = count as f64 / begin.elapsed().as_secs_f64();
    let clients = instances
        .iter()
        .map(|instance| RawClient::connect(&instance.socket))
        .collect::<anyhow::Result<Vec<_>>>()?;
    thread::sleep(SETTLING);
    let memory = instances
        .iter()
        .map(|instance| proportional_mib(instance.pid))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let most = memory.iter().copied().fold(0.0, f64::max);
    let mean = memory.iter().sum::<f64>() / count as f64;
    let own = proportional_mib(daemon.process().pid())?;
    let ticks = silence(&instances)?;
    let begin = Instant::now();
    drop(clients);
    remove(&daemon, &instances)?;
    let removed = count as f64 / begin.elapsed().as_secs_f64();
    let fits = report.judge(Some(most <= MEMORY_MIB));
    report.line(&format!(
        "proportional memory: {mean:.2} MiB each, {most:.2} at most: {fits}; the daemon {own:.1}"
    ));
    let quiet = report.judge(Some(ticks == 0));
    report.line(&format!(
        "CPU of all while nothing is asked: {ticks} ticks: {quiet}"
    ));
    let fast = report.judge(Some(rate >= RATE));
    report.line(&format!(
        "created {rate:.0} a second, ready and answering: {fast}; removed {removed:.0} a second"
    ));
    report.add(
        "instances",
        json!({
            "count": count,
            "memory_mib": { "mean": mean, "most": most, "daemon": own },
            "idle_ticks": ticks,
            "created_per_second": rate,
            "removed_per_second": removed,
            "verdicts": [fits, quiet, fast],
        }),
    );
    Ok(())
}

/// Has so many created, from several askers at a time.
fn create(daemon: &Daemon, count: usize) -> anyhow::Result<Vec<Instance>> {
    thread::scope(|scope| {
        let askers: Vec<_> = (0..ASKERS)
            .map(|asker| {
                let own = (asker..count).step_by(ASKERS);
                scope.spawn(move || {
                    own.map(|_| daemon.start(TYPE, &[]))
                        .collect::<Result<Vec<_>, _>>()
                })
            })
            .collect();
        let mut instances = Vec::new();
        for asker in askers {
            instances.extend(asker.join().ok().context("an asker panicked")??);
        }
        Ok(instances)
    })
}

fn remove(daemon: &Daemon, instances: &[Instance]) -> anyhow::Result<()> {
    thread::scope(|scope| {
        let askers: Vec<_> = instances
            .chunks(instances.len().div_ceil(ASKERS))
            .map(|own| {
                scope.spawn(move || {
                    own.iter()
                        .try_for_each(|it| daemon.vgpu("stop", &["--force", &it.uuid]).map(drop))
                })
            })
            .collect();
        for asker in askers {
            asker.join().ok().context("an asker panicked")??;
        }
        Ok(())
    })
}

/// Hundredths of a second that all workers use while nobody asks anything.
fn silence(instances: &[Instance]) -> anyhow::Result<u64> {
    let ticks = || {
        instances
            .iter()
            .map(|instance| Ok(CpuUse::of(instance.pid)?.ticks))
            .sum::<anyhow::Result<u64>>()
    };
    let before = ticks()?;
    thread::sleep(SILENCE);
    Ok(ticks()? - before)
}

/// Memory of a process, what it shares divided by who shares it.
fn proportional_mib(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .context("no Pss")?;
    Ok(kib.trim().parse::<f64>()? / 1024.0)
}
